"""The pictures of the frontiers, as SVG and PNG: accuracy against cost as alpha goes from 0 to "always cheapest"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from recal_bench.evaluation.frontier import upper_hull
from recal_bench.experiments.points import Frontier
from recal_bench.experiments.records import Run
from recal_bench.reporting.figures.compare import TEST, Comparison, Table
from recal_bench.reporting.figures.frontier import arms_figures, frontier_of, points_of, seed_curves
from recal_bench.reporting.figures.names import labels, title
from recal_bench.reporting.pictures.drawing import (
    BLACK,
    GREY,
    LINES,
    framed,
    label,
    names_beside,
    new_figure,
    numbered,
    save,
    shared_out,
)
from recal_bench.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HOW = (
    "Line: what a router does at all prices of cost, the mean of its seeds; band: from the lowest to the highest seed; "
    "round point: at the table's alpha. Dotted: the single arms (squares; black: the most accurate on train), mixed "
    "at random."
)


class _Swept(NamedTuple):
    name: str
    row: Comparison
    found: list[Frontier]


def frontiers(table: Table, runs: Sequence[Run], stem: Path) -> list[Path]:
    """Deferral curves on test: the mean of a router's seeds, in a band from the lowest to the highest seed.

    Hollow points are single arms, the line through the best of them is what they reach mixed at random; a filled point
    is where the table's own alpha puts a router. The name and the AIQ of a router are at the end of its line. More
    routers than colours are shared out over several pictures with the same axes. No file where no router of the table
    was swept. Writes `stem`.svg and `stem`.png, then `stem`-2.svg, ...
    """
    drawn = []
    for row, name in zip(table.rows, labels(table.rows), strict=True):
        of_row = [run for run in runs if _is_row(run, table, row)]
        swept = [each for run in of_row if (each := frontier_of(run, TEST)) is not None]
        if swept:
            drawn.append(_Swept(name, row, swept))
    parts, paths = shared_out(drawn), list[Path]()
    limits = _limits(drawn)
    for number, part in enumerate(parts):
        figure, axes = new_figure((9.5, 5.6))
        axes.set(xlim=limits[0], ylim=limits[1])
        axes.set_xlabel("cost, USD per 1,000 queries (with the router's own)")
        axes.set_ylabel("accuracy, % (macro)")
        ends = [_draw(axes, each, colour) for each, colour in zip(part, LINES, strict=False)]
        end, beyond = _draw_arms(axes, drawn[0].found[0])
        which = f" ({number + 1} of {len(parts)})" if len(parts) > 1 else ""
        of = f"{title(table)}; numbers: AIQ"
        how = f"{_HOW} Beyond the axes: {counted(beyond, 'single arm')}." if beyond else _HOW
        framed(figure, f"Accuracy at every price of cost, on test{which}", of, how)
        # How high the axes are is known from here on; names beside them change their width alone.
        figure.draw_without_rendering()
        names_beside(axes, [*ends, end])
        paths += save(figure, numbered(stem, number))
    return paths


def _is_row(run: Run, table: Table, row: Comparison) -> bool:
    configuration = run.record.configuration
    row_is = (table.data.identity, row.router, row.settings_hash)
    return (configuration.data.identity, configuration.router, configuration.settings_hash) == row_is


def _limits(drawn: Sequence[_Swept]) -> tuple[tuple[float, float], tuple[float, float]]:
    """The axes that hold all curves and operating points."""
    points = [point for each in drawn for found in each.found for point in points_of(found.points)]
    points += [point for each in drawn if (point := _at_alpha(each.row)) is not None]
    if not points:
        return (0, 1), (0, 1)
    (x0, y0), (x1, y1) = np.min(points, axis=0), np.max(points, axis=0)
    room = 0.04 * ((x1 - x0) or 1), 4 * ((y1 - y0) or 0.1)
    return (x0 - room[0], x1 + room[0]), (100 * y0 - room[1], 100 * y1 + room[1])


def _at_alpha(row: Comparison) -> tuple[float, float] | None:
    cost, accuracy = row.total_cost_usd_per_1k, row.accuracy_macro
    return None if cost is None or accuracy is None else (cost, accuracy)


def _draw(axes: Axes, swept: _Swept, colour: str) -> tuple[float, float, str, str]:
    """One router's curve; the end of its line, its name and colour."""
    cost, accuracy_SX = seed_curves(swept.found)
    mean = 100 * accuracy_SX.mean(axis=0)
    axes.plot(cost, mean, color=colour, linewidth=1.6, zorder=3)
    if len(swept.found) > 1:
        low, high = 100 * accuracy_SX.min(axis=0), 100 * accuracy_SX.max(axis=0)
        axes.fill_between(cost, low, high, color=colour, alpha=0.15, linewidth=0)
    if (point := _at_alpha(swept.row)) is not None:
        axes.plot(point[0], 100 * point[1], "o", color=colour, markersize=6, zorder=4)
    return float(cost[-1]), float(mean[-1]), _with_aiq(label(swept.name), swept.row.aiq), colour


def _draw_arms(axes: Axes, frontier: Frontier) -> tuple[tuple[float, float, str, str], int]:
    """The single arms and their hull: where it ends or leaves the axes, with name and colour; how many are beyond."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    arms, (best,) = points_of(frontier.arms), points_of([frontier.best_accuracy])
    hull = upper_hull(arms)
    within = [(cost, accuracy) for cost, accuracy in arms if left <= cost <= right and low <= 100 * accuracy <= high]
    for points, style, face in ((hull, ":", BLACK), (within, "D", "none"), ([best], "D", BLACK)):
        cost, accuracy = np.array(points).reshape(-1, 2).T
        axes.plot(cost, 100 * accuracy, style, color=GREY, markerfacecolor=face, markersize=4, linewidth=1.2, zorder=2)
    x = min(hull[-1][0], right)
    y = 100 * float(np.interp(x, *np.array(hull).T))
    name = _with_aiq("single arms, mixed", arms_figures(frontier).aiq)
    return (x, min(max(y, low), high), name, GREY), len(arms) - len(within)


def _with_aiq(name: str, aiq: float | None) -> str:
    return name if aiq is None else f"{name}: {aiq:.3f}"
