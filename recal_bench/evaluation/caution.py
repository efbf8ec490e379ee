"""When to leave a fallback arm: how far a predicted gain may be trusted, and how much trust to ask for.

V validation queries, C degrees of caution; otherwise Q queries, A arms.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatQA, IntQ
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.evaluation.statistics import crossed_interval

CAUTION = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, math.inf)
"""Standard errors that a predicted gain must exceed, from "follow the router" to "never leave the fallback"."""
NEIGHBOURS = 100
POOLED_COUNT = 20.0
"""Validation queries that the mean over all of them counts for."""
_CHUNK = 1024


def gain_errors(gain_QA: FloatQA, gain_VA: FloatQA, residual_VA: FloatQA, own_Q: IntQ | None = None) -> FloatQA:
    """Standard errors of predicted gains over a fallback arm, by how far such predictions were off on validation.

    A gain is by how much an arm's utility exceeds the fallback's on the same query; `residual_VA` is the observed gain
    less the predicted one, NaN where one of the two outcomes is missing. An arm's error on a query is that of a mean
    over the `NEIGHBOURS` validation queries whose predicted gains are nearest to the query's: the root of their mean
    squared residual, drawn towards that over all validation queries, over the root of their number. An arm without a
    residual has the widest error of the others. `own_Q` are the places in V of queries that are among them, which are
    then not their own neighbours. 0 everywhere where no arm has a residual.
    """
    from scipy.spatial.distance import cdist

    known_VA = ~np.isnan(residual_VA)
    square_VA = np.where(known_VA, residual_VA, 0.0) ** 2
    count_A = known_VA.sum(axis=0)
    if not count_A.any():
        return np.zeros_like(gain_QA)
    pooled_A = square_VA.sum(axis=0) / np.maximum(count_A, 1)
    pooled_A[count_A == 0] = pooled_A[count_A > 0].max()
    n_near = min(NEIGHBOURS, len(gain_VA) - (own_Q is not None))
    error_QA = np.empty_like(gain_QA)
    for start in range(0, len(gain_QA), _CHUNK):
        rows = slice(start, start + _CHUNK)
        distance_QV = cdist(gain_QA[rows], gain_VA, "sqeuclidean")
        if own_Q is not None:
            distance_QV[np.arange(len(distance_QV)), own_Q[rows]] = np.inf
        near_QN = np.argpartition(distance_QV, max(n_near - 1, 0), axis=1)[:, :n_near]
        total_QA, known_QA = square_VA[near_QN].sum(axis=1), known_VA[near_QN].sum(axis=1)
        error_QA[rows] = np.sqrt((total_QA + POOLED_COUNT * pooled_A) / (known_QA + POOLED_COUNT))
    return error_QA / math.sqrt(max(n_near, 1))


def most_cautious(utility_CV: NDArray[np.float64], task_V: NDArray[Any]) -> int:
    """The last row whose macro mean is at most one standard error below the best row's.

    The error is that of the paired difference (see `crossed_interval`); where the data cannot tell it, nothing speaks
    against the more cautious row. After the one-standard-error rule of Breiman et al. (1984).
    """
    mean_C = macro_mean(utility_CV, task_V)
    best = int(np.argmax(mean_C))
    for row in range(len(mean_C) - 1, best, -1):
        lost = crossed_interval([(utility_CV[best] - utility_CV[row])[None]], task_V)
        if not lost.estimate > lost.error:
            return row
    return best
