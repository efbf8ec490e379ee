"""Can routing pay on these outcomes? What can be predicted of the differences between arms, before any training.

A query's contrasts are its arms' values less their mean. Their variance has three parts: what the task tells, what the
text tells within a task, and the rest, most of which is luck. The second is found by Haseman and Elston's regression:
in each task, products of the contrasts of two queries are regressed on the similarity of their encodings. Luck is not
shared by two queries, so the slope is free of it, and says what a linear model of the encoding would explain if it were
fitted to endlessly many queries (assuming that it uses all directions of the encoding alike; so is heritability found
from pairs of relatives, Haseman and Elston 1972, and from genotypes, Yang et al. 2010).

T tasks, N queries of one task, A arms, E the encoding, B draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatQ, FloatQA, IntQ, StrQ
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.outcomes import Arm
from recal_bench.toolbox.contrasts import contrasts
from recal_bench.toolbox.hierarchy import kept_shares
from recal_bench.toolbox.penalties import left_out_ridge

LEAST_QUERIES = 20
"""In tasks with fewer the share cannot be estimated."""
PERMUTATIONS = 399
DRAWS = 400
"""From the distributions of the estimates, for the ceilings' intervals."""
TEXTS = 2048
"""Simulated texts a task and draw, half of them mirrored."""
_TINY = 1e-12
_NORMAL_95 = 1.959964
Float = NDArray[np.float64]


class Estimate(NamedTuple):
    """A number with its 95% interval."""

    value: float
    low: float
    high: float


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
    """The signal in the values of all arms, none of them unknown; at least two arms, and
    in every task `LEAST_QUERIES` queries or more.

    Prompts should be distinct: two queries of the same text share more than a text tells of the next.

    The ceilings take a text's predictable contrasts as normal, about its task's means, with the covariance that the
    regression finds. Means of arms are drawn towards that of all arms, means and shares of tasks towards those of all
    tasks, as far as they are noise (empirical Bayes). Medians and intervals are over draws from the distributions of
    both. `noise_QA` are the squared standard errors of the values from repeated draws, NaN where unknown. `seed` is for
    permutations and draws.
    """
    names, number_Q = np.unique(task_Q.astype(str), return_inverse=True)
    contrast_QA = value_QA - value_QA.mean(axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(number_Q == number) for number in range(len(names))]
    parts = [_regressed(contrast_QA[rows], embedding_QE[rows].astype(np.float64), rng) for rows in groups]
    inner_T = np.array([part.variance for part in parts])
    told_T, error_T = np.array([np.trace(part.told_AA) for part in parts]), np.array([part.error for part in parts])
    permuted_TB = np.array([part.permuted_B for part in parts])

    mean_TA = np.array([contrast_QA[rows].mean(axis=0) for rows in groups])
    count_T = np.array([len(rows) for rows in groups])
    by_chance = (1 - 1 / len(names)) * (inner_T / count_T).mean()
    outer = max(float(((mean_TA - mean_TA.mean(axis=0)) ** 2).sum(axis=1).mean() - by_chance), 0.0)
    total = float(inner_T.mean()) + outer + _TINY

    share, error = float(told_T.mean()) / total, float(np.sqrt((error_T**2).sum())) / len(names) / total
    over_single, over_task = _ceilings(contrast_QA, groups, parts, arms, rng)
    size_T, p_T = inner_T + _TINY, _p(told_T, permuted_TB)
    columns = (names, count_T, inner_T, told_T / size_T, error_T / size_T, p_T)
    tasks = [TaskSignal(*each) for each in zip(*(column.tolist() for column in columns), strict=True)]
    return Signal(
        tasks=tuple(tasks),
        between=outer / total if len(names) > 1 else None,
        within=Estimate(share, share - _NORMAL_95 * error, share + _NORMAL_95 * error),
        p=float(_p(told_T.mean(keepdims=True), permuted_TB.mean(axis=0, keepdims=True))[0]),
        achieved=_achieved(contrast_QA, embedding_QE, number_Q, arms) / total,
        luck=None if (luck := _luck(noise_QA, groups)) is None else luck / total,
        over_single=over_single,
        over_task=over_task,
    )


class _Regressed(NamedTuple):
    """One task: the contrasts' variance, the covariance of what the text tells, its trace's error and null draws."""

    variance: float
    covariance_AA: Float
    told_AA: Float
    error: float
    permuted_B: Float


