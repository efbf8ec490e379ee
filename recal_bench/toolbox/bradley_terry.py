"""The Bradley-Terry model: how strong arms are, from who beats whom."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from recal_bench.arrays import FloatA, FloatQA

TIE = 1e-9
"""Utilities that differ by less are equal: what is left is rounding."""
CHUNK = 512
"""Queries whose matches are held in memory at once."""


def wins(utility_QA: FloatQA, weights: str) -> np.ndarray:
    """What it weighs that the first arm beats the second, `[Q, A, A]`; 0 where it does not, or they did not meet.

    With `weights` = `stake` a win weighs what the utilities differ by, with `equal` 1, and a tie 1/2 for either.
    """
    lead_QAA = utility_QA[:, :, None] - utility_QA[:, None, :]
    if weights == "stake":
        return np.where(lead_QAA > TIE, lead_QAA, 0.0)
    drawn_QAA = np.abs(lead_QAA) <= TIE
    diagonal = np.arange(utility_QA.shape[1])
    drawn_QAA[:, diagonal, diagonal] = False
    return np.asarray((lead_QAA > TIE) + 0.5 * drawn_QAA)


def strengths(won_QAA: np.ndarray, drawn_Q: np.ndarray) -> np.ndarray:
    """The maxima of the Bradley-Terry likelihoods of Q tables of wins, `[Q, A]`, in log-odds of a win.

    `won_QAA` is the weight of all wins of the first arm over the second, 0 of an arm over itself. Every arm draws with
    a weight of `drawn_Q` (above 0) against the average arm, which keeps strengths finite; arms that never met anyone
    have 0.

    Newton's method, with steps short enough never to overshoot: the logistic loss bends by no more than a factor
    exp(d) where the strengths' differences change by d (Sun and Tran-Dinh, "Generalized self-concordant functions").
    """
    played_QAA = won_QAA + won_QAA.swapaxes(1, 2)
    diagonal, drawn_Q1 = np.arange(won_QAA.shape[1]), drawn_Q[:, None]
    gained_QA = won_QAA.sum(axis=2) + drawn_Q1 / 2
    strength_QA = np.zeros(won_QAA.shape[:2])
    for _ in range(100):
        chance_QAA = expit(strength_QA[:, :, None] - strength_QA[:, None, :])
        chance_QA = expit(strength_QA)
        slope_QA = gained_QA - (played_QAA * chance_QAA).sum(axis=2) - drawn_Q1 * chance_QA
        bend_QAA = -played_QAA * chance_QAA * (1 - chance_QAA)
        bend_QAA[:, diagonal, diagonal] = drawn_Q1 * chance_QA * (1 - chance_QA) - bend_QAA.sum(axis=2)
        step_QA = np.linalg.solve(bend_QAA, slope_QA[:, :, None])[:, :, 0]
        reach_Q1 = np.maximum(np.ptp(step_QA, axis=1, keepdims=True), np.abs(step_QA).max(axis=1, keepdims=True))
        strength_QA += step_QA * np.log1p(reach_Q1) / np.maximum(reach_Q1, 1e-12)
        if reach_Q1.max(initial=0.0) < 1e-9:
            break
    return strength_QA


def drawn_to_average(strength_QA: FloatQA, trust_A: FloatA) -> FloatQA:
    """Strengths above the average arm's, which is all that preferences compare with; less where an arm is trusted less.

    `trust_A` is 0 for an arm without an outcome, and near 1 for one with hundreds.
    """
    average_Q = strength_QA @ trust_A / max(trust_A.sum(), 1e-12)
    return np.asarray(trust_A * (strength_QA - average_Q[:, None]))
