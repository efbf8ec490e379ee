"""What a policy would be worth, from a log that holds the outcome of one arm a query, chosen with a known probability.

Every estimate is the macro mean of row values (`row_values`), with the t interval that a router's own utility has
(`value`): the rows are a sample within their tasks, the tasks are fixed. Four estimators, by what the values are made
of. With w = policy / propensity of the logged arm, r the reward, q its prediction, d the policy's predicted reward, and
means over the rows of a task:

- IPS (Horvitz, Thompson, JASA 1952): `w r`. Without bias where propensities are right and positive for every arm that
  the policy chooses; not invariant to a shift of the rewards.
- SNIPS, self-normalised (Hajek 1971; Swaminathan, Joachims, NIPS 2015): `sum(w r) / sum(w)`. Its bias falls as 1 / n.
- DR, doubly robust (Dudik, Langford, Li, ICML 2011, arXiv 1103.4601): `d + w (r - q)`. Without bias like IPS, whatever
  the predictions, of smaller variance where they are good. They must not be fitted on the rewards of these very rows.
- Self-normalised DR: `mean(d) + sum(w (r - q)) / sum(w)`.

A ratio m = sum(w x) / sum(w) enters as row values `m + w (x - m) / mean(w)`: their mean is the ratio and their variance
that of the delta method (linearisation). Since m is itself drawn towards the rows that weigh much, each deviation is
divided by 1 - w / sum(w), as in HC3 (MacKinnon, White 1985; a jackknife): else few matching rows look too certain. The
difference of two policies on one log is the difference of their row values: that pairs them by row.

An interval cannot say that the log lacks what it would need. `overlap` measures that, `refusal` judges it: see there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.errors import OutcomesError
from recal_bench.evaluation.metrics import task_means
from recal_bench.evaluation.statistics import Interval, crossed_interval

LEAST_ESS, LEAST_TASK_ESS = 30.0, 5.0
"""Effective rows, of the macro mean and of each task, below which no estimate is given (all rows, where these are
fewer)."""
LEAST_ESS_SHARE = 0.01
"""Effective rows as a share of all: below, a few rows with large weights decide."""
MOST_UNLOGGED = 0.001
"""Share of the policy's choices that may go to arms without a row: the bias that this allows is as small a share of the
rewards' range."""
MOST_ERRORS_OFF = 4.0
"""Standard errors by which the mean weight may differ from 1."""

_ROUNDING = 1e-6

FloatN = NDArray[np.float64]
IntN = NDArray[np.int64]


class Log(NamedTuple):
    """One row a query: the logged arm's reward, the probability with which it was chosen, its index, the task."""

    reward_N: FloatN
    propensity_N: FloatN
    logged_arm_N: IntN
    task_N: NDArray[Any]


