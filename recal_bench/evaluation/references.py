"""Single arms and references: which arm is best overall, per task, per query. Arrays in, numbers out.

A reference is what no router can be: it knows the task, the outcome it is judged on (`oracle`), or the truth (`bayes`).
"""

from __future__ import annotations

import numpy as np

from recal_bench.arrays import BoolQA, FloatA, FloatQ, FloatQA, IntQ, StrQ
from recal_bench.errors import OutcomesError
from recal_bench.outcomes import Objective, mean_over_observed

# Two levels that differ by less are one level: what is left is rounding, which must not decide between arms.
_DECIMALS = 12


def arm_effects(value_QA: FloatQA, task_Q: StrQ, propensity_Q: FloatQ | None = None) -> FloatA:
    """What each arm would score on all queries: the mean of its task means, adjusted for missing outcomes.

    `value_QA` is NaN where an arm has no outcome. Complete data give the plain macro mean. With gaps, a two-way
    least-squares fit (query + arm) within each task says what every arm would have reached on all queries of the task,
    so arms asked on easier queries gain nothing by it; the same fit over the task x arm matrix fills tasks in which an
    arm is missing. Arms that no chain of shared queries connects cannot be compared: each such block is centred on
    its own mean and put at the task's level, as if the blocks' average arms were equally good.
    In a log of single choices no two arms share a query: there entries weigh 1 / propensity.
    NaN for an arm without any outcome. Source: least-squares ("adjusted") means of an unbalanced two-way layout.
    """
    levels = [_task_level(value_QA, task_Q == task, propensity_Q) for task in sorted(set(task_Q.tolist()))]
    return _adjusted_means(np.stack(levels))


def _task_level(value_QA: FloatQA, rows_Q: np.ndarray, propensity_Q: FloatQ | None) -> FloatA:
    if propensity_Q is None:
        return _adjusted_means(value_QA[rows_Q])
    return mean_over_observed(value_QA[rows_Q], propensity_Q[rows_Q])


def _adjusted_means(value_RA: FloatQA) -> FloatA:
    """Column levels of a two-way layout (row + column) with gaps."""
    known_RA = ~np.isnan(value_RA)
    if known_RA.all():
        return np.asarray(value_RA.mean(axis=0))
    result_A = np.full(value_RA.shape[1], np.nan)
    arms, rows = known_RA.any(axis=0), known_RA.any(axis=1)
    if not arms.any():
        return result_A
    known_RA = known_RA[np.ix_(rows, arms)].astype(np.float64)
    value_RA = np.where(known_RA > 0, value_RA[np.ix_(rows, arms)], 0.0)
    count_R = known_RA.sum(axis=1)
    row_mean_R = value_RA.sum(axis=1) / count_R
    # Rows eliminated, the normal equations are the Laplacian of the graph that joins arms sharing a row.
    share_RA = known_RA / count_R[:, None]
    laplacian_AA = np.diag(known_RA.sum(axis=0)) - known_RA.T @ share_RA
    right_A = value_RA.sum(axis=0) - known_RA.T @ row_mean_R
    # Joined by a chain of shared rows, twice as long with each product. (To import scipy's graphs takes long.)
    same_block_AA = known_RA.T @ known_RA > 0
    for _ in range(len(same_block_AA).bit_length()):
        same_block_AA = same_block_AA.astype(np.float64) @ same_block_AA > 0
    # A Laplacian is singular on each block's constants: adding their projection makes each block's effects sum to zero.
    effect_A = np.linalg.solve(laplacian_AA + same_block_AA / same_block_AA.sum(axis=1), right_A)
    row_effect_R = row_mean_R - share_RA @ effect_A
    result_A[arms] = row_effect_R.mean() + effect_A
    return result_A


def best_single(utility_QA: FloatQA, task_Q: StrQ, mean_cost_A: FloatA) -> int:
    """The arm of the highest adjusted macro utility; ties to the cheaper, then the lower index."""
    return int(_ranking([arm_effects(utility_QA, task_Q)], mean_cost_A)[0])


def task_best(
    train_utility_QA: FloatQA,
    train_task_Q: StrQ,
    test_task_Q: StrQ,
    available_QA: BoolQA,
    mean_cost_A: FloatA,
    propensity_Q: FloatQ | None = None,
) -> IntQ:
    """For each test query the arm that was best on its task in train, among those available; ties to the cheaper.

    A task that train lacks, and arms without an outcome in it, are ranked by their adjusted macro utility.
    """
    overall_A = arm_effects(train_utility_QA, train_task_Q, propensity_Q)
    _require_available(available_QA)
    arm_Q = np.zeros(len(test_task_Q), dtype=np.int64)
    for task in sorted(set(test_task_Q.tolist())):
        train_rows, test_rows = train_task_Q == task, test_task_Q == task
        levels = [overall_A]
        if train_rows.any():
            levels.insert(0, _task_level(train_utility_QA, train_rows, propensity_Q))
        order_A = _ranking(levels, mean_cost_A)
        arm_Q[test_rows] = order_A[np.argmax(available_QA[test_rows][:, order_A], axis=1)]
    return arm_Q


def oracle(utility_QA: FloatQA, cost_QA: FloatQA) -> IntQ:
    """The arm of the highest utility for each query, in hindsight; ties to the cheaper, then the lower index."""
    _require_available(~np.isnan(utility_QA))
    value_QA = np.where(np.isnan(utility_QA), -np.inf, utility_QA)
    tied_QA = value_QA == value_QA.max(axis=1, keepdims=True)
    # An unknown cost loses a tie against every known one, and still beats the arms that are not tied.
    cost_QA = np.nan_to_num(cost_QA, nan=np.finfo(np.float64).max)
    return np.asarray(np.argmin(np.where(tied_QA, cost_QA, np.inf), axis=1), dtype=np.int64)


def bayes(expected_score_QA: FloatQA, expected_cost_QA: FloatQA, objective: Objective, available_QA: BoolQA) -> IntQ:
    """The available arm of the highest expected utility given the text: the best that any router could choose."""
    expected_QA = objective.utility(expected_score_QA, expected_cost_QA)
    return oracle(np.where(available_QA, expected_QA, np.nan), expected_cost_QA)


def _ranking(levels: list[FloatA], cost_A: FloatA) -> IntQ:
    """Arms from best to worst by the first level, the next one where equal or unknown, then cost, then index."""
    keys = [np.nan_to_num(-np.round(level_A, _DECIMALS), nan=np.inf) for level_A in levels]
    if all(np.isinf(key_A).all() for key_A in keys):
        raise OutcomesError("no arm has any outcome on train: a best arm cannot be chosen; give outcomes with scores")
    cost_key_A = np.nan_to_num(cost_A, nan=np.inf)
    return np.asarray(np.lexsort([cost_key_A, *reversed(keys)]), dtype=np.int64)


def _require_available(available_QA: BoolQA) -> None:
    empty = int((~available_QA.any(axis=1)).sum())
    if empty:
        raise OutcomesError(f"{empty} queries have no outcome of any arm: leave them out of the outcomes")
