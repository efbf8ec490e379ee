"""Who may be the best, and each router's possible ranks: all routers of a table held against each other at once.

The set of the best holds the truly best router with 95% probability (multiple comparisons with the best: Hsu 1996; the
two steps are those of Romano, Shaikh, Wolf 2014). A rank interval holds the true rank with 95% probability or more: it
counts who is surely better and who is surely worse (Mogstad, Romano, Shaikh, Wilhelm 2024). Resampling ranks themselves
would not do: the shares of resamples hold the true rank too rarely where routers are near each other.

Every pair has its own t statistic, from the interval that a comparison prints. How large the largest of many gets by
chance is found by resampling from their joint distribution. docs/metrics.md says more; benchmarks/ties.py measures how
often sets and intervals hold the truth.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatSQ
from recal_bench.evaluation.statistics import (
    LEVEL,
    Interval,
    crossed_covariance,
    difference_intervals,
    t_interval,
)

RESAMPLES = 5000
_INFERIOR = 0.005
"""The part of the 5% that is spent on finding routers too bad to be the best, who then count no more."""
_NORMAL_DF = 100
"""Degrees of freedom from which the spread of an error's estimate no longer matters for the joint distribution."""
_MOST, _STEPS = 8, 100
"""Normal scores beyond which all is equally sure, and steps in which one of them is taken for a draw."""

FloatRR = NDArray[np.float64]


class Ties(NamedTuple):
    """`best_R`: cannot be told from the best. `rank_R2`: the least and the greatest rank a router may have, from 1."""

    best_R: NDArray[np.bool_]
    rank_R2: NDArray[np.int64]


class Pairs(NamedTuple):
    """`interval_N`: differences of all pairs (the first less the second), in the order of `itertools.combinations`.

    `covariance_RR`: of the routers' estimates. It says how dependent the differences are, not how large.
    """

    interval_N: Sequence[Interval]
    covariance_RR: FloatRR


def crossed_pairs(
    values: Sequence[tuple[FloatSQ, FloatSQ | None]], seeds: Sequence[Sequence[int]], task_Q: NDArray[Any]
) -> Pairs:
    """All pairs of routers on the same queries: of each its values `[S, Q]`, and the names of its seeds.

    A router has realised values, and expected ones where they are known: a pair is compared by what both have.
    Routers with the same seeds (several) are paired by them too, as in every difference of two routers.
    """
    names = list(map(tuple, seeds))
    paired = [len(names[one]) > 1 and names[one] == names[other] for one, other in _all(names)]
    found = difference_intervals(
        (
            (*_alike(values[one], values[other]), by_seed)
            for (one, other), by_seed in zip(_all(names), paired, strict=True)
        ),
        task_Q,
    )
    own = [realised_SQ if expected_SQ is None else expected_SQ for realised_SQ, expected_SQ in values]
    covariance_RR, of_seeds_R = crossed_covariance(own, task_Q)
    careful = [
        _with_seeds_of_both(interval, one, other, len(names[one]), covariance_RR, of_seeds_R) if by_seed else interval
        for interval, (one, other), by_seed in zip(found, _all(names), paired, strict=True)
    ]
    return Pairs(careful, covariance_RR)


def _alike(one: tuple[FloatSQ, FloatSQ | None], other: tuple[FloatSQ, FloatSQ | None]) -> tuple[FloatSQ, FloatSQ]:
    """The expected values where both have them, else the realised ones."""
    if one[1] is None or other[1] is None:
        return one[0], other[0]
    return one[1], other[1]


def _with_seeds_of_both(
    interval: Interval, one: int, other: int, n_seeds: int, covariance_RR: FloatRR, of_seeds_R: NDArray[np.float64]
) -> Interval:
    """The p of a pair with degrees of freedom that do not hang on how much the few seeds of this pair differ.

    Among many pairs there are some whose seeds differ little by chance: they seem to be known well, and are not. The
    share of the variance that the seeds have is therefore that of the two routers' own.
    """
    from scipy.special import stdtr

    of_seeds = of_seeds_R[one] + of_seeds_R[other]
    variance = covariance_RR[one, one] + covariance_RR[other, other] - 2 * covariance_RR[one, other]
    if not of_seeds > 0 or not interval.error > 0:  # also NaN
        return interval
    df = (n_seeds - 1) * max(variance / of_seeds, 1.0) ** 2
    if df >= interval.df:
        return interval
    p = 2 * float(stdtr(df, -abs(interval.estimate) / interval.error))
    return interval._replace(p=max(interval.p, p), df=df)