def row_values(
    log: Log, policy: NDArray[Any], predicted_NA: FloatN | None = None, self_normalised: bool = False
) -> FloatN:
    """The rows' values `[N]`, whose macro mean is the estimate: of IPS, or of DR where there are predictions.

    `policy` is the arm that it chooses for each row, `[N]` integers, or the probability of each arm, `[N, A]`.
    `predicted_NA` are the rewards that a model expects, in the unit of the rewards. Self-normalised, the values of a
    task with weight on no row, or on one of several, are NaN: it has no ratio, or no spread to see. Raises
    RecalBenchError on arrays that do not fit together and on values that cannot be (a propensity of 0, an unknown
    reward).
    """
    weight_N = weights(log, policy)
    if predicted_NA is None:
        direct_N, residual_N = np.zeros(len(weight_N)), log.reward_N
    else:
        rows = np.arange(len(weight_N))
        _require(
            predicted_NA.ndim == 2 and len(predicted_NA) == len(rows) and bool(np.isfinite(predicted_NA).all()),
            f"predictions of shape {predicted_NA.shape} must be finite, one for each of {len(rows)} rows and every arm",
        )
        n_arms = predicted_NA.shape[1]
        _require(
            max(int(log.logged_arm_N.max()), _last_arm(policy)) < n_arms
            and (policy.ndim == 1 or policy.shape[1] == n_arms),
            f"there are predictions for {n_arms} arms, and the log and the policy name others",
        )
        direct_N = predicted_NA[rows, policy] if policy.ndim == 1 else (policy * predicted_NA).sum(axis=1)
        residual_N = log.reward_N - predicted_NA[rows, log.logged_arm_N]
    if not self_normalised:
        return np.asarray(direct_N + weight_N * residual_N)
    task_index_N = np.unique(log.task_N, return_inverse=True)[1]
    count_N = np.bincount(task_index_N)[task_index_N]
    mean_weight_T = task_means(weight_N, log.task_N)
    mean_weight_N = np.where(mean_weight_T > 0, mean_weight_T, np.nan)[task_index_N]
    ratio_N = task_means(weight_N * residual_N, log.task_N)[task_index_N] / mean_weight_N
    spare_N = 1 - weight_N / mean_weight_N / count_N
    spare_N = np.where(count_N == 1, 1.0, np.where(spare_N > _ROUNDING, spare_N, np.nan))
    leverage_N = spare_N * count_N / np.maximum(count_N - 1, 1)
    deviation_N = weight_N / mean_weight_N * (residual_N - ratio_N) / leverage_N
    deviation_N -= task_means(deviation_N, log.task_N)[task_index_N]
    return np.asarray(direct_N + ratio_N + deviation_N)


def value(value_N: FloatN, task_N: NDArray[Any]) -> Interval:
    """The macro mean of row values (or of the differences of two policies' row values) with its 95% t interval."""
    return crossed_interval([value_N[None]], task_N)


def weights(log: Log, policy: NDArray[Any]) -> FloatN:
    """The importance weight of every row: the policy's probability of the logged arm over its propensity. `[N]`."""
    n_rows, lengths = len(log.reward_N), [len(each) for each in (*log, policy)]
    _require(n_rows > 0, "the log has no rows: there is nothing to estimate from")
    _require(set(lengths) == {n_rows}, f"the log's columns and the policy need an entry a row, and have {lengths}")
    _require(bool(np.isfinite(log.reward_N).all()), "the log holds rewards that are not known: leave those rows out")
    _require(
        bool(((log.propensity_N > 0) & (log.propensity_N <= 1)).all()),
        "propensities must be above 0 and at most 1: each is the probability with which the logged arm was chosen",
    )
    arms = [log.logged_arm_N, *([policy] if policy.ndim == 1 else [])]
    named = all(np.issubdtype(arm_N.dtype, np.integer) and bool((arm_N >= 0).all()) for arm_N in arms)
    _require(named, "the log, and a policy with one entry a row, name arms by their index: whole numbers from 0 on")
    if policy.ndim == 1:
        return np.where(policy == log.logged_arm_N, 1.0 / log.propensity_N, 0.0)
    sums_to_one = bool((policy >= 0).all() and (np.abs(policy.sum(axis=1) - 1) < _ROUNDING).all())
    _require(sums_to_one, "a policy's probabilities must be at least 0 and sum up to 1 in every row")
    _require(int(log.logged_arm_N.max()) < policy.shape[1], "the log holds arms that the policy has no probability for")
    return np.asarray(policy[np.arange(n_rows), log.logged_arm_N] / log.propensity_N)


class Overlap(NamedTuple):
    """How much of a log speaks of a policy.

    `rows_T` counts the rows of each of the sorted `tasks`, `matched` is the share of rows with a weight above 0.
    `ess_T` is Kish's effective sample size of each task, `sum(w)^2 / sum(w^2)`: that many rows of equal weight would
    leave the same variance. `ess` is that of the macro mean, `T^2 / sum(1 / ess_T)`, and `all_rows` what it would be if
    all weights were equal.
    `mean_weight`, a macro mean, is 1 but for chance where the propensities are right and every arm that the policy
    chooses could be logged. `unlogged` is the share of its choices that go to arms without a row in the log.
    """

    tasks: tuple[str, ...]
    rows_T: IntN
    matched: float
    ess_T: FloatN
    ess: float
    all_rows: float
    mean_weight: Interval
    unlogged: float


