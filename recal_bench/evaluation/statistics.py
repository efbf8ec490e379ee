"""Uncertainty of macro means: whole seeds crossed with queries within tasks.

One run covers all tasks, so its tasks share the luck of its seed: seeds are taken whole. Queries are a sample within
their tasks, the same for every seed and router, hence the pairing. Tasks are fixed, but for those too small to show
their own spread: these are joined. The intervals are analytic; bootstrap.py resamples. docs/metrics.md derives the
formulas; benchmarks/coverage.py measures how often each holds the truth, benchmarks/false_positives.py how often
routers that are equally good are told apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatQ, FloatSQ
from recal_bench.errors import SettingsError
from recal_bench.evaluation.strata import Strata

# R routers.
FloatR: TypeAlias = NDArray[np.float64]
LEVEL = 0.95
POWER = 0.8


class Interval(NamedTuple):
    """An estimate with its two-sided 95% interval, the p of "it is zero" and the degrees of freedom of both.

    `low`, `high` and `p` are NaN where the data cannot tell (a handful of tasks with a single query each).
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
    Degrees of freedom by Satterthwaite: with few seeds that differ, S - 1; with one seed, those of the queries, or
    fewer where the variance comes from few queries (their fourth moment says so). Where taking the interaction off
    leaves less than one degree of freedom, hardly any variance is left, by luck: then no term is taken as less than the
    interaction that it holds.
    A part with one seed adds no seed variance: for a router that is not deterministic the interval is then of that
    seed alone. Tasks of fewer than `SMALL_TASK` queries are spread about their common mean, so that what differs
    between them counts as luck. If k queries have values other than 0, p is at least 2 ** (1 - k), that of all signs
    being equal by chance, and the interval holds 0 where this is above 5%.
    """
    strata = Strata(task_Q)
    return _interval([_part(value_SQ, strata) for value_SQ in parts], strata)


def difference_intervals(pairs: Iterable[tuple[FloatSQ, FloatSQ, bool]], task_Q: NDArray[Any]) -> list[Interval]:
    """`crossed_interval` of many differences on the same queries, each of two routers and whether seeds are paired."""
    strata = Strata(task_Q)
    known: dict[int, tuple[FloatSQ, _Part]] = {}  # with the array, whose id would else be given to another

    def part_of(value_SQ: FloatSQ) -> _Part:
        if id(value_SQ) not in known:
            known[id(value_SQ)] = value_SQ, _part(value_SQ, strata)
        return known[id(value_SQ)][1]

    return [
        _interval([_part(one_SQ - other_SQ, strata)] if paired else [part_of(one_SQ), -part_of(other_SQ)], strata)
        for one_SQ, other_SQ, paired in pairs
    ]


def _interval(parts: Sequence[_Part], strata: Strata) -> Interval:
    found = _variances(parts, strata)
    return _no_surer_than(t_interval(found.estimate, *found.error_and_df()), found.n_not_zero)


def crossed_covariance(values: Sequence[FloatSQ], task_Q: NDArray[Any]) -> tuple[NDArray[np.float64], FloatR]:
    """Covariance of the macro means of routers on the same queries, `[R, R]`, and of each the variance by its seeds.

    Queries are shared; the luck of training is each router's own: what the same seeds may share is not counted. NaN
    where the data cannot tell.
    """
    strata = Strata(task_Q)
    parts = [_part(value_SQ, strata) for value_SQ in values]
    covariance_RR = strata.covariance(np.stack([part.mean_Q for part in parts]))
    alone_R = np.array([0.0 if part.seeds is None else part.seeds.alone / part.seeds.n_seeds for part in parts])
    of_seeds_R = np.array([0.0 if part.seeds is None else part.seeds.macro / part.seeds.n_seeds for part in parts])
    return covariance_RR + np.diag(np.maximum(alone_R, 0.0)), of_seeds_R


def no_surer_than_signs(interval: Interval, parts: Sequence[FloatSQ]) -> Interval:
    """An interval of another statistic of these parts with the least p, and the bounds, that crossed_interval has."""
    return _no_surer_than(interval, _not_zero([value_SQ.mean(axis=0) for value_SQ in parts]))


def _not_zero(mean_parts: Sequence[FloatQ]) -> int:
    """How many queries have a value. What is left of differences that cancel out is rounding, and not one."""
    largest = max(float(np.abs(mean_Q).max(initial=0.0)) for mean_Q in mean_parts)
    return int((np.abs(np.sum(mean_parts, axis=0)) > 1e-12 * largest).sum())


def _no_surer_than(interval: Interval, n_not_zero: int) -> Interval:
    """The interval with the least p that so many values can have: a half to the power of one less."""
    # Beyond the precision of a float the least p is none.
    least = min(1.0, 2.0 ** (1 - n_not_zero)) if n_not_zero <= np.finfo(float).nmant else 0.0
    if not interval.p < least:  # also NaN
        return interval
    low, high = interval.low, interval.high
    if least > 1 - LEVEL and not low <= 0 <= high:
        low, high = interval.estimate - abs(interval.estimate), interval.estimate + abs(interval.estimate)
    return interval._replace(low=low, high=high, p=least)


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
    data cannot tell.
    Raises SettingsError for fewer than 2 seeds or a factor that is not above 0.
    """
    if n_seeds is not None and n_seeds < 2:
        raise SettingsError(f"{n_seeds} seeds cannot tell the luck of training: ask for at least 2")
    if not queries_factor > 0:
        raise SettingsError(f"{queries_factor:g} times the queries is not a number of queries: give a factor above 0")
    strata = Strata(task_Q)
    found = _variances([_part(value_SQ, strata) for value_SQ in parts], strata)
    return smallest_detectable(*found.error_and_df(n_seeds, queries_factor))


