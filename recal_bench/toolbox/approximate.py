"""Nearest neighbours that are looked for only where they are likely: faster than an exact search, by a measured loss.

The memory is cut into cells by k-means, and a query is compared with the rows of the nearest cells (inverted lists, as
faiss has them: Douze et al., arXiv 2401.08281). N rows of the memory, Q queries, E encoding, K nearest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recal_bench.arrays import Float32QE
from recal_bench.errors import SettingsError
from recal_bench.nearest import Nearest, most_similar, spread

ROWS_A_CELL = 250
"""Rows of the memory in a cell, on average; with more, fewer cells are looked at, and each takes longer."""
PROBED_SHARE = 0.05
"""Of the cells that are looked at."""
TRAINED_ON = 64
"""Rows for each cell that its centre is found by."""
JUDGED_BY = 1_000
"""Validation queries that a recall is measured on."""


class Cells:
    """A memory `[N, E]`, cut into cells. Raises SettingsError where faiss is not installed."""

    def __init__(self, memory_NE: Float32QE) -> None:
        try:
            import faiss
        except ImportError as error:
            raise SettingsError(
                "search=approximate needs faiss: pip install 'recal-bench[faiss]', or leave search=exact"
            ) from error
        n_rows, width = memory_NE.shape
        cells = max(1, n_rows // ROWS_A_CELL)
        self._index: Any = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.min_points_per_centroid = 1  # else it prints a warning
        self._index.train(np.ascontiguousarray(spread(memory_NE, TRAINED_ON * cells)))
        self._index.add(np.ascontiguousarray(memory_NE))
        self._index.nprobe = max(1, round(PROBED_SHARE * cells))

    def most_similar(self, query_QE: Float32QE, k: int) -> Nearest:
        """As `nearest.most_similar`; where the cells hold fewer than k rows, row 0 stands in with -inf."""
        similarity_QK, row_QK = self._index.search(np.ascontiguousarray(query_QE), min(k, self._index.ntotal))
        similarity_QK = np.where(row_QK < 0, -np.inf, similarity_QK)
        row_QK = np.maximum(row_QK, 0)
        return Nearest(row_QK, similarity_QK).taken(np.argsort(row_QK, axis=1, kind="stable"))


def recall(cells: Cells, query_QE: Float32QE, memory_NE: Float32QE, k: int) -> float:
    """The share of the k truly most similar rows of these queries that the cells find."""
    found, exact = cells.most_similar(query_QE, k), most_similar(query_QE, memory_NE, k)
    least_Q = exact.similarity_QK.min(axis=1, keepdims=True)
    # Twins of the last one are as good; what is left beyond that is rounding.
    return float((found.similarity_QK >= least_Q - 1e-6).mean())