def _regressed(contrast_NA: FloatQA, embedding_NE: Float, rng: np.random.Generator) -> _Regressed:
    """Haseman-Elston regression, with an intercept, over all pairs of a task's queries, by moments.

    The sum over pairs needs no pairs: it is that of all products less each query's with itself. Its mean over
    permutations of the texts is exactly the intercept's part, so that it is 0 on average where texts tell nothing.
    """
    n = len(contrast_NA)
    contrast_NA = contrast_NA - contrast_NA.mean(axis=0)
    embedding_NE = embedding_NE - embedding_NE.mean(axis=0)
    square_N, size_N = (embedding_NE**2).sum(axis=1), (contrast_NA**2).sum(axis=1)
    product_AA = contrast_NA.T @ contrast_NA
    gram_EE = embedding_NE.T @ embedding_NE
    pairs = n * (n - 1)
    spread = float((gram_EE**2).sum() - (square_N**2).sum() - square_N.sum() ** 2 / pairs)
    scale = square_N.mean() / spread if spread > _TINY else 0.0
    intercept = square_N.sum() / pairs

    cross_EA = embedding_NE.T @ contrast_NA
    own_AA = (contrast_NA * square_N[:, None]).T @ contrast_NA
    told_AA = scale * (cross_EA.T @ cross_EA - own_AA - intercept * product_AA)
    permuted_B = np.empty(PERMUTATIONS)
    for draw in range(PERMUTATIONS):
        order = rng.permutation(n)
        others = ((embedding_NE.T @ contrast_NA[order]) ** 2).sum() - square_N @ size_N[order]
        permuted_B[draw] = scale * (others - intercept * size_N.sum())
    null = float((permuted_B**2).mean())
    # Each query's part of the sum: their spread is the error where there is signal. Without any it is twice the null's.
    each_N = (contrast_NA * (embedding_NE @ cross_EA)).sum(axis=1) - (square_N + intercept) * size_N
    jackknife = 4 * scale**2 * float(((each_N - each_N.mean()) ** 2).sum())
    square = max(jackknife - null, null) + _unevenness(gram_EE, told_AA)
    covariance_AA = product_AA / (n - 1)
    variance = float(np.trace(covariance_AA))
    told_AA = _steadied(told_AA, covariance_AA, null)
    return _Regressed(variance, covariance_AA, told_AA, float(np.sqrt(square)), permuted_B)


def _steadied(told_AA: Float, covariance_AA: Float, null: float) -> Float:
    """What the text tells, as it lies over arms, drawn towards the same amount that lies as all contrasts do.

    As far as it is noise (James and Stein): too few directions would make the best of the arms look worse. `null` is
    the variance of the amount where nothing is told; that of all entries is larger by the number of directions.
    """
    size, square = float(np.trace(covariance_AA)), float((covariance_AA**2).sum())
    alike_AA = np.trace(told_AA) / (size + _TINY) * covariance_AA
    noise = null * (size**2 + square) / (2 * square + _TINY)
    kept = max(0.0, 1 - noise / (float(((told_AA - alike_AA) ** 2).sum()) + _TINY))
    return np.asarray(kept * told_AA + (1 - kept) * alike_AA)


def _unevenness(gram_EE: Float, told_AA: Float) -> float:
    """The squared error of what is told because slopes that are alike on average differ between directions by chance.

    With slopes b of variance 1 in directions of variances s, the regression finds `sum s^2 b^2 sum s / sum s^2`, and
    `sum s b^2` is told. The fewer directions the text and the arms have, the further these lie apart.
    """
    spectrum_E = np.maximum(np.linalg.eigvalsh(gram_EE), 0.0)
    if spectrum_E.sum() <= _TINY:
        return 0.0
    found_A = np.maximum(np.linalg.eigvalsh(told_AA), 0.0)
    part_E = spectrum_E / spectrum_E.sum()
    off_E = part_E * (part_E / (part_E**2).sum() - 1)
    return float(2 * (found_A**2).sum() * (off_E**2).sum())


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


