"""The most similar train queries, and what arms were worth on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from recal_bench.arrays import BoolQA, FloatQA

PRIOR_COUNT = 1.0
"""Neighbours that an arm's typical value counts for: what decides where few neighbours know the arm."""
CHUNK = 1024
"""Queries whose similarities are held in memory at once."""


def chunks(queries: int, size: int = CHUNK) -> Iterator[slice]:
    """Slices of at most `size` rows that cover this many queries."""
    return (slice(start, start + size) for start in range(0, queries, size))


def neighbour_weights(similarity_QK: NDArray[np.floating], weights: str) -> NDArray[np.floating]:
    """What neighbours weigh: alike (`uniform`), or by their `similarity`. 0 for those ruled out (-inf)."""
    if weights == "similarity":
        return np.asarray(np.maximum(similarity_QK, 0.0))
    return (similarity_QK > -np.inf).astype(np.float64)


def mean_excess(
    nearest_QK: NDArray[np.intp], weight_QK: NDArray[np.floating], excess_NC: FloatQA, known_NC: BoolQA
) -> FloatQA:
    """The neighbours' mean excess over the typical values in every column, drawn towards 0. `[Q, C]`"""
    starts = np.arange(len(nearest_QK) + 1) * nearest_QK.shape[1]
    weight_QN = csr_matrix((weight_QK.ravel(), nearest_QK.ravel(), starts), shape=(len(nearest_QK), len(excess_NC)))
    return np.asarray((weight_QN @ excess_NC) / (weight_QN @ known_NC + PRIOR_COUNT))
