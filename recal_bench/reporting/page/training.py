"""Training curves for the page: of each logged column the mean over the seeds and their range, thinned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recal_bench.evaluation.stability import Curve
from recal_bench.reporting.figures.stability import StabilityReport
from recal_bench.reporting.figures.training_logs import UTILITY, Curves

_MOST_STEPS = 80
_MOST_COLUMNS = 16


def curves_by_name(
    reports: Sequence[StabilityReport], places: Mapping[tuple[str, str], int]
) -> dict[str, list[dict[str, Any]]]:
    """By the logged column's name: of each router its row in the table, steps, mean, lowest and highest seed.

    `places` gives the table's row of (router, settings hash). The reports are of one set of outcomes, or of several
    worlds in one table, each with seeds of its own. Columns of single tasks (`name/task`) are left out.
    """
    seeds_of: dict[int, list[Curves]] = {}
    for report in reports:
        for row, curves_S in zip(report.rows, report.curves, strict=True):
            if (place := places.get((row.router, row.settings_hash))) is not None:
                seeds_of.setdefault(place, []).extend(curves_S)
    logged = [name for seeds in seeds_of.values() for curves in seeds for name in curves if "/" not in name]
    names = sorted(dict.fromkeys(logged), key=lambda name: (name != UTILITY, not name.startswith("validation_")))
    found: dict[str, list[dict[str, Any]]] = {}
    for name in names[:_MOST_COLUMNS]:
        for place, seeds in sorted(seeds_of.items()):
            if (drawn := _over_seeds(seeds, name)) is not None:
                found.setdefault(name, []).append({"row": place, **drawn})
    return found


def _over_seeds(seeds: Sequence[Curves], name: str) -> dict[str, list[float]] | None:
    """None where a seed lacks the column, or the seeds share no step."""
    curves: list[Curve] = [each[name] for each in seeds if name in each]
    if len(curves) < len(seeds) or not curves:
        return None
    step_N = curves[0].step_N
    for curve in curves[1:]:
        step_N = np.intersect1d(step_N, curve.step_N)
    if not len(step_N):
        return None
    if len(step_N) > _MOST_STEPS:
        step_N = step_N[np.unique(np.linspace(0, len(step_N) - 1, _MOST_STEPS).round().astype(int))]
    value_SN = np.stack([curve.value_N[np.searchsorted(curve.step_N, step_N)] for curve in curves])
    drawn = {"step": step_N, "mean": value_SN.mean(axis=0)}
    if len(curves) > 1:
        drawn |= {"low": value_SN.min(axis=0), "high": value_SN.max(axis=0)}
    return {key: [float(f"{value:.5g}") for value in values] for key, values in drawn.items()}