def smallest_detectable(error: float, df: float) -> float:
    """`mde` of an estimate with a standard error (NaN: unknown) of `df` degrees of freedom."""
    from scipy.special import nctdtrinc, stdtrit

    if not error > 0:  # 0 or NaN
        return error
    # The noncentrality at which t exceeds its critical value with the wanted power; the other tail adds nearly nothing.
    return float(nctdtrinc(df, 1 - POWER, stdtrit(df, (1 + LEVEL) / 2))) * error


@dataclass(frozen=True)
class _Seeds:
    """A part's seeds: the variance of their macro means, and a single seed's interaction with queries, by stratum."""

    n_seeds: int
    macro: float
    interaction_H: NDArray[np.float64]

    @property
    def alone(self) -> float:
        """The variance of a single seed's macro mean with no end of queries; below 0 by chance."""
        return self.macro - float(self.interaction_H.sum())


@dataclass(frozen=True)
class _Variances:
    """Variances behind the estimate. `queries_H`: of the query means over all seeds, each stratum's share, interaction
    included; `df_H`: its degrees of freedom. `heavy_tails` is what few queries add to the variance of their sum (half
    of it). Parts with one seed are not among `parts`."""

    estimate: float
    n_not_zero: int
    parts: tuple[_Seeds, ...]
    queries_H: NDArray[np.float64]
    df_H: NDArray[np.float64]
    heavy_tails: float

    def error_and_df(self, n_seeds: int | None = None, queries_factor: float = 1.0) -> tuple[float, float]:
        """Standard error and Satterthwaite's degrees of freedom, also for other numbers of seeds and queries."""
        seeds = alone = squares = 0.0
        queries_H = self.queries_H
        interaction_H = np.zeros_like(queries_H)
        df_H = self.df_H * queries_factor
        for part in self.parts:
            count = n_seeds or part.n_seeds
            of_query_H = part.interaction_H / queries_factor / count
            # The variance of the macro means holds the interaction, of which more queries leave less.
            of_seeds = max(part.alone / count + float(of_query_H.sum()), 0.0)
            queries_H = queries_H - part.interaction_H / part.n_seeds + part.interaction_H / count
            interaction_H = interaction_H + of_query_H
            seeds += of_seeds
            alone += max(part.alone, 0.0) / count
            squares += of_seeds**2 / (count - 1) + float((of_query_H**2 / (df_H * (count - 1))).sum())
        queries_H = queries_H / queries_factor
        tails = self.heavy_tails / queries_factor**3
        of_queries = float((queries_H**2 / df_H).sum()) + tails
        variance = seeds + max(float(queries_H.sum()) - float(interaction_H.sum()), 0.0)
        if variance**2 < squares + of_queries:
            queries_H = np.maximum(queries_H, interaction_H)
            of_queries = float((queries_H**2 / df_H).sum()) + tails
            variance = alone + float(queries_H.sum())
        squares += of_queries
        # What few queries add for as many seeds as there are may be more than is left for other numbers of them.
        return float(np.sqrt(variance)), max(variance**2 / squares, 1.0) if squares else np.inf


