"""The frontiers in run records summed up: AIQ, deferral AUC and quality-neutral cost, over the seeds of one router."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from recal_bench.arrays import FloatSQ
from recal_bench.evaluation.frontier import aiq, deferral_auc, deferral_curve, qnc
from recal_bench.evaluation.statistics import t_interval
from recal_bench.experiments.points import Frontier, OperatingPoint
from recal_bench.experiments.records import Run

_GRID = 400


class FrontierFigures(BaseModel):
    """Means over the seeds, with 95% t intervals over them where there are several; docs/metrics.md, "Frontier".

    All null for a router that was not swept. `qnc` is null too where a seed never reaches the best arm's accuracy;
    `qnc_reached` is the share of seeds that do.
    """

    aiq: float | None = None
    aiq_ci: tuple[float, float] | None = None
    deferral_auc: float | None = None
    deferral_auc_ci: tuple[float, float] | None = None
    qnc: float | None = None
    qnc_ci: tuple[float, float] | None = None
    qnc_reached: float | None = None


def frontier_figures(runs: Sequence[Run], split: str) -> FrontierFigures:
    """The figures of one router on one split, from its runs (one a seed). Null where not every run was swept."""
    found = [frontier_of(run, split) for run in runs]
    swept = [each for each in found if each is not None]
    if not swept or len(swept) < len(found):
        return FrontierFigures()
    return _figures(swept, [points_of(each.points) for each in swept])


def arms_figures(frontier: Frontier) -> FrontierFigures:
    """The same of the single arms, mixed at random: what is reached without a look at the queries."""
    return _figures([frontier], [points_of(frontier.arms)])


def frontier_of(run: Run, split: str) -> Frontier | None:
    """What the run's sweep found on a split; None where it was not swept."""
    return next((each for each in run.record.frontier or () if each.split == split), None)


def points_of(points: Sequence[OperatingPoint]) -> list[tuple[float, float]]:
    """(USD per 1,000 queries, accuracy) pairs."""
    return [(point.cost_usd_per_1k, point.accuracy) for point in points]


def seed_curves(swept: Sequence[Frontier]) -> tuple[NDArray[np.float64], FloatSQ]:
    """Costs that every seed's curve spans, and each seed's accuracy there. One seed: its own points."""
    curves = [np.array(deferral_curve(points_of(each.points))) for each in swept]
    if len(curves) == 1:
        return curves[0][:, 0], curves[0][:, 1][None]
    low, high = max(curve[0, 0] for curve in curves), min(curve[-1, 0] for curve in curves)
    cost = np.linspace(low, max(low, high), _GRID)
    return cost, np.stack([np.interp(cost, curve[:, 0], curve[:, 1]) for curve in curves])


def _figures(swept: Sequence[Frontier], curves: Sequence[list[tuple[float, float]]]) -> FrontierFigures:
    aiqs: list[float | None] = []
    areas: list[float | None] = []
    neutral: list[float | None] = []
    for each, points in zip(swept, curves, strict=True):
        costs = [point.cost_usd_per_1k for point in each.arms]
        aiqs.append(aiq(points, min(costs), max(costs)))
        areas.append(deferral_auc(points, max(costs)))
        neutral.append(qnc(points, each.best_accuracy.accuracy, each.best_accuracy.cost_usd_per_1k))
    reached = [value for value in neutral if value is not None and math.isfinite(value)]
    (mean_aiq, aiq_ci), (mean_area, area_ci), (mean_qnc, qnc_ci) = map(_over_seeds, (aiqs, areas, neutral))
    return FrontierFigures(
        aiq=mean_aiq,
        aiq_ci=aiq_ci,
        deferral_auc=mean_area,
        deferral_auc_ci=area_ci,
        qnc=mean_qnc,
        qnc_ci=qnc_ci,
        qnc_reached=None if None in neutral else len(reached) / len(swept),
    )


def _over_seeds(values: Sequence[float | None]) -> tuple[float | None, tuple[float, float] | None]:
    """Mean and t interval; null where a seed has no finite value, since a mean of the others would flatter."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known or len(known) < len(values):
        return None, None
    mean, n_seeds = float(np.mean(known)), len(known)
    if n_seeds == 1:
        return mean, None
    interval = t_interval(mean, float(np.std(known, ddof=1)) / math.sqrt(n_seeds), n_seeds - 1)
    return mean, (interval.low, interval.high)


def arm_points(runs: Sequence[Run], split: str) -> dict[str, tuple[float, float]]:
    """(USD per 1,000 queries, accuracy) of every single arm, the mean over the outcomes (worlds) that the runs are on.

    Empty where no run was swept, and where arms lack outcomes: others stand in for them then.
    """
    of_data: dict[str, Run] = {}
    for run in runs:
        if frontier_of(run, split) is not None:
            of_data.setdefault(run.record.configuration.data.identity, run)
    datas = [run.record.configuration.data for run in of_data.values()]
    if not datas or any((data.arms, data.missing) != (datas[0].arms, "error") for data in datas):
        return {}
    swept = [found for run in of_data.values() if (found := frontier_of(run, split)) is not None]
    point_WAX = np.array([points_of(each.arms) for each in swept])
    return {
        arm: (float(cost), float(accuracy))
        for arm, (cost, accuracy) in zip(datas[0].arms, point_WAX.mean(axis=0), strict=True)
    }
