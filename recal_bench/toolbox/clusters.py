"""Clusters of prompts."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sklearn.cluster import KMeans


def clustered(encoding_QE: np.ndarray, clusters: int, prompts_a_cluster: int, seed: int) -> KMeans:
    """A k-means clustering (k-means++): `cluster_centers_`, `[K, E]`, and `labels_`, `[Q]`.

    There are never more clusters than one for `prompts_a_cluster` prompts that differ.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    distinct = len(np.unique(encoding_QE, axis=0))
    clusters = max(1, min(clusters, distinct // prompts_a_cluster))
    # One thread: sums in another order would let the clusters depend on the number of cores.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # where prompts nearly coincide, fewer clusters do
        return KMeans(clusters, n_init=1, max_iter=1000, random_state=seed).fit(encoding_QE)
