"""What routers did on one split: the figures of all entries of a group, held against one baseline."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from recal_bench.arrays import FloatSQ, known
from recal_bench.evaluation import metrics
from recal_bench.evaluation.statistics import Interval, crossed_interval, holm, p_improvement
from recal_bench.reporting.entries import Entry, Group


class Difference(BaseModel):
    """A row's paired difference to the baseline, with its 95% interval. `p_adjusted` is null for references."""

    difference: float
    ci: tuple[float, float] | None
    p_adjusted: float | None
    p_improvement: float


class Figures(BaseModel):
    """What a router did on one split; docs/metrics.md defines every figure. Null where unknown."""

    n_queries: int
    accuracy_macro: float | None
    accuracy_micro: float | None
    cost_usd_per_1k: float | None
    router_cost_usd_per_1k: float | None
    savings: float | None
    utility: float | None
    utility_ci: tuple[float, float] | None
    vs_baseline: Difference | None
    accuracy_vs_baseline: Difference | None
    gap_closed: float | None
    regret: float | None
    top_arm_share: float
    routing_entropy: float
    seed_sd: float | None


def split_figures(group: Group, split: str, baseline: Entry) -> list[Figures]:
    """The figures of every entry on one split."""
    rows_Q = group.split_Q == split
    # Tasks as numbers: grouping by text would be most of the work.
    task_Q = np.unique(group.task_Q[rows_Q], return_inverse=True)[1]
    best_single, oracle = (_macro(group.find(name), "utility_SQ", rows_Q, task_Q) for name in ("best-single", "oracle"))
    target, *others = (
        _point(group.find(name), rows_Q, task_Q) for name in ("best-accuracy", "best-single", "cheapest")
    )
    singles = [point for point in others if point is not None]
    differences = [_differences(group, baseline, f"{measure}_SQ", rows_Q, task_Q) for measure in ("utility", "score")]
    figures = []
    for index, entry in enumerate(group.entries):
        score_SQ, utility_SQ = entry.score_SQ[:, rows_Q], entry.utility_SQ[:, rows_Q]
        accuracy, cost = _point(entry, rows_Q, task_Q) or (math.nan, math.nan)
        utility = crossed_interval([utility_SQ], task_Q)
        gap_known = not any(math.isnan(value) for value in (utility.estimate, best_single, oracle))
        seed_utility_S = metrics.macro_mean(utility_SQ, task_Q)
        arm_SQ = entry.arm_SQ[:, rows_Q]
        figures.append(
            Figures(
                n_queries=int(rows_Q.sum()),
                accuracy_macro=known(accuracy),
                accuracy_micro=known(float(metrics.micro_mean(score_SQ).mean())),
                cost_usd_per_1k=known(1000 * _macro(entry, "cost_SQ", rows_Q, task_Q)),
                router_cost_usd_per_1k=known(1000 * _macro(entry, "router_cost_SQ", rows_Q, task_Q)),
                savings=metrics.savings(accuracy, cost, *target, singles) if target else None,
                utility=known(utility.estimate),
                utility_ci=_ci(utility),
                vs_baseline=differences[0][index],
                accuracy_vs_baseline=differences[1][index],
                gap_closed=metrics.gap_closed(utility.estimate, best_single, oracle) if gap_known else None,
                regret=known(_macro(entry, "regret_SQ", rows_Q, task_Q)),
                top_arm_share=float(np.mean([metrics.top_arm_share(arm_Q) for arm_Q in arm_SQ])),
                routing_entropy=float(np.mean([metrics.routing_entropy(arm_Q) for arm_Q in arm_SQ])),
                seed_sd=known(float(seed_utility_S.std(ddof=1))) if len(seed_utility_S) > 1 else None,
            )
        )
    return figures


def _macro(entry: Entry | None, name: str, rows_Q: NDArray[np.bool_], task_Q: NDArray[Any]) -> float:
    """The mean over seeds of a column's macro mean; NaN where a value is unknown or there is no such entry."""
    return math.nan if entry is None else float(metrics.macro_mean(getattr(entry, name)[:, rows_Q], task_Q).mean())


def _point(entry: Entry | None, rows_Q: NDArray[np.bool_], task_Q: NDArray[Any]) -> tuple[float, float] | None:
    """Accuracy and cost in USD per query, the router's own included."""
    if entry is None:
        return None
    costs = (_macro(entry, name, rows_Q, task_Q) for name in ("cost_SQ", "router_cost_SQ"))
    return _macro(entry, "score_SQ", rows_Q, task_Q), sum(costs)


def _differences(
    group: Group, baseline: Entry, name: str, rows_Q: NDArray[np.bool_], task_Q: NDArray[Any]
) -> list[Difference | None]:
    """Every entry's paired difference to the baseline; Holm's family is the routers of the table."""
    of_baseline_SQ: FloatSQ = getattr(baseline, name)[:, rows_Q]
    found: list[tuple[Interval, float] | None] = []
    for entry in group.entries:
        value_SQ: FloatSQ = getattr(entry, name)[:, rows_Q]
        if entry is baseline or np.isnan(value_SQ).any() or np.isnan(of_baseline_SQ).any():
            found.append(None)
            continue
        # Routers trained with the same seeds may share their luck (start, batches): then seeds are paired too.
        paired = len(entry.seeds) > 1 and entry.seeds == baseline.seeds
        parts = [value_SQ - of_baseline_SQ] if paired else [value_SQ, -of_baseline_SQ]
        means = (metrics.task_means(each_SQ, task_Q) for each_SQ in (value_SQ, of_baseline_SQ))
        found.append((crossed_interval(parts, task_Q), p_improvement(*means)))
    family = [
        index
        for index, each in enumerate(found)
        if each is not None and not group.entries[index].record.reference and not math.isnan(each[0].p)
    ]
    adjusted = dict(zip(family, holm([found[index][0].p for index in family]), strict=True))  # type: ignore[index]
    return [
        None
        if each is None
        else Difference(
            difference=each[0].estimate, ci=_ci(each[0]), p_adjusted=adjusted.get(index), p_improvement=each[1]
        )
        for index, each in enumerate(found)
    ]


def _ci(interval: Interval) -> tuple[float, float] | None:
    return (interval.low, interval.high) if math.isfinite(interval.low) else None
