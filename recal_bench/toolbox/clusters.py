"""Clusters of prompts."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from recal_bench.nearest import spread

if TYPE_CHECKING:
    from sklearn.cluster import KMeans

MOST = 100_000
"""Prompts that centres are made of. Of more, so many are taken, spread evenly, and the others are assigned."""


def clustered(encoding_QE: np.ndarray, clusters: int, prompts_a_cluster: int, seed: int) -> KMeans:
    """A k-means clustering (k-means++): `cluster_centers_`, `[K, E]`, and `labels_`, `[Q]`.

    There are never more clusters than one for `prompts_a_cluster` prompts that differ.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    seen_QE = spread(encoding_QE, MOST)
    distinct = len(np.unique(seen_QE, axis=0))
    clusters = max(1, min(clusters, distinct // prompts_a_cluster))
    # One thread: sums in another order would let the clusters depend on the number of cores.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # where prompts nearly coincide, fewer clusters do
        found = KMeans(clusters, n_init=1, max_iter=1000, random_state=seed).fit(seen_QE)
        if len(seen_QE) < len(encoding_QE):
            found.labels_ = found.predict(encoding_QE)
    return found
