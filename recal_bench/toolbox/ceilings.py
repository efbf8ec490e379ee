"""What the best router could gain, given the means of tasks and how far texts tell the arms apart within them.

A text's predictable contrasts are taken as normal, about its task's means, with the covariance that the regression over
pairs finds. Means of arms are drawn towards that of all arms, means and shares of tasks towards those of all tasks, as
far as they are noise (empirical Bayes). Estimates are medians, with intervals, over draws from the distributions of all
of these. T tasks, N texts, A arms, C contrasts, B draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatQ, FloatQA, IntQ
from recal_bench.outcomes import Arm
from recal_bench.toolbox.contrasts import contrasts
from recal_bench.toolbox.hierarchy import kept_shares
from recal_bench.toolbox.pairs import Regressed

DRAWS = 400
TEXTS = 1024
"""Simulated texts a task and draw, half of them mirrored."""
_TINY = 1e-12
Float = NDArray[np.float64]


class Estimate(NamedTuple):
    """A number with its 95% interval."""

    value: float
    low: float
    high: float


def estimate_ceilings(
    contrast_QA: FloatQA,
    groups: list[IntQ],
    parts: list[Regressed],
    lift: float,
    arms: Sequence[Arm],
    rng: np.random.Generator,
) -> tuple[Estimate, Estimate]:
    """What the best router could gain over the best single arm, and over the best arm of each task.

    `lift` is what is known of every task's share beyond what was found.
    """
    mean_TBA = _drawn_means(contrast_QA, groups, parts, arms, rng)
    share_TB, told_TAA = _drawn_shares(parts, lift, rng)
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
    # The best router loses to none; what is below 0 is rounding.
    low, middle, high = np.maximum(np.quantile(value_B, [0.025, 0.5, 0.975]), 0.0)
    return Estimate(float(middle), float(low), float(high))


def _root(told_AA: Float, covariance_AA: Float) -> Float:
    """A square root, of trace 1, of what is told without its negative directions; of contrasts where none is left."""
    spectrum_A, rotation_AA = np.linalg.eigh(told_AA)
    if spectrum_A[-1] <= _TINY:
        spectrum_A, rotation_AA = np.linalg.eigh(covariance_AA)
    spectrum_A = np.maximum(spectrum_A, 0.0)
    return np.asarray(np.sqrt(spectrum_A / (spectrum_A.sum() + _TINY))[:, None] * rotation_AA.T)


def _drawn_means(
    contrast_QA: FloatQA, groups: list[IntQ], parts: list[Regressed], arms: Sequence[Arm], rng: np.random.Generator
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


def _drawn_shares(parts: list[Regressed], lift: float, rng: np.random.Generator) -> tuple[Float, Float]:
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
    middle_T = kept_T * share_T + (1 - kept_T) * common + lift
    own_TB, shared_B = rng.standard_normal((len(parts), DRAWS)), rng.standard_normal(DRAWS)
    error_of_common = float(np.sqrt(1 / weight_T.sum()))
    drawn_TB = middle_T[:, None] + (np.sqrt(kept_T) * error_T)[:, None] * own_TB
    drawn_TB += ((1 - kept_T) * error_of_common)[:, None] * shared_B
    blended_TAA = kept_T[:, None, None] * told_TAA + (1 - kept_T)[:, None, None] * pooled_AA
    return np.maximum(drawn_TB, 0.0), blended_TAA
