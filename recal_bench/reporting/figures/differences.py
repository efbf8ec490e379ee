"""Routers against one baseline on one split: paired differences, and interquartile means with theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from recal_bench.arrays import FloatSQ, finite_or_none
from recal_bench.evaluation import metrics
from recal_bench.evaluation.bootstrap import calibrated_interval, crossed_bootstrap, iqm
from recal_bench.evaluation.statistics import Interval, crossed_interval, holm, improvement, mde, no_surer_than_signs
from recal_bench.reporting.figures.entries import Entry, Group

UTILITY, ACCURACY, EXPECTED = "utility", "accuracy", "expected utility"
METRICS = {UTILITY: "utility_SQ", ACCURACY: "score_SQ", EXPECTED: "expected_SQ"}
"""What is compared with the baseline, and where an entry has it."""


class Difference(BaseModel):
    """A row's paired difference to the baseline in `metric`, with its 95% interval.

    `p_adjusted` and `mde`, the minimum detectable difference, are null for references. `p_improvement_ci` is null for
    fewer than 6 tasks.
    """

    metric: str
    difference: float
    ci: tuple[float, float] | None
    p_adjusted: float | None
    p_improvement: float
    p_improvement_ci: tuple[float, float] | None
    mde: float | None


class InterquartileMean(BaseModel):
    """Interquartile mean of the seeds' task means of `metric`, and its difference to the baseline's (null for that)."""

    metric: str
    value: float
    ci: tuple[float, float] | None
    difference: float | None
    difference_ci: tuple[float, float] | None
    p_adjusted: float | None


def headline_metrics(group: Group, baseline: Entry, rows_Q: NDArray[np.bool_]) -> list[str]:
    """What each entry is ranked and held against the baseline by, on one split.

    The expected utility where the truth is simulated and known of both; else the utility, or the accuracy where no
    utility may be reported.
    """
    realised = ACCURACY if group.data.unknown_costs else UTILITY
    if not group.data.simulated or not _is_known(baseline, EXPECTED, rows_Q):
        return [realised] * len(group.entries)
    return [EXPECTED if _is_known(entry, EXPECTED, rows_Q) else realised for entry in group.entries]


def _is_known(entry: Entry, metric: str, rows_Q: NDArray[np.bool_]) -> bool:
    return not np.isnan(_values(entry, metric, rows_Q)).any()


def differences(
    group: Group, baseline: Entry, metric_R: Sequence[str], rows_Q: NDArray[np.bool_], task_Q: NDArray[Any]
) -> list[Difference | None]:
    """Every entry's paired difference to the baseline in its metric; Holm's family is the routers of the table."""
    parts = [parts_of(*each, rows_Q) for each in zip(group.entries, [baseline] * len(metric_R), metric_R, strict=True)]
    intervals = [None if each is None else crossed_interval(each, task_Q) for each in parts]
    adjusted_R = adjusted_p(group, intervals)
    found: list[Difference | None] = []
    for entry, metric, part, interval, adjusted in zip(
        group.entries, metric_R, parts, intervals, adjusted_R, strict=True
    ):
        if part is None or interval is None:
            found.append(None)
            continue
        low, high = scale_of(group, metric)
        reach = (low - high, high - low)
        means = (metrics.task_means(_values(each, metric, rows_Q), task_Q) for each in (entry, baseline))
        better = improvement(*means)
        # Where no query differs from another there is nothing to tell it from; 0 would promise too much.
        detectable = None if entry.record.reference else finite_or_none(mde(part, task_Q)) or None
        found.append(
            Difference(
                metric=metric,
                difference=interval.estimate,
                ci=ci_of(interval, reach),
                p_adjusted=adjusted,
                p_improvement=better.estimate,
                p_improvement_ci=ci_of(better),
                mde=detectable,
            )
        )
    return found


def interquartile_means(
    group: Group, baseline: Entry, metric: str, rows_Q: NDArray[np.bool_], task_Q: NDArray[Any]
) -> list[InterquartileMean | None]:
    """Every entry's interquartile mean, all on the same resamples; the difference is that of the two."""
    values = [_values(entry, metric, rows_Q) for entry in group.entries]
    resampled = crossed_bootstrap(values, [entry.seeds for entry in group.entries], task_Q)
    estimate_R = [float(iqm(metrics.task_means(value_SQ, task_Q))) for value_SQ in values]
    iqm_RB, mean_RB = [iqm(mean_BST) for mean_BST in resampled], [mean_BST.mean(axis=(1, 2)) for mean_BST in resampled]
    base = next(index for index, entry in enumerate(group.entries) if entry is baseline)
    low, high = scale_of(group, metric)
    owns, differences = list[Interval](), list[Interval | None]()
    for index, entry in enumerate(group.entries):
        of_mean = crossed_interval([values[index]], task_Q)
        owns.append(calibrated_interval(estimate_R[index], iqm_RB[index], mean_RB[index], of_mean))
        parts = parts_of(entry, baseline, metric, rows_Q)
        differences.append(
            None
            if parts is None
            else no_surer_than_signs(
                calibrated_interval(
                    estimate_R[index] - estimate_R[base],
                    iqm_RB[index] - iqm_RB[base],
                    mean_RB[index] - mean_RB[base],
                    crossed_interval(parts, task_Q),
                ),
                parts,
            )
        )
    return [
        None
        if math.isnan(own.estimate)
        else InterquartileMean(
            metric=metric,
            value=own.estimate,
            ci=ci_of(own, (low, high)),
            difference=None if difference is None else difference.estimate,
            difference_ci=None if difference is None else ci_of(difference, (low - high, high - low)),
            p_adjusted=adjusted,
        )
        for own, difference, adjusted in zip(owns, differences, adjusted_p(group, differences), strict=True)
    ]


