"""Can routing pay on these outcomes? What can be predicted of the differences between arms, before any training.

A query's contrasts are its arms' values less their mean. Their variance has three parts: what the task tells, what the
text tells within a task (see `pairs`), and the rest, most of which is luck. Q queries, T tasks, A arms, E the encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatQA, IntQ, StrQ
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.outcomes import Arm
from recal_bench.toolbox.ceilings import Estimate, estimate_ceilings
from recal_bench.toolbox.contrasts import contrasts
from recal_bench.toolbox.pairs import Float, regress_pairs
from recal_bench.toolbox.penalties import left_out_ridge

LEAST_QUERIES = 20
"""In tasks with fewer the share cannot be estimated."""
_TINY = 1e-12
_NORMAL_95 = 1.959964


@dataclass(frozen=True)
class TaskSignal:
    """A task: its queries, the variance of the contrasts (summed over arms), and the share of it that the text tells.

    `error` is the standard error of `share`, `p` the permutation test's that the text tells nothing.
    """

    task: str
    queries: int
    variance: float
    share: float
    error: float
    p: float


@dataclass(frozen=True)
class Signal:
    """What tells the arms apart, as shares of the variance of the contrasts, all tasks alike.

    `between`: what the task tells; None of one task. `within`: what a linear model of the text would tell beyond the
    task with endless data, `p`: the permutation test's that it is nothing; `achieved`: what a ridge regression on these
    queries tells of each that is left out. `luck`: the part of the rest that is known to be luck of the draw, from
    repeated draws; None without them. `over_single` and `over_task`: what the best router could gain over the best
    single arm and over the best arm of each task, in units of the values. An estimate, see `estimate_signal`.
    """

    tasks: tuple[TaskSignal, ...]
    between: float | None
    within: Estimate
    p: float
    achieved: float
    luck: float | None
    over_single: Estimate
    over_task: Estimate

    @property
    def queries(self) -> int:
        return sum(each.queries for each in self.tasks)


def estimate_signal(
    value_QA: FloatQA,
    task_Q: StrQ,
    embedding_QE: NDArray[np.floating],
    arms: Sequence[Arm],
    noise_QA: FloatQA | None = None,
    seed: int = 0,
) -> Signal:
    """The signal in the values of all arms, none of them unknown, of two arms or more.

    Every task has `LEAST_QUERIES` queries or more. Prompts should be distinct: two queries of the same text share more
    than a text tells of the next. Where a few directions of the text tell nearly all, the regression over pairs finds
    too little: what a left-out ridge achieves is the least that is told. `noise_QA` are the squared standard errors of
    the values from repeated draws, NaN where unknown. `seed` is for permutations and for the ceilings' draws.
    """
    names, number_Q = np.unique(task_Q.astype(str), return_inverse=True)
    contrast_QA = value_QA - value_QA.mean(axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(number_Q == number) for number in range(len(names))]
    parts = [regress_pairs(contrast_QA[rows], embedding_QE[rows].astype(np.float64), rng) for rows in groups]
    inner_T = np.array([part.variance for part in parts])
    told_T, error_T = np.array([np.trace(part.told_AA) for part in parts]), np.array([part.error for part in parts])
    permuted_TB = np.array([part.permuted_B for part in parts])

    mean_TA = np.array([contrast_QA[rows].mean(axis=0) for rows in groups])
    count_T = np.array([len(rows) for rows in groups])
    by_chance = (1 - 1 / len(names)) * (inner_T / count_T).mean()
    outer = max(float(((mean_TA - mean_TA.mean(axis=0)) ** 2).sum(axis=1).mean() - by_chance), 0.0)
    total = float(inner_T.mean()) + outer + _TINY

    achieved = _achieved(contrast_QA, embedding_QE, number_Q, arms)
    lift = max(achieved - max(float(told_T.mean()), 0.0), 0.0)
    share, error = (float(told_T.mean()) + lift) / total, float(np.sqrt((error_T**2).sum())) / len(names) / total
    over_single, over_task = estimate_ceilings(contrast_QA, groups, parts, lift / (inner_T.mean() + _TINY), arms, rng)
    size_T, p_T = inner_T + _TINY, _p(told_T, permuted_TB)
    columns = (names, count_T, inner_T, told_T / size_T, error_T / size_T, p_T)
    tasks = [TaskSignal(*each) for each in zip(*(column.tolist() for column in columns), strict=True)]
    return Signal(
        tasks=tuple(tasks),
        between=outer / total if len(names) > 1 else None,
        within=Estimate(share, share - _NORMAL_95 * error, share + _NORMAL_95 * error),
        p=float(_p(told_T.mean(keepdims=True), permuted_TB.mean(axis=0, keepdims=True))[0]),
        achieved=achieved / total,
        luck=None if (luck := _luck(noise_QA, groups)) is None else luck / total,
        over_single=over_single,
        over_task=over_task,
    )


def _p(found_T: Float, permuted_TB: Float) -> Float:
    """One-sided, with the data as one of the permutations."""
    return np.asarray((1 + (permuted_TB >= found_T[:, None] - _TINY).sum(axis=1)) / (1 + permuted_TB.shape[1]))


def _luck(noise_QA: FloatQA | None, groups: list[IntQ]) -> float | None:
    """The variance of the contrasts that repeated draws show to be luck; None where some task has too few of them."""
    if noise_QA is None:
        return None
    # The mean over arms is taken off: with independent draws a contrast has 1 - 1 / A of a value's noise.
    noise_Q = noise_QA.sum(axis=1) * (1 - 1 / noise_QA.shape[1])
    known = [noise_Q[rows][~np.isnan(noise_Q[rows])] for rows in groups]
    if min(map(len, known)) < LEAST_QUERIES:
        return None
    return float(np.mean([each.mean() for each in known]))


def _achieved(contrast_QA: FloatQA, embedding_QE: NDArray[np.floating], number_Q: IntQ, arms: Sequence[Arm]) -> float:
    """By how much left-out ridge predictions lower the contrasts' squared error within tasks, all tasks alike."""
    count_T = np.bincount(number_Q).astype(np.float64)
    member_QT = (number_Q[:, None] == np.arange(len(count_T))).astype(np.float64)

    def centred(value_QX: FloatQA) -> FloatQA:
        return np.asarray(value_QX - ((member_QT.T @ value_QX) / count_T[:, None])[number_Q])

    basis = contrasts(arms)
    target_QX = centred(contrast_QA) @ basis.basis_AC
    left_out_QX = left_out_ridge(centred(embedding_QE.astype(np.float64)), target_QX, basis.kind_C)[1]
    saved_Q = (target_QX**2 - (target_QX - left_out_QX) ** 2).sum(axis=1)
    return float(macro_mean(saved_Q, number_Q))
