"""How steady a training was, from its log. Arrays in, numbers out; docs/stability.md holds the formulas.

Two sides: what one seed's curves did (drawdown, spikes, collapse), and how far the seeds of a router lie apart, alone
and held against another router's, with intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from recal_bench.evaluation.statistics import LEVEL

FloatN = NDArray[np.float64]

# A gradient this many times its running median stands out of what sampling noise alone does (at most about 3).
SPIKE = 5.0
# The running median is that of this many steps before; the first few steps have none to be held against.
WINDOW, LEAST_WINDOW = 50, 10
# Once a policy has converged nearly all gradients are 0, and any other would count as a spike: the running median is
# taken to be at least this share of the first `WINDOW` steps'.
LEAST_MEDIAN = 0.1
# "At the start" and "at the end" are means of this many logged steps, or of a tenth of a shorter training's.
EDGE = 10
# A seed that gave back this share of what it had gained over best-single has collapsed.
GAVE_BACK = 0.5
# Resamples of two seeds are these two and their mean: no interval.
RESAMPLES, LEAST_SEEDS = 10_000, 3


class Curve(NamedTuple):
    """One column of a training log: the steps that logged it, ascending, and what they logged, `[N]` each."""

    step_N: FloatN
    value_N: FloatN


class Bounded(NamedTuple):
    """A number with its two-sided 95% interval; NaN where the data cannot tell, infinite where a side is open."""

    value: float
    low: float
    high: float


class Collapse(NamedTuple):
    """Seeds whose last iterate gave back half of the peak gain, and those that never had any gain to give back."""

    seeds: int
    collapsed: int
    never_gained: int

    @property
    def rate(self) -> float:
        return self.collapsed / self.seeds


UNKNOWN = Bounded(np.nan, np.nan, np.nan)


def at_start(curve: Curve) -> float:
    """Mean of the first `EDGE` logged values (a tenth of a short curve's)."""
    return float(curve.value_N[: _edge(curve)].mean())


def at_end(curve: Curve) -> float:
    """Mean of the last `EDGE` logged values (a tenth of a short curve's)."""
    return float(curve.value_N[-_edge(curve) :].mean())


def _edge(curve: Curve) -> int:
    return max(1, min(EDGE, len(curve.value_N) // 10))


def detrended_iqr(curve: Curve) -> float:
    """Interquartile range of a curve about its running linear trend; NaN for fewer than three values.

    Each value is held against the line through its two neighbours, and the difference divided by `sqrt(1 + v^2 + w^2)`
    (v, w: the neighbours' weights), so that independent noise keeps its own range and a trend that is linear over three
    values leaves none. Swings slower than that are the drawdown's to tell.
    """
    step_N, value_N = curve
    if len(step_N) < 3:
        return float("nan")
    right = (step_N[1:-1] - step_N[:-2]) / (step_N[2:] - step_N[:-2])
    residual = value_N[1:-1] - (1 - right) * value_N[:-2] - right * value_N[2:]
    low, high = np.quantile(residual / np.sqrt(1 + right**2 + (1 - right) ** 2), [0.25, 0.75])
    return float(high - low)


def max_drawdown(curve: Curve) -> float:
    """The largest fall from an earlier peak: `max_n (max_{m <= n} x_m - x_n)`, never negative."""
    return float((np.maximum.accumulate(curve.value_N) - curve.value_N).max())


def tail_ratio(curve: Curve) -> float:
    """99th percentile over the median; NaN where the median is 0."""
    middle, high = np.quantile(curve.value_N, [0.5, 0.99])
    return float(high / middle) if middle > 0 else float("nan")


def is_spike(curve: Curve) -> NDArray[np.bool_]:
    """Which values exceed `SPIKE` times the median of the `WINDOW` values before them, `[N]`.

    The first `LEAST_WINDOW` values are none; the median counts as at least `LEAST_MEDIAN` of the first values'.
    """
    value_N = curve.value_N
    before_NW = sliding_window_view(np.concatenate([np.full(WINDOW, np.nan), value_N]), WINDOW)[:-1]
    spike_N = np.zeros(len(value_N), dtype=bool)
    median_N = np.nanmedian(before_NW[LEAST_WINDOW:], axis=1)
    spike_N[LEAST_WINDOW:] = value_N[LEAST_WINDOW:] > SPIKE * np.maximum(
        median_N, LEAST_MEDIAN * np.median(value_N[:WINDOW])
    )
    return spike_N


def entropy_ratio(curve: Curve) -> float:
    """Entropy at the end over entropy at the start; NaN where it starts at 0."""
    start = at_start(curve)
    return at_end(curve) / start if start > 0 else float("nan")


def area_under_curve(curve: Curve) -> float:
    """Mean height of the curve: its area by trapezoids, divided by the steps it spans."""
    step_N, value_N = curve
    if len(step_N) == 1:
        return float(value_N[0])
    return float((np.diff(step_N) * (value_N[1:] + value_N[:-1]) / 2).sum() / (step_N[-1] - step_N[0]))


def steps_to(curve: Curve, target: float) -> float | None:
    """The step at which a curve first reaches a target, interpolated between its values; None if it never does."""
    step = _first_reached(curve.step_N, curve.value_N[None], np.array([target]))[0]
    return float(step) if np.isfinite(step) else None


def _first_reached(step_N: FloatN, value_BN: NDArray[np.float64], target_B: FloatN) -> FloatN:
    """`steps_to` of B curves on the same steps, `[B]`; infinite where the target is never reached."""
    reached_BN = value_BN >= target_B[:, None]
    n_B = reached_BN.argmax(axis=1)
    before_B, row_B = np.maximum(n_B - 1, 0), np.arange(len(n_B))
    low_B, high_B = value_BN[row_B, before_B], value_BN[row_B, n_B]
    share_B = np.divide(target_B - low_B, high_B - low_B, out=np.ones_like(low_B), where=(high_B > low_B) & (n_B > 0))
    step_B = step_N[before_B] + share_B * (step_N[n_B] - step_N[before_B])
    return np.asarray(np.where(reached_BN.any(axis=1), step_B, np.inf))


def gave_back(curve: Curve, best_single: float) -> bool | None:
    """Whether the last value gave back half of the peak gain over best-single or more; None where nothing was gained.

    The first value counts: a start from a good prior is a gain that training can lose.
    """
    gain = float(curve.value_N.max()) - best_single
    return float(curve.value_N[-1]) - best_single <= (1 - GAVE_BACK) * gain if gain > 0 else None


def adds_nothing(kept_step: float, gain: float, error: float) -> bool:
    """Whether a training cannot be told from its prior: the untrained policy is kept, or gains no more than one error.

    `gain` is that of the kept policy over the untrained one on validation, `error` its standard error.
    """
    return kept_step == 0 or gain <= error


def collapse(curves: Sequence[Curve], best_singles: Sequence[float]) -> Collapse:
    """Collapsed seeds among all, from the validation utility of each and that of best-single (one number a seed)."""
    fates = [gave_back(curve, level) for curve, level in zip(curves, best_singles, strict=True)]
    return Collapse(len(fates), fates.count(True), fates.count(None))


def seed_sd(value_S: FloatN) -> Bounded:
    """Standard deviation over seeds (ddof 1) with the chi-square interval, exact for normal values; NaN for one seed.

    `sd * sqrt(df / chi2_df(.975))` to `sd * sqrt(df / chi2_df(.025))`, `df = S - 1`.
    """
    from scipy.special import chdtri

    df = len(value_S) - 1
    if df < 1:
        return UNKNOWN
    sd = float(np.std(value_S, ddof=1))
    low, high = (sd * float(np.sqrt(df / chdtri(df, tail))) for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Bounded(sd, low, high)


def sd_ratio(router_S: FloatN, baseline_S: FloatN) -> Bounded:
    """Ratio of two routers' seed SDs with the F interval: exact for normal values of independent seeds.

    `r / sqrt(F(.975))` to `r / sqrt(F(.025))`, F with `S - 1` degrees of freedom of each. NaN for one
    seed or no spread.
    """
    from scipy.special import fdtri

    dfs = (len(router_S) - 1, len(baseline_S) - 1)
    if min(dfs) < 1 or not np.std(baseline_S) > 0:
        return UNKNOWN
    ratio = float(np.std(router_S, ddof=1) / np.std(baseline_S, ddof=1))
    low, high = (ratio / float(np.sqrt(fdtri(*dfs, tail))) for tail in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    return Bounded(ratio, low, high)


def mean_difference(router_S: FloatN, baseline_S: FloatN, paired: bool) -> Bounded:
    """Difference of two means over seeds: the t interval of the pairs, or Welch's. No interval for one seed.

    `paired`: both hold the same seeds in the same order.
    """
    from scipy.special import stdtrit

    parts = [router_S - baseline_S] if paired else [router_S, -baseline_S]
    value = float(sum(part.mean() for part in parts))
    if min(len(part) for part in parts) < 2:
        return Bounded(value, np.nan, np.nan)
    terms = [float(part.var(ddof=1)) / len(part) for part in parts]
    if sum(terms) == 0:
        return Bounded(value, value, value)
    df = sum(terms) ** 2 / sum(term**2 / (len(part) - 1) for term, part in zip(terms, parts, strict=True))
    half = float(stdtrit(df, (1 + LEVEL) / 2)) * float(np.sqrt(sum(terms)))
    return Bounded(value, value - half, value + half)


def collapse_difference(router: Collapse, baseline: Collapse) -> Bounded:
    """Difference of two collapse rates with Newcombe's interval of Wilson scores (Statist. Med. 17, 873, method 10).

    Unlike a bootstrap it stays open where no seed, or every seed, collapsed.
    """
    (low_r, high_r), (low_b, high_b) = _wilson(router), _wilson(baseline)
    value = router.rate - baseline.rate
    below = np.hypot(router.rate - low_r, high_b - baseline.rate)
    above = np.hypot(high_r - router.rate, baseline.rate - low_b)
    return Bounded(value, value - float(below), value + float(above))


def _wilson(found: Collapse) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(found.collapsed, found.seeds).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean of the seeds at the steps that every one of them logged."""
    step_N, value_SN = aligned(curves)
    return Curve(step_N, value_SN.mean(axis=0))


def aligned(curves: Sequence[Curve]) -> tuple[FloatN, NDArray[np.float64]]:
    """The steps that every curve logged, `[N]`, and the values there, `[S, N]`."""
    step_N = curves[0].step_N
    for curve in curves[1:]:
        step_N = np.intersect1d(step_N, curve.step_N)
    return step_N, np.stack([curve.value_N[np.isin(curve.step_N, step_N)] for curve in curves])


def steps_ratio(router: Sequence[Curve], baseline: Sequence[Curve], target: float | None, paired: bool) -> Bounded:
    """Steps that the router's mean curve needs to the target, over the baseline's.

    `target` None: where the baseline's mean curve ends, found again in every resample. The interval is a bootstrap of
    whole seeds (pairs of them where `paired`) with Hesterberg's expanded percentiles (arXiv 1411.5279), since few seeds
    make plain percentiles too narrow. A target that is never reached counts as infinitely many steps: a side of the
    interval may be open. NaN where neither gets there, or the baseline starts there; no interval for two seeds.
    """
    from scipy.special import ndtr, stdtrit

    (step_N, value_SN), (base_step_N, base_value_SN) = aligned(router), aligned(baseline)

    def ratio(value_BN: NDArray[np.float64], base_value_BN: NDArray[np.float64]) -> FloatN:
        target_B = base_value_BN[:, -1] if target is None else np.full(len(value_BN), target)
        needed_B = _first_reached(step_N, value_BN, target_B)
        base_needed_B = _first_reached(base_step_N, base_value_BN, target_B)
        known_B = (base_needed_B > 0) & (np.isfinite(needed_B) | np.isfinite(base_needed_B))
        quotient_B: FloatN = np.divide(needed_B, base_needed_B, out=np.full(len(needed_B), np.nan), where=known_B)
        return quotient_B

    value = float(ratio(value_SN.mean(axis=0)[None], base_value_SN.mean(axis=0)[None])[0])
    n_seeds = min(len(value_SN), len(base_value_SN))
    if n_seeds < LEAST_SEEDS or np.isnan(value):
        return Bounded(value, np.nan, np.nan)
    rng = np.random.default_rng(0)
    weight_BS = _resampled(rng, len(value_SN))
    base_weight_BS = weight_BS if paired else _resampled(rng, len(base_value_SN))
    ratio_B = np.sort(ratio(weight_BS @ value_SN, base_weight_BS @ base_value_SN))
    if np.isnan(ratio_B).any():
        return Bounded(value, np.nan, np.nan)
    spread = np.sqrt(n_seeds / (n_seeds - 1)) * float(stdtrit(n_seeds - 1, (1 + LEVEL) / 2))
    cut = int(np.floor(float(ndtr(-spread)) * (RESAMPLES - 1)))
    return Bounded(value, float(ratio_B[cut]), float(ratio_B[-1 - cut]))


def _resampled(rng: np.random.Generator, n_seeds: int) -> NDArray[np.float64]:
    """Weights of the seeds in each resample, `[B, S]`, each row adding up to 1."""
    return np.asarray(rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), RESAMPLES) / n_seeds)