def _values(entry: Entry, metric: str, rows_Q: NDArray[np.bool_]) -> FloatSQ:
    value_SQ: FloatSQ = getattr(entry, METRICS[metric])[:, rows_Q]
    return value_SQ


def parts_of(entry: Entry, baseline: Entry, metric: str, rows_Q: NDArray[np.bool_]) -> list[FloatSQ] | None:
    """The difference to the baseline as crossed_interval takes it; None for the baseline and for unknown values."""
    value_SQ, of_baseline_SQ = _values(entry, metric, rows_Q), _values(baseline, metric, rows_Q)
    if entry is baseline or np.isnan(value_SQ).any() or np.isnan(of_baseline_SQ).any():
        return None
    return against(entry, value_SQ, baseline, of_baseline_SQ)


def against(entry: Entry, value_SQ: FloatSQ, baseline: Entry, of_baseline_SQ: FloatSQ) -> list[FloatSQ]:
    """The parts of a paired difference, as crossed_interval takes them."""
    # Routers trained with the same seeds may share their luck (start, batches): then seeds are paired too.
    paired = len(entry.seeds) > 1 and entry.seeds == baseline.seeds
    return [value_SQ - of_baseline_SQ] if paired else [value_SQ, -of_baseline_SQ]


def adjusted_p(group: Group, intervals: Sequence[Interval | None]) -> list[float | None]:
    """Adjusted p of every entry; None for what is not a hypothesis (the baseline, references) or cannot be told."""
    family = {
        index: interval.p
        for index, interval in enumerate(intervals)
        if interval is not None and not group.entries[index].record.reference and not math.isnan(interval.p)
    }
    adjusted = dict(zip(family, holm(list(family.values())), strict=True))
    return [adjusted.get(index) for index in range(len(intervals))]


def ci_of(interval: Interval, scale: tuple[float, float] = (-math.inf, math.inf)) -> tuple[float, float] | None:
    """Its ends, cut off where the scale ends; None where the data cannot tell."""
    if not math.isfinite(interval.low):
        return None
    return max(interval.low, min(scale[0], interval.estimate)), min(interval.high, max(scale[1], interval.estimate))


def scale_of(group: Group, metric: str) -> tuple[float, float]:
    """The least and the greatest value there can be: scores from 0 to 1 (or as seen), less the most that was paid."""
    low, high, paid = 0.0, 1.0, 0.0
    for entry in group.entries:
        low = min(low, float(np.nanmin(entry.score_SQ, initial=low)))
        high = max(high, float(np.nanmax(entry.score_SQ, initial=high)))
        if metric != ACCURACY:
            paid = max(paid, float(np.nanmax(entry.score_SQ - entry.utility_SQ, initial=paid)))
    return low - paid, high
