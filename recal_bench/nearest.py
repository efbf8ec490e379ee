"""The most similar rows of a memory, exactly and in blocks, so that a million rows need no more memory than one block.

Q queries, N rows of the memory, E encoding, K nearest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import IntQ

WHOLE, BLOCK = 32_768, 8_192
"""Rows of a memory that is compared in one piece, and of the blocks of a larger one."""


def spread(items: Any, most: int) -> Any:
    """At most so many of the items (an array or a sequence), spread evenly over them; all where they are no more."""
    if len(items) <= most:
        return items
    rows = np.linspace(0, len(items) - 1, most).astype(np.int64)
    return items[rows] if isinstance(items, np.ndarray) else [items[row] for row in rows.tolist()]


class Nearest(NamedTuple):
    """Rows of the memory in ascending order, and how similar they are to each query, both `[Q, K]`."""

    row_QK: NDArray[np.intp]
    similarity_QK: NDArray[np.floating]

    def taken(self, place_QK: NDArray[np.intp]) -> Nearest:
        """Those at some places among the K of each query."""
        return Nearest(
            np.take_along_axis(self.row_QK, place_QK, axis=1), np.take_along_axis(self.similarity_QK, place_QK, axis=1)
        )


def most_similar(
    query_QE: NDArray[np.floating],
    memory_NE: NDArray[np.floating],
    k: int,
    groups: tuple[IntQ, IntQ] | None = None,
    whole: int = WHOLE,
    block: int = BLOCK,
) -> Nearest:
    """The k rows of the memory with the largest dot product with each query; all of them where there are fewer.

    `groups` (of each query, of each row of the memory) rule out the rows of a query's own group: they are -inf.

    A block whose similarities all lie below those kept so far costs a comparison each; few rows are ever sorted.
    """
    k = min(k, len(memory_NE))
    block = len(memory_NE) if len(memory_NE) <= whole else max(block, k)
    best = None
    for start in range(0, max(len(memory_NE), 1), max(block, 1)):
        rows = slice(start, start + block)
        similarity_QB = query_QE @ memory_NE[rows].T
        if groups is not None:
            similarity_QB[groups[0][:, None] == groups[1][rows]] = -np.inf
        best = _largest(similarity_QB, k) if best is None else _with_block(best, similarity_QB, start)
    assert best is not None
    order_QK = np.argsort(best.row_QK, axis=1)
    return best.taken(order_QK)


def _largest(similarity_QB: NDArray[np.floating], k: int) -> Nearest:
    row_QK = np.argpartition(-similarity_QB, max(k - 1, 0), axis=1)[:, :k]
    return Nearest(row_QK, np.take_along_axis(similarity_QB, row_QK, axis=1))


def _with_block(best: Nearest, similarity_QB: NDArray[np.floating], start: int) -> Nearest:
    """The largest of those kept and of those of a further block, which begins at the row `start` of the memory."""
    above_QB = similarity_QB > best.similarity_QK.min(axis=1, keepdims=True)
    query_N, place_N = np.divmod(np.flatnonzero(above_QB), similarity_QB.shape[1])
    if not len(query_N):
        return best
    count_Q = np.bincount(query_N, minlength=len(similarity_QB))
    # The candidates of each query from the left, in a table as wide as the most that a query has.
    column_N = np.arange(len(query_N)) - np.repeat(np.cumsum(count_Q) - count_Q, count_Q)
    row_QW = np.zeros((len(similarity_QB), count_Q.max()), dtype=np.intp)
    similarity_QW = np.full(row_QW.shape, -np.inf, dtype=similarity_QB.dtype)
    row_QW[query_N, column_N] = place_N + start
    similarity_QW[query_N, column_N] = similarity_QB[query_N, place_N]
    kept = _largest(np.hstack([best.similarity_QK, similarity_QW]), best.row_QK.shape[1])
    row_QW = np.hstack([best.row_QK, row_QW])
    return Nearest(np.take_along_axis(row_QW, kept.row_QK, axis=1), kept.similarity_QK)
