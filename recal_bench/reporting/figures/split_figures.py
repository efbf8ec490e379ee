"""What routers did on one split: the figures of all entries of a group, held against one baseline."""

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
from recal_bench.evaluation.statistics import Interval, crossed_interval, holm, mde, p_improvement
from recal_bench.reporting.figures.entries import Entry, Group
from recal_bench.reporting.figures.frontier import FrontierFigures, frontier_figures

# The metrics held against the baseline, and where an entry has them.
_COLUMNS = {"utility": "utility_SQ", "accuracy": "score_SQ"}


class Difference(BaseModel):
    """A row's paired difference to the baseline in `metric`, with its 95% interval.

    `p_adjusted` and `mde`, the minimum detectable difference, are null for references.
    """

    metric: str
    difference: float
    ci: tuple[float, float] | None
    p_adjusted: float | None
    p_improvement: float
    mde: float | None


class InterquartileMean(BaseModel):
    """Interquartile mean of the seeds' task means of `metric`, and its difference to the baseline's (null for that)."""

    metric: str
    value: float
    ci: tuple[float, float] | None
    difference: float | None
    difference_ci: tuple[float, float] | None
    p_adjusted: float | None


class Figures(FrontierFigures):
    """What a router did on one split; docs/metrics.md defines every figure. Null where unknown."""

    n_queries: int
    accuracy_macro: float | None
    accuracy_micro: float | None
    cost_usd_per_1k: float | None
    router_cost_usd_per_1k: float | None
    savings: float | None
    utility: float | None
    utility_ci: tuple[float, float] | None
    vs_baseline: Difference | None
    iqm: InterquartileMean | None
    accuracy_vs_baseline: Difference | None
    gap_closed: float | None
    regret: float | None
    top_arm_share: float
    routing_entropy: float
    new_arm: float | None = None
    seed_sd: float | None


def split_figures(group: Group, split: str, baseline: Entry, with_iqm: bool = False) -> list[Figures]:
    """The figures of every entry on one split; interquartile means only where asked, since they take a bootstrap."""
    rows_Q = group.split_Q == split
    # Tasks as numbers: grouping by text would be most of the work.
    task_Q = np.unique(group.task_Q[rows_Q], return_inverse=True)[1]
    best_single, oracle = (_macro(group.find(name), "utility_SQ", rows_Q, task_Q) for name in ("best-single", "oracle"))
    target, *others = (
        _point(group.find(name), rows_Q, task_Q) for name in ("best-accuracy", "best-single", "cheapest")
    )
    singles = [point for point in others if point is not None]
    differences = [_differences(group, baseline, metric, rows_Q, task_Q) for metric in _COLUMNS]
    # Where no utility may be reported, accuracy is what is left.
    metric = "accuracy" if group.data.unknown_costs else "utility"
    iqms = _iqms(group, baseline, metric, rows_Q, task_Q) if with_iqm else [None] * len(group.entries)
    figures = []
    for index, entry in enumerate(group.entries):
        score_SQ, utility_SQ = entry.score_SQ[:, rows_Q], entry.utility_SQ[:, rows_Q]
        accuracy, cost = _point(entry, rows_Q, task_Q) or (math.nan, math.nan)
        utility = crossed_interval([utility_SQ], task_Q)
        gap_known = not any(math.isnan(value) for value in (utility.estimate, best_single, oracle))
        seed_utility_S = metrics.macro_mean(utility_SQ, task_Q)
        arm_SQ = entry.arm_SQ[:, rows_Q]
        figures.append(
            Figures(
                n_queries=int(rows_Q.sum()),
                accuracy_macro=finite_or_none(accuracy),
                accuracy_micro=finite_or_none(float(metrics.micro_mean(score_SQ).mean())),
                cost_usd_per_1k=finite_or_none(1000 * _macro(entry, "cost_SQ", rows_Q, task_Q)),
                router_cost_usd_per_1k=finite_or_none(1000 * _macro(entry, "router_cost_SQ", rows_Q, task_Q)),
                savings=metrics.savings(accuracy, cost, *target, singles) if target else None,
                utility=finite_or_none(utility.estimate),
                utility_ci=ci_of(utility),
                vs_baseline=differences[0][index],
                iqm=iqms[index],
                accuracy_vs_baseline=differences[1][index],
                gap_closed=metrics.gap_closed(utility.estimate, best_single, oracle) if gap_known else None,
                regret=finite_or_none(_macro(entry, "regret_SQ", rows_Q, task_Q)),
                top_arm_share=float(np.mean([metrics.top_arm_share(arm_Q) for arm_Q in arm_SQ])),
                routing_entropy=float(np.mean([metrics.routing_entropy(arm_Q) for arm_Q in arm_SQ])),
                new_arm=float(np.isin(arm_SQ, group.data.held_out).mean()) if entry.record.adapted else None,
                seed_sd=finite_or_none(float(seed_utility_S.std(ddof=1))) if len(seed_utility_S) > 1 else None,
                **dict(frontier_figures(entry.runs, split)),
            )
        )
    return figures


