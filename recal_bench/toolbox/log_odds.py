"""Scores as probabilities: shares of the range of the train scores, and their log-odds."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from recal_bench.arrays import FloatA, FloatQA

LEAST = 1e-3
"""Shares are kept this far from 0 and 1, where log-odds have no end."""


def score_range(score_QA: FloatQA) -> FloatA:
    """The least and the greatest score; 0 and 1 unless the outcomes go beyond. `[2]`"""
    return np.array([min(0.0, np.nanmin(score_QA)), max(1.0, np.nanmax(score_QA))])


def share_of(score: FloatQA, range_2: FloatA) -> FloatQA:
    """Where in the range a score lies, 0 to 1."""
    return np.asarray((score - range_2[0]) / np.ptp(range_2))


def log_odds(score: FloatQA, range_2: FloatA) -> FloatQA:
    return np.asarray(logit(np.clip(share_of(score, range_2), LEAST, 1 - LEAST)))


def score_of(log_odds: FloatQA, range_2: FloatA) -> FloatQA:
    return np.asarray(range_2[0] + np.ptp(range_2) * expit(log_odds))