@dataclass(frozen=True)
class _Part:
    """What is summed up of a part: its query means over seeds, its macro mean, and its seeds where it has several."""

    mean_Q: NDArray[np.float64]
    macro: float
    seeds: _Seeds | None

    def __neg__(self) -> _Part:
        return _Part(-self.mean_Q, -self.macro, self.seeds)


def _part(value_SQ: FloatSQ, strata: Strata) -> _Part:
    n_seeds = len(value_SQ)
    mean_Q = value_SQ.mean(axis=0)
    macro_S = strata.macro_mean(value_SQ)
    if n_seeds == 1:
        return _Part(mean_Q, float(macro_S[0]), None)
    square_Q = (strata.centred(value_SQ - mean_Q) ** 2).sum(axis=0) / (n_seeds - 1)
    seeds = _Seeds(n_seeds, float(macro_S.var(ddof=1)), strata.variance_of_means(square_Q))
    return _Part(mean_Q, float(macro_S.mean()), seeds)


def _variances(parts: Sequence[_Part], strata: Strata) -> _Variances:
    means = [part.mean_Q for part in parts]
    estimate, n_not_zero = sum(part.macro for part in parts), _not_zero(means)
    square_Q = strata.centred(np.sum(means, axis=0)) ** 2
    queries_H, tails = strata.variance_of_means(square_Q), strata.heavy_tails(square_Q)
    of_seeds = tuple(part.seeds for part in parts if part.seeds is not None)
    return _Variances(estimate, n_not_zero, of_seeds, queries_H, strata.df_H(), tails)


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


def improvement(router_ST: NDArray[np.float64], baseline_ST: NDArray[np.float64]) -> Interval:
    """`p_improvement` with its interval, and the p of "it is one half"; NaN for fewer than 6 tasks.

    A task's probability has the luck of its queries whole, so the tasks are taken as a sample: the interval of their
    mean. A seed's luck is that of its own probability, against all seeds of the other (DeLong et al. 1988).
    """
    pair_SST = router_ST[:, None] - baseline_ST[None]
    won_SST = (pair_SST > 0) + 0.5 * (pair_SST == 0)
    of_baseline_ST = won_SST.mean(axis=0)
    parts = [won_SST.mean(axis=1) - 0.5, of_baseline_ST - of_baseline_ST.mean(axis=0)]
    found = crossed_interval(parts, np.arange(router_ST.shape[1]))
    low, high = (float(np.clip(bound + 0.5, 0, 1)) for bound in (found.low, found.high))
    # Where every task is won, or lost, none shows a spread: what n of n say of a share (Clopper, Pearson 1934).
    least = ((1 - LEVEL) / 2) ** (1 / router_ST.shape[1])
    if low == high == 1.0:
        low = least
    elif low == high == 0.0:
        high = 1 - least
    return found._replace(estimate=found.estimate + 0.5, low=low, high=high)