def overlap(log: Log, policy: NDArray[Any]) -> Overlap:
    """How much of the log speaks of the policy (see `row_values`). Raises OutcomesError as `weights` does."""
    weight_N = weights(log, policy)
    tasks, task_index_N, rows_T = np.unique(log.task_N, return_inverse=True, return_counts=True)
    total_T = np.bincount(task_index_N, weight_N)
    known_T = total_T > 0
    squares_T = np.where(known_T, np.bincount(task_index_N, weight_N**2), 1.0)
    ess_T = total_T**2 / squares_T
    logged_A = np.bincount(log.logged_arm_N, minlength=_last_arm(policy) + 1) > 0
    unlogged_N = ~logged_A[policy] if policy.ndim == 1 else policy[:, ~logged_A].sum(axis=1)
    return Overlap(
        tasks=tuple(str(task) for task in tasks),
        rows_T=rows_T,
        matched=float((weight_N > 0).mean()),
        ess_T=ess_T,
        ess=float(len(tasks) ** 2 / (1 / ess_T).sum()) if known_T.all() else 0.0,
        all_rows=float(len(tasks) ** 2 / (1 / rows_T).sum()),
        mean_weight=value(weight_N, log.task_N),
        unlogged=float(unlogged_N.mean()),
    )


def refusal(found: Overlap) -> str | None:
    """Why no estimate should be given from so little overlap, in one line; None where there is enough.

    No rule of the literature says how much is enough: effective sample sizes diagnose, and fail where the large weights
    were never drawn (Owen, "Monte Carlo theory, methods and examples", chapter 9; Elvira, Martino, Robert 2022). The
    limits here, the usual 30 rows for a mean among them, are where t intervals cover about 90% or more in simulations
    (benchmarks/off_policy.py). Few rows are not a reason if all of them count: then nothing is lost by the weights. The
    mean weight has the known expectation 1 (Swaminathan, Joachims 2015). Where most logs of a kind are refused, those
    that are not have more matching rows than they should, and IPS is too high there; SNIPS and DR do not follow that.
    """
    least = int((found.ess_T - np.minimum(found.rows_T, LEAST_TASK_ESS)).argmin())
    enough = max(min(LEAST_ESS, found.all_rows), LEAST_ESS_SHARE * found.all_rows)
    mean, error = found.mean_weight.estimate, found.mean_weight.error
    if found.unlogged > MOST_UNLOGGED:
        return (
            f"{found.unlogged:.1%} of the policy's choices go to arms that the log never holds: log every arm that a "
            "router may choose"
        )
    if len(found.tasks) > 1 and found.ess_T[least] < min(found.rows_T[least], LEAST_TASK_ESS) - _ROUNDING:
        return (
            f"task {found.tasks[least]} has {found.ess_T[least]:.1f} effective rows for this policy, "
            f"and {LEAST_TASK_ESS:g} are needed: log more queries of it, or leave it out"
        )
    if found.ess < enough - _ROUNDING:
        return (
            f"{found.ess:.1f} effective rows of {found.rows_T.sum():,} speak of this policy, and {enough:.1f} are "
            "needed: log more queries, or more evenly over the arms"
        )
    # Logs that lack the large weights show a small mean and a small spread: the variance is taken as of a mean of 1.
    if abs(mean - 1) * np.sqrt(min(mean, 1.0)) > MOST_ERRORS_OFF * error + _ROUNDING:
        return (
            f"the weights are {mean:.3f} on average (standard error {error:.3f}), and not 1: the propensities are "
            "wrong, or the policy chooses arms where they could not be logged"
        )
    return None


def _last_arm(policy: NDArray[Any]) -> int:
    return int(policy.max()) if policy.ndim == 1 else policy.shape[1] - 1


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise OutcomesError(problem)