def paired_means(value_WR: NDArray[np.float64]) -> Pairs:
    """All pairs of routers of which nothing is known but W values each, paired: their means over worlds, by t.

    The covariance takes what a router does in a world beyond the others as its own, with a variance of its own: that of
    all pairs would need more worlds than there are.
    """
    n_worlds, n_routers = value_WR.shape
    variance_RR = np.zeros((n_routers, n_routers))
    intervals = []
    for one, other in _all(value_WR.T):
        difference_W = value_WR[:, one] - value_WR[:, other]
        square = float(difference_W.var(ddof=1)) / n_worlds
        variance_RR[one, other] = variance_RR[other, one] = square
        intervals.append(t_interval(float(difference_W.mean()), float(np.sqrt(square)), n_worlds - 1))
    if n_routers < 3:
        return Pairs(intervals, np.diag(np.full(n_routers, variance_RR.max(initial=0.0) / 2)))
    # A pair's variance is the sum of its two routers': solved for these by least squares (Grubbs 1948).
    own_R = (variance_RR.sum(axis=1) - variance_RR.sum() / 2 / (n_routers - 1)) / (n_routers - 2)
    return Pairs(intervals, np.diag(np.maximum(own_R, 0.0)))


def ties(pairs: Pairs, n_resamples: int = RESAMPLES, seed: int = 0) -> Ties:
    """Which routers may be the best, and between which ranks each may lie, both at 95%.

    Where the data cannot tell two routers apart at all (NaN), none of them is told from any.
    """
    n_routers = len(pairs.covariance_RR)
    best_R, rank_R2 = np.ones(n_routers, dtype=bool), np.tile([1, n_routers], (n_routers, 1))
    if n_routers < 2 or np.isnan(pairs.covariance_RR).any():
        return Ties(best_R, rank_R2)
    lead_RR, df_RR = _leads(pairs.interval_N, n_routers)
    resampled = _Resampled(pairs.covariance_RR, n_resamples, seed)
    for router in range(n_routers):
        others_J = np.arange(n_routers) != router
        lead_J = lead_RR[others_J, router]
        drawn = resampled.over(router, df_RR[others_J, router])
        best_R[router] = _may_be_best(lead_J, drawn)
        told_J = _told(np.abs(lead_J), drawn.share_beyond)
        rank_R2[router] = 1 + (told_J & (lead_J > 0)).sum(), n_routers - (told_J & (lead_J < 0)).sum()
    return Ties(best_R, rank_R2)


def _may_be_best(lead_J: NDArray[np.float64], drawn: _Drawn) -> bool:
    """Whether no other is surely better; those that are surely worse do not count among the many that might be."""
    live_J = ~_told(-lead_J, drawn.share_above, _INFERIOR)
    return not live_J.any() or drawn.share_above(lead_J.max(), live_J) >= 1 - LEVEL - _INFERIOR


def _told(size_J: NDArray[np.float64], share: Callable[[float], float], level: float = 1 - LEVEL) -> NDArray[np.bool_]:
    """Which sizes are so large that the largest of all is as large in a smaller share of draws than the level."""
    sizes = np.unique(size_J)
    least = bisect_left(sizes, True, key=lambda size: share(size) < level)
    return size_J >= (sizes[least] if least < len(sizes) else np.inf)


def _all(items: Sequence[Any] | NDArray[Any]) -> list[tuple[int, int]]:
    return list(combinations(range(len(items)), 2))


def _leads(interval_N: Sequence[Interval], n_routers: int) -> tuple[FloatRR, FloatRR]:
    """By how much one router is better than the other: the normal score of the pair's p. And its degrees of freedom."""
    from scipy.special import ndtri

    lead_RR, df_RR = np.zeros((n_routers, n_routers)), np.full((n_routers, n_routers), np.inf)
    p_N = np.nan_to_num(np.array([each.p for each in interval_N]), nan=1.0)
    score_N = -ndtri(p_N / 2) * np.sign([each.estimate for each in interval_N])
    one_N, other_N = np.array(_all(range(n_routers))).T
    lead_RR[one_N, other_N], lead_RR[other_N, one_N] = score_N, -score_N
    df_RR[one_N, other_N] = df_RR[other_N, one_N] = np.nan_to_num(
        [each.df for each in interval_N], nan=1.0, posinf=np.inf
    )
    return lead_RR, df_RR


