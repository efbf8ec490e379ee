"""Numbers that describe one router's decisions. Arrays in, numbers out; docs/metrics.md holds the formulas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Differences of utility or accuracy below this are rounding.
_NOTHING = 1e-12


def task_means(value_Q: NDArray[np.float64], task_Q: NDArray[Any]) -> NDArray[np.float64]:
    """Mean of each task, tasks in sorted order. `[..., Q]` to `[..., T]`; NaN where a value of the task is unknown.

    Tasks may be names, or numbers in the order of the names, which is faster.
    """
    task_index_Q = np.unique(task_Q, return_inverse=True)[1]
    order_Q = np.argsort(task_index_Q, kind="stable")
    count_T = np.bincount(task_index_Q)
    starts_T = np.cumsum(count_T) - count_T
    return np.asarray(np.add.reduceat(value_Q[..., order_Q], starts_T, axis=-1) / count_T)


def macro_mean(value_Q: NDArray[np.float64], task_Q: NDArray[Any]) -> Any:
    """Each task's mean first, then the mean of the tasks. `[Q]` to a number, `[S, Q]` to `[S]`."""
    return task_means(value_Q, task_Q).mean(axis=-1)


def micro_mean(value_Q: NDArray[np.float64]) -> Any:
    """The plain mean over queries, whatever their task. `[Q]` to a number, `[S, Q]` to `[S]`."""
    return np.mean(value_Q, axis=-1)


def gap_closed(router: float, best_single: float, oracle: float) -> float | None:
    """Share of the way from the best single arm to the oracle, in utility. None where the two are equal.

    1 is the oracle, 0 the best single arm; a router worse than that is negative.
    """
    if not oracle - best_single > _NOTHING:
        return None
    return (router - best_single) / (oracle - best_single)


def top_arm_share(arm_Q: Sequence[Any] | NDArray[Any]) -> float:
    """Share of the queries that go to the arm chosen most often: 1 for a router that always chooses the same."""
    return float(_shares(arm_Q).max())


def routing_entropy(arm_Q: Sequence[Any] | NDArray[Any]) -> float:
    """Entropy of the chosen arms over the queries, in nats: 0 for a router that always chooses the same."""
    share_A = _shares(arm_Q)
    return float(max(0.0, -(share_A * np.log(share_A)).sum()))


def _shares(arm_Q: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64]:
    # Counted, not sorted: names of arms take long to sort.
    count = Counter(np.asarray(arm_Q).tolist())
    return np.array([count[arm] for arm in sorted(count)]) / len(arm_Q)


def savings(
    accuracy: float, cost: float, target: float, target_cost: float, others: Sequence[tuple[float, float]] = ()
) -> float | None:
    """Share of the most accurate single arm's cost that the router saves at that arm's accuracy: `1 - c* / c_best`.

    `accuracy` and `cost` are the router's (its own bill included), `target` and `target_cost` those of the single arm
    that was most accurate on train, `others` the (accuracy, cost) of further single arms. `c*` is the least expected
    cost at which the router, alone or mixed at random with one other single arm, has exactly the target's accuracy
    (alone: at least that). A mixture gives the router a weight above 0, so the target arm itself never counts as one.
    None where no mixture gets there or a cost is unknown; negative for a router that is dearer than the arm.
    """
    if not target_cost > 0:
        return None
    costs = [cost] if accuracy >= target - _NOTHING else []
    for other_accuracy, other_cost in others:
        above, below = max(accuracy, other_accuracy), min(accuracy, other_accuracy)
        if below < target - _NOTHING and above >= target and abs(other_accuracy - target) > _NOTHING:
            weight = (target - other_accuracy) / (accuracy - other_accuracy)
            costs.append(weight * cost + (1 - weight) * other_cost)
    known = [value for value in costs if not np.isnan(value)]
    return 1 - min(known) / target_cost if known else None
