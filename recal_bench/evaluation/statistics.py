"""Uncertainty of macro means: whole seeds crossed with queries within tasks.

One run covers all tasks, so its tasks share the luck of its seed: seeds are resampled whole. Queries are resampled
within their tasks, and the same queries for every seed and router, hence the pairing. Tasks are fixed.
docs/metrics.md derives the formulas; benchmarks/coverage.py measures how often the interval holds the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatSQ

LEVEL = 0.95


class Interval(NamedTuple):
    """An estimate with its two-sided 95% interval, the p of "it is zero" and the degrees of freedom of both.

    `low`, `high` and `p` are NaN where the data cannot tell (every task has a single query).
    """

    estimate: float
    low: float
    high: float
    p: float
    df: float


def crossed_interval(parts: Sequence[FloatSQ], task_Q: NDArray[Any]) -> Interval:
    """Interval of the macro mean of a sum of parts, each `[S, Q]` with seeds of its own (S may differ between parts).

    One router: `[utility_SQ]`. A difference paired by seed and query: `[router_SQ - baseline_SQ]`. Paired by query
    alone, as where one of the two is deterministic (one seed): `[router_SQ, -baseline_SQ]`.

    Variance: for each part, that of its seeds' macro means / S; plus, for the queries, the variance of the query means
    (over seeds) within each task / n_t, weighted 1 / T^2, less the seed x query interaction that both contain.
    Degrees of freedom by Satterthwaite: with few seeds that differ, S - 1; with one seed, those of the queries.
    A part with one seed adds no seed variance: for a router that is not deterministic the interval is then of that
    seed alone. A task with a single query borrows the other tasks' variance.
    """
    from scipy.special import stdtr, stdtrit

    layout = _Layout(task_Q)
    total_Q = np.zeros(len(task_Q))
    estimate = seeds = interaction = squares = 0.0
    for value_SQ in parts:
        n_seeds = len(value_SQ)
        mean_Q = value_SQ.mean(axis=0)
        total_Q += mean_Q
        task_mean_ST = layout.means(value_SQ)
        macro_S = task_mean_ST.mean(axis=1)
        estimate += float(macro_S.mean())
        if n_seeds == 1:
            continue
        of_seeds = float(macro_S.var(ddof=1)) / n_seeds
        residual_SQ = value_SQ - mean_Q - (task_mean_ST - task_mean_ST.mean(axis=0))[:, layout.task_index_Q]
        of_interaction_T, df_T = layout.variance_of_means((residual_SQ**2).sum(axis=0) / (n_seeds - 1))
        of_interaction_T = of_interaction_T / n_seeds
        seeds += of_seeds
        interaction += float(of_interaction_T.sum())
        squares += of_seeds**2 / (n_seeds - 1) + float((of_interaction_T**2 / (df_T * (n_seeds - 1))).sum())
    centred_Q = total_Q - layout.means(total_Q)[layout.task_index_Q]
    of_queries_T, df_T = layout.variance_of_means(centred_Q**2)
    variance = seeds + max(float(of_queries_T.sum()) - interaction, 0.0)
    squares += float((of_queries_T**2 / df_T).sum())
    if np.isnan(variance):
        return Interval(estimate, np.nan, np.nan, np.nan, np.nan)
    if variance == 0:
        return Interval(estimate, estimate, estimate, 1.0 if estimate == 0 else 0.0, np.inf)
    df = variance**2 / squares
    error = float(np.sqrt(variance))
    half = float(stdtrit(df, (1 + LEVEL) / 2)) * error
    return Interval(estimate, estimate - half, estimate + half, 2 * float(stdtr(df, -abs(estimate) / error)), df)


class _Layout:
    """Which queries belong to which task, and sums over them."""

    def __init__(self, task_Q: NDArray[Any]) -> None:
        self.task_index_Q = np.unique(task_Q, return_inverse=True)[1]
        self.count_T = np.bincount(self.task_index_Q)
        self._order_Q = np.argsort(self.task_index_Q, kind="stable")
        self._starts_T = np.cumsum(self.count_T) - self.count_T

    def sums(self, value_Q: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.add.reduceat(value_Q[..., self._order_Q], self._starts_T, axis=-1))

    def means(self, value_Q: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.sums(value_Q) / self.count_T

    def variance_of_means(self, square_Q: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Each task's share of the variance of the macro mean, from squared deviations, and its degrees of freedom."""
        square_T, df_T = self.sums(square_Q), (self.count_T - 1).astype(np.float64)
        pooled_df = df_T.sum()
        if pooled_df == 0:
            return np.full(len(df_T), np.nan), df_T
        single_T = df_T == 0
        square_T[single_T] = square_T.sum()
        df_T[single_T] = pooled_df
        return square_T / df_T / self.count_T / len(df_T) ** 2, df_T


def holm(p_R: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p values over a family; the family-wise error holds whatever their dependence."""
    p = np.asarray(p_R, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def p_improvement(router_ST: NDArray[np.float64], baseline_ST: NDArray[np.float64]) -> float:
    """P(a seed of the router beats a seed of the baseline), a tie counting half, averaged over tasks.

    Mann-Whitney's U / (n m) of the seeds' task means. Between deterministic routers it is 0, 1/2 or 1 a task.
    """
    from scipy.stats import mannwhitneyu

    u_T = mannwhitneyu(router_ST, baseline_ST, axis=0, method="asymptotic").statistic
    return float(np.mean(u_T / (len(router_ST) * len(baseline_ST))))