def _macro(entry: Entry | None, name: str, rows_Q: NDArray[np.bool_], task_Q: NDArray[Any]) -> float:
    """The mean over seeds of a column's macro mean; NaN where a value is unknown or there is no such entry."""
    return math.nan if entry is None else float(metrics.macro_mean(getattr(entry, name)[:, rows_Q], task_Q).mean())


def _point(entry: Entry | None, rows_Q: NDArray[np.bool_], task_Q: NDArray[Any]) -> tuple[float, float] | None:
    """Accuracy and cost in USD per query, the router's own included."""
    if entry is None:
        return None
    costs = (_macro(entry, name, rows_Q, task_Q) for name in ("cost_SQ", "router_cost_SQ"))
    return _macro(entry, "score_SQ", rows_Q, task_Q), sum(costs)


def _differences(
    group: Group, baseline: Entry, metric: str, rows_Q: NDArray[np.bool_], task_Q: NDArray[Any]
) -> list[Difference | None]:
    """Every entry's paired difference to the baseline; Holm's family is the routers of the table."""
    of_baseline_SQ = _values(baseline, metric, rows_Q)
    parts = [_parts(entry, baseline, metric, rows_Q) for entry in group.entries]
    intervals = [None if each is None else crossed_interval(each, task_Q) for each in parts]
    adjusted_R = adjusted_p(group, intervals)
    differences: list[Difference | None] = []
    for entry, part, interval, adjusted in zip(group.entries, parts, intervals, adjusted_R, strict=True):
        if part is None or interval is None:
            differences.append(None)
            continue
        means = (metrics.task_means(each_SQ, task_Q) for each_SQ in (_values(entry, metric, rows_Q), of_baseline_SQ))
        # Where no query differs from another there is nothing to tell it from; 0 would promise too much.
        detectable = None if entry.record.reference else finite_or_none(mde(part, task_Q)) or None
        differences.append(
            Difference(
                metric=metric,
                difference=interval.estimate,
                ci=ci_of(interval),
                p_adjusted=adjusted,
                p_improvement=p_improvement(*means),
                mde=detectable,
            )
        )
    return differences


def _iqms(
    group: Group, baseline: Entry, metric: str, rows_Q: NDArray[np.bool_], task_Q: NDArray[Any]
) -> list[InterquartileMean | None]:
    """Every entry's interquartile mean, all on the same resamples; the difference is that of the two."""
    values = [_values(entry, metric, rows_Q) for entry in group.entries]
    resampled = crossed_bootstrap(values, [entry.seeds for entry in group.entries], task_Q)
    estimate_R = [float(iqm(metrics.task_means(value_SQ, task_Q))) for value_SQ in values]
    iqm_RB, mean_RB = [iqm(mean_BST) for mean_BST in resampled], [mean_BST.mean(axis=(1, 2)) for mean_BST in resampled]
    base = next(index for index, entry in enumerate(group.entries) if entry is baseline)
    owns, differences = list[Interval](), list[Interval | None]()
    for index, entry in enumerate(group.entries):
        of_mean = crossed_interval([values[index]], task_Q)
        owns.append(calibrated_interval(estimate_R[index], iqm_RB[index], mean_RB[index], of_mean))
        parts = _parts(entry, baseline, metric, rows_Q)
        differences.append(
            None
            if parts is None
            else calibrated_interval(
                estimate_R[index] - estimate_R[base],
                iqm_RB[index] - iqm_RB[base],
                mean_RB[index] - mean_RB[base],
                crossed_interval(parts, task_Q),
            )
        )
    return [
        None
        if math.isnan(own.estimate)
        else InterquartileMean(
            metric=metric,
            value=own.estimate,
            ci=ci_of(own),
            difference=None if difference is None else difference.estimate,
            difference_ci=None if difference is None else ci_of(difference),
            p_adjusted=adjusted,
        )
        for own, difference, adjusted in zip(owns, differences, adjusted_p(group, differences), strict=True)
    ]


def _values(entry: Entry, metric: str, rows_Q: NDArray[np.bool_]) -> FloatSQ:
    value_SQ: FloatSQ = getattr(entry, _COLUMNS[metric])[:, rows_Q]
    return value_SQ


def _parts(entry: Entry, baseline: Entry, metric: str, rows_Q: NDArray[np.bool_]) -> list[FloatSQ] | None:
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
    """Adjusted p of every entry; None for what is no hypothesis (the baseline, references) or cannot be told."""
    family = {
        index: interval.p
        for index, interval in enumerate(intervals)
        if interval is not None and not group.entries[index].record.reference and not math.isnan(interval.p)
    }
    adjusted = dict(zip(family, holm(list(family.values())), strict=True))
    return [adjusted.get(index) for index in range(len(intervals))]


def ci_of(interval: Interval) -> tuple[float, float] | None:
    """Its ends; None where the data cannot tell."""
    return (interval.low, interval.high) if math.isfinite(interval.low) else None
