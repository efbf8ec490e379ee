"""Clusters of prompts."""

from __future__ import annotations

import warnings

import numpy as np


def centres_of(encoding_QE: np.ndarray, clusters: int, prompts_a_cluster: int, seed: int) -> np.ndarray:
    """The centres of a k-means clustering (k-means++), `[K, E]`.

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
        fitted = KMeans(clusters, n_init=1, max_iter=1000, random_state=seed).fit(encoding_QE)
    centre_KE: np.ndarray = fitted.cluster_centers_
    return centre_KE
