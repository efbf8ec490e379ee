"""Uncertainty of macro means: whole seeds crossed with queries within tasks.

One run covers all tasks, so its tasks share the luck of its seed: seeds are taken whole. Queries are a sample within
their tasks, the same for every seed and router, hence the pairing. Tasks are fixed. These intervals are analytic;
bootstrap.py resamples. docs/metrics.md derives the formulas; benchmarks/coverage.py measures how often each holds the
truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatSQ
from recal_bench.errors import SettingsError

LEVEL = 0.95
POWER = 0.8
_LEAST_DF = 0.25
"""With fewer degrees of freedom the critical t is beyond 20,000: that is no test, and scipy's search does not end."""


class Interval(NamedTuple):
    """An estimate with its two-sided 95% interval, the p of "it is zero" and the degrees of freedom of both.

    `low`, `high` and `p` are NaN where the data cannot tell (every task has a single query).
    """

    estimate: float
    low: float
    high: float
    p: float
    df: float

    @property
    def error(self) -> float:
        """The standard error. NaN where the data cannot tell."""
        from scipy.special import stdtrit

        return (self.high - self.low) / 2 / float(stdtrit(self.df, (1 + LEVEL) / 2))


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
    found = _variances(parts, task_Q)
    return t_interval(found.estimate, *found.error_and_df())


def t_interval(estimate: float, error: float, df: float) -> Interval:
    """The t interval of an estimate with a standard error (NaN: unknown) of `df` degrees of freedom."""
    from scipy.special import stdtr, stdtrit

    if np.isnan(error):
        return Interval(estimate, np.nan, np.nan, np.nan, np.nan)
    if error == 0:
        return Interval(estimate, estimate, estimate, 1.0 if estimate == 0 else 0.0, np.inf)
    half = float(stdtrit(df, (1 + LEVEL) / 2)) * error
    return Interval(estimate, estimate - half, estimate + half, 2 * float(stdtr(df, -abs(estimate) / error)), df)


def mde(
    parts: Sequence[FloatSQ], task_Q: NDArray[Any], n_seeds: int | None = None, queries_factor: float = 1.0
) -> float:
    """Minimum detectable difference: the true value that the test of "it is zero" finds with 80% power at 5%.

    `parts` as for crossed_interval, of which this is the two-sided test. It answers "how many would I need" from the
    variances seen: with `n_seeds` seeds for each part that has several (None: as many as there are), and with
    `queries_factor` times the queries in each task. A part with one seed keeps it. Where 2 to 4 seeds differ
    much, more queries alone may not lower it: what is left of the error is then known from few seeds. NaN where the
    data cannot tell, as with less than a quarter of a degree of freedom.
    Raises SettingsError for fewer than 2 seeds or a factor that is not above 0.
    """
    from scipy.special import nctdtrinc, stdtrit

    if n_seeds is not None and n_seeds < 2:
        raise SettingsError(f"{n_seeds} seeds cannot tell the luck of training: ask for at least 2")
    if not queries_factor > 0:
        raise SettingsError(f"{queries_factor:g} times the queries is not a number of queries: give a factor above 0")
    error, df = _variances(parts, task_Q).error_and_df(n_seeds, queries_factor)
    if not error > 0:  # 0 or NaN
        return error
    if df < _LEAST_DF:
        return np.nan
    # The noncentrality at which t exceeds its critical value with the wanted power; the other tail adds nearly nothing.
    return float(nctdtrinc(df, 1 - POWER, stdtrit(df, (1 + LEVEL) / 2))) * error


@dataclass(frozen=True)
class _Seeds:
    """A part's seeds: the variance of their macro means, and a single seed's interaction with the queries, by task."""

    n_seeds: int
    macro: float
    interaction_T: NDArray[np.float64]


@dataclass(frozen=True)
class _Variances:
    """Variances behind the estimate. `queries_T`: of the query means over all seeds, each task's share, interaction
    included; `df_T`: its degrees of freedom. Parts with one seed are not among `parts`."""

    estimate: float
    parts: tuple[_Seeds, ...]
    queries_T: NDArray[np.float64]
    df_T: NDArray[np.float64]

    def error_and_df(self, n_seeds: int | None = None, queries_factor: float = 1.0) -> tuple[float, float]:
        """Standard error and Satterthwaite's degrees of freedom, also for other numbers of seeds and queries."""
        seeds = squares = 0.0
        queries_T = self.queries_T
        interaction_T = np.zeros_like(queries_T)
        df_T = self.df_T * queries_factor
        for part in self.parts:
            count = n_seeds or part.n_seeds
            of_query_T = part.interaction_T / queries_factor / count
            # The variance of the macro means holds the interaction, of which more queries leave less.
            seeds_only = part.macro - float(part.interaction_T.sum())
            of_seeds = max(seeds_only / count + float(of_query_T.sum()), 0.0)
            queries_T = queries_T - part.interaction_T / part.n_seeds + part.interaction_T / count
            interaction_T = interaction_T + of_query_T
            seeds += of_seeds
            squares += of_seeds**2 / (count - 1) + float((of_query_T**2 / (df_T * (count - 1))).sum())
        queries_T = queries_T / queries_factor
        variance = seeds + max(float(queries_T.sum()) - float(interaction_T.sum()), 0.0)
        squares += float((queries_T**2 / df_T).sum())
        return float(np.sqrt(variance)), variance**2 / squares if squares else np.inf


def _variances(parts: Sequence[FloatSQ], task_Q: NDArray[Any]) -> _Variances:
    layout = _Layout(task_Q)
    total_Q = np.zeros(len(task_Q))
    estimate = 0.0
    of_parts = []
    for value_SQ in parts:
        n_seeds = len(value_SQ)
        mean_Q = value_SQ.mean(axis=0)
        total_Q += mean_Q
        task_mean_ST = layout.means(value_SQ)
        macro_S = task_mean_ST.mean(axis=1)
        estimate += float(macro_S.mean())
        if n_seeds > 1:
            residual_SQ = value_SQ - mean_Q - (task_mean_ST - task_mean_ST.mean(axis=0))[:, layout.task_index_Q]
            interaction_T, _ = layout.variance_of_means((residual_SQ**2).sum(axis=0) / (n_seeds - 1))
            of_parts.append(_Seeds(n_seeds, float(macro_S.var(ddof=1)), interaction_T))
    centred_Q = total_Q - layout.means(total_Q)[layout.task_index_Q]
    return _Variances(estimate, tuple(of_parts), *layout.variance_of_means(centred_Q**2))


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
