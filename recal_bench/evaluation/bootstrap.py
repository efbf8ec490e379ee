"""The crossed bootstrap: whole seeds and, within each task, queries resampled together.

It serves statistics that have no formula (the interquartile mean) and checks those that have one. Its percentiles are
not what a comparison prints: with few seeds they hold the truth too rarely, and where seeds and queries interact too
often (docs/metrics.md, benchmarks/coverage.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatSQ
from recal_bench.evaluation.statistics import LEVEL, Interval, t_interval

# B resamples, S seeds, T tasks.
FloatBST: TypeAlias = NDArray[np.float64]
RESAMPLES = 2000
_CUT = 0.25
# Resampled queries held at once: 16 MB of counts.
_CHUNK = 2_000_000


def crossed_bootstrap(
    values: Sequence[FloatSQ],
    seeds: Sequence[Sequence[int]],
    task_Q: NDArray[Any],
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[FloatBST]:
    """Task means of every router, `[B, S, T]`, on `n_resamples` samples of seeds and queries with replacement.

    `values` holds each router's `[S, Q]` and `seeds` the names of its seeds. Every router gets the same queries, and
    routers with the same seeds get the same seeds, so differences of the results are paired. With one seed it is the
    paired bootstrap over queries. Tasks in sorted order. The order of the queries within a task matters as any choice
    of `seed` does, so give them sorted.
    """
    n_seeds = [len(value_SQ) for value_SQ in values]
    stacked_NQ = np.concatenate(list(values))
    tasks, task_index_Q = np.unique(task_Q, return_inverse=True)
    mean_BNT = np.empty((n_resamples, len(stacked_NQ), len(tasks)))
    for index in range(len(tasks)):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, index)))
        value_NQ = stacked_NQ[:, task_index_Q == index]
        n_queries = value_NQ.shape[1]
        chunk = max(1, _CHUNK // n_queries)
        for start in range(0, n_resamples, chunk):
            size = min(chunk, n_resamples - start)
            drawn_BQ = rng.integers(n_queries, size=(size, n_queries))
            drawn_BQ += n_queries * np.arange(size)[:, None]
            count_BQ = np.bincount(drawn_BQ.ravel(), minlength=size * n_queries).reshape(size, n_queries)
            mean_BNT[start : start + size, :, index] = count_BQ.astype(np.float64) @ value_NQ.T / n_queries
    drawn: dict[tuple[int, ...], NDArray[np.int64]] = {}
    resampled = []
    for mean_BST, names in zip(np.split(mean_BNT, np.cumsum(n_seeds)[:-1], axis=1), map(tuple, seeds), strict=True):
        if names not in drawn:
            # Keyed by the seeds' names, so that a router's resamples do not depend on which others are compared.
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, *names)))
            drawn[names] = rng.integers(len(names), size=(n_resamples, len(names)))
        resampled.append(np.take_along_axis(mean_BST, drawn[names][:, :, None], axis=1))
    return resampled


def percentile_interval(statistic_B: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95% of a statistic's resamples."""
    low, high = np.quantile(statistic_B, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def iqm(mean_ST: NDArray[np.float64]) -> Any:
    """Interquartile mean of the scores of all seeds on all tasks, `[..., S, T]` to `[...]`.

    The mean of what is left when a quarter of the S T scores (rounded down) is cut off at either end.
    """
    from scipy.stats import trim_mean

    return trim_mean(mean_ST.reshape(*mean_ST.shape[:-2], -1), _CUT, axis=-1)


def calibrated_interval(
    estimate: float, statistic_B: NDArray[np.float64], mean_B: NDArray[np.float64], of_mean: Interval
) -> Interval:
    """Interval of a statistic without a formula, from its resamples beside those of the mean on the same samples.

    The bootstrap's standard error is off with few seeds and where seeds and queries interact. For the mean the right
    one is known (`of_mean`, from crossed_interval): the statistic's is put right by the same factor, and takes the
    mean's degrees of freedom.
    """
    error, error_of_mean = float(statistic_B.std(ddof=1)), float(mean_B.std(ddof=1))
    factor = of_mean.error / error_of_mean if error_of_mean else 1.0
    return t_interval(estimate, error * factor, of_mean.df)