@dataclass(frozen=True)
class _Drawn:
    """Leads over one router that chance gives, `[B, J]`, as t statistics of whole degrees of freedom (0: normal)."""

    t_BJ: NDArray[np.float64]
    df_J: NDArray[np.int64]

    def share_above(self, score: float, live_J: NDArray[np.bool_] | None = None) -> float:
        """The share of draws in which the lead of one of the others (that are live) is at least this normal score."""
        if live_J is None:
            return float((self.t_BJ >= self._t_of(score)).any(axis=1).mean())
        return float((self.t_BJ[:, live_J] >= self._t_of(score)[live_J]).any(axis=1).mean())

    def share_beyond(self, score: float) -> float:
        """The same for a lead or a lag."""
        return float((np.abs(self.t_BJ) >= self._t_of(score)).any(axis=1).mean())

    def _t_of(self, score: float) -> NDArray[np.float64]:
        from scipy.special import ndtr, stdtrit

        score = float(np.clip(score, -_MOST, _MOST))
        known = {df: score if df == 0 else float(stdtrit(df, ndtr(score))) for df in set(self.df_J.tolist())}
        return np.array([known[df] for df in self.df_J.tolist()])


class _Resampled:
    """Draws of all leads over a router where all are equally good.

    A lead is `z / sqrt(w)`: z normal, correlated as the differences are; w the estimate of its variance, a chi square
    over its degrees of freedom. Two of these are correlated by the square of what their differences are.
    """

    def __init__(self, covariance_RR: FloatRR, n_resamples: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        n_routers = len(covariance_RR)
        self._covariance_RR = covariance_RR
        self._estimate_BR = rng.standard_normal((n_resamples, n_routers)) @ _root(covariance_RR).T
        self._error_BR = rng.standard_normal((n_resamples, n_routers))
        self._spreads: dict[int, NDArray[np.float64]] = {}

    def over(self, router: int, df_J: NDArray[np.float64]) -> _Drawn:
        """The leads of all others in turn. Whole degrees of freedom will do for how they hang together."""
        others_R = np.arange(len(self._covariance_RR)) != router
        among_JR = self._covariance_RR[others_R] - self._covariance_RR[router]
        covariance_JJ = among_JR[:, others_R] - among_JR[:, [router]]
        sd_J = np.sqrt(np.maximum(np.diag(covariance_JJ), 0.0))
        # Of routers that decide alike nothing but rounding is left.
        sd_J[sd_J <= 1e-9 * np.sqrt(np.diag(self._covariance_RR).max())] = np.inf
        t_BJ = (self._estimate_BR[:, others_R] - self._estimate_BR[:, [router]]) / sd_J
        whole_J = np.where(df_J < _NORMAL_DF, np.maximum(np.round(np.minimum(df_J, _NORMAL_DF)), 1), 0).astype(np.int64)
        few_J = np.flatnonzero(whole_J)
        if len(few_J):
            root_JJ = _root((covariance_JJ / np.outer(sd_J, sd_J))[np.ix_(few_J, few_J)] ** 2)
            error_BJ = self._error_BR[:, : len(few_J)] @ root_JJ.T
            place_BJ = np.rint(np.clip(error_BJ, -_MOST, _MOST) * _STEPS).astype(np.int64) + _MOST * _STEPS
            dfs, row_J = np.unique(whole_J[few_J], return_inverse=True)
            spread_DX = np.stack([self._spread(df) for df in dfs.tolist()])
            t_BJ[:, few_J] /= spread_DX[row_J, place_BJ]
        return _Drawn(t_BJ, whole_J)

    def _spread(self, df: int) -> NDArray[np.float64]:
        """`sqrt(w)` at all normal scores from -`_MOST` to `_MOST`."""
        from scipy.special import chdtri, ndtr

        if df not in self._spreads:
            score_X = np.arange(-_MOST * _STEPS, _MOST * _STEPS + 1) / _STEPS
            self._spreads[df] = np.sqrt(chdtri(df, ndtr(-score_X)) / df)
        return self._spreads[df]


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix that gives standard normal values this covariance, which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
