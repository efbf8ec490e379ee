"""The Bradley-Terry model: how strong arms are, from who beats whom."""

from __future__ import annotations

import numpy as np


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
        chance_QAA = 1 / (1 + np.exp(strength_QA[:, None, :] - strength_QA[:, :, None]))
        chance_QA = 1 / (1 + np.exp(-strength_QA))
        slope_QA = gained_QA - (played_QAA * chance_QAA).sum(axis=2) - drawn_Q1 * chance_QA
        bend_QAA = -played_QAA * chance_QAA * (1 - chance_QAA)
        bend_QAA[:, diagonal, diagonal] = drawn_Q1 * chance_QA * (1 - chance_QA) - bend_QAA.sum(axis=2)
        step_QA = np.linalg.solve(bend_QAA, slope_QA[:, :, None])[:, :, 0]
        reach_Q1 = np.maximum(np.ptp(step_QA, axis=1, keepdims=True), np.abs(step_QA).max(axis=1, keepdims=True))
        strength_QA += step_QA * np.log1p(reach_Q1) / np.maximum(reach_Q1, 1e-12)
        if reach_Q1.max(initial=0.0) < 1e-9:
            break
    return strength_QA