def _ceilings(
    contrast_QA: FloatQA, groups: list[IntQ], parts: list[_Regressed], arms: Sequence[Arm], rng: np.random.Generator
) -> tuple[Estimate, Estimate]:
    """What the best router could gain over the best single arm, and over the best arm of each task."""
    mean_TBA = _drawn_means(contrast_QA, groups, parts, arms, rng)
    share_TB, told_TAA = _drawn_shares(parts, rng)
    half_TB = np.empty(share_TB.shape)
    for task, (part, told_AA) in enumerate(zip(parts, told_TAA, strict=True)):
        text_NA = rng.standard_normal((TEXTS // 2, len(arms)))
        unit_NA = text_NA / np.sqrt((text_NA**2).mean(axis=0)) @ _root(told_AA, part.covariance_AA)
        for draw in range(DRAWS):
            text_NA = np.sqrt(share_TB[task, draw] * part.variance) * unit_NA
            mean_A = mean_TBA[task, draw]
            half_TB[task, draw] = ((mean_A + text_NA).max(axis=1) + (mean_A - text_NA).max(axis=1)).mean() / 2
    router_B, task_B = half_TB.mean(axis=0), mean_TBA.max(axis=2).mean(axis=0)
    return _summary(router_B - mean_TBA.mean(axis=0).max(axis=1)), _summary(router_B - task_B)


def _summary(value_B: Float) -> Estimate:
    low, middle, high = np.quantile(value_B, [0.025, 0.5, 0.975])
    return Estimate(float(middle), float(low), float(high))


def _root(told_AA: Float, covariance_AA: Float) -> Float:
    """A square root, of trace 1, of what is told without its negative directions; of contrasts where none is left."""
    spectrum_A, rotation_AA = np.linalg.eigh(told_AA)
    if spectrum_A[-1] <= _TINY:
        spectrum_A, rotation_AA = np.linalg.eigh(covariance_AA)
    spectrum_A = np.maximum(spectrum_A, 0.0)
    return np.asarray(np.sqrt(spectrum_A / (spectrum_A.sum() + _TINY))[:, None] * rotation_AA.T)


def _drawn_means(
    contrast_QA: FloatQA, groups: list[IntQ], parts: list[_Regressed], arms: Sequence[Arm], rng: np.random.Generator
) -> Float:
    """Draws `[T, B, A]` of the tasks' true means: typical ones, and each task's above them."""
    basis_AC, kind_C = contrasts(arms)
    mean_TC = np.array([contrast_QA[rows].mean(axis=0) for rows in groups]) @ basis_AC
    variance_TC = np.array([np.diag(basis_AC.T @ part.covariance_AA @ basis_AC) for part in parts])
    error_TC = variance_TC / np.array([[len(rows)] for rows in groups])
    typical_1C = mean_TC.mean(axis=0, keepdims=True)
    typical_1BC = _about_shrunk(typical_1C, error_TC.mean(axis=0, keepdims=True) / len(groups), kind_C, rng)
    return np.asarray((typical_1BC + _about_shrunk(mean_TC - typical_1C, error_TC, kind_C, rng)) @ basis_AC.T)


def _about_shrunk(mean_TC: Float, error_TC: Float, kind_C: IntQ, rng: np.random.Generator) -> Float:
    """Draws `[T, B, C]` of true means: normal, about what is kept of the means that were seen."""
    kept_TC = kept_shares(mean_TC, error_TC, kind_C)
    noise_TBC = rng.standard_normal((len(mean_TC), DRAWS, mean_TC.shape[1]))
    return np.asarray((kept_TC * mean_TC)[:, None] + np.sqrt(np.maximum(kept_TC * error_TC, 0.0))[:, None] * noise_TBC)


def _drawn_shares(parts: list[_Regressed], rng: np.random.Generator) -> tuple[Float, Float]:
    """Draws `[T, B]` of the shares that the text tells in each task, never negative, and how they lie over arms."""
    size_T = np.array([part.variance for part in parts]) + _TINY
    share_T: FloatQ = np.array([np.trace(part.told_AA) for part in parts]) / size_T
    null_T = np.array([part.permuted_B.std() for part in parts]) / size_T
    # What signal adds to an error is averaged: it is larger where the share happens to be, which must not count less.
    added = max(float(((np.array([part.error for part in parts]) / size_T) ** 2 - null_T**2).mean()), 0.0)
    error_T = np.sqrt(null_T**2 + added)
    weight_T = 1 / (error_T**2 + _TINY)
    common = float(np.average(share_T, weights=weight_T))
    excess = float(((share_T - common) ** 2 - error_T**2).mean()) if len(parts) > 1 else 0.0
    kept_T = max(excess, 0.0) / (max(excess, 0.0) + error_T**2 + _TINY)
    told_TAA = np.array([part.told_AA / size for part, size in zip(parts, size_T, strict=True)])
    pooled_AA = np.average(told_TAA, axis=0, weights=weight_T)
    middle_T = kept_T * share_T + (1 - kept_T) * common
    own_TB, shared_B = rng.standard_normal((len(parts), DRAWS)), rng.standard_normal(DRAWS)
    error_of_common = float(np.sqrt(1 / weight_T.sum()))
    drawn_TB = middle_T[:, None] + (np.sqrt(kept_T) * error_T)[:, None] * own_TB
    drawn_TB += ((1 - kept_T) * error_of_common)[:, None] * shared_B
    blended_TAA = kept_T[:, None, None] * told_TAA + (1 - kept_T)[:, None, None] * pooled_AA
    return np.maximum(drawn_TB, 0.0), blended_TAA
