"""The picture of the frontiers, as SVG and PNG: accuracy against cost as alpha goes from 0 to "always cheapest"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recal_bench.evaluation.frontier import upper_hull
from recal_bench.experiments.records import Frontier, Run
from recal_bench.reporting.figures.compare import TEST, Comparison, Table
from recal_bench.reporting.figures.frontier import arms_figures, frontier_of, points_of, seed_curves
from recal_bench.reporting.figures.names import labels, title
from recal_bench.reporting.pictures.drawing import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    heading,
    label,
    new_figure,
    save,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINES = [(colour, dash) for dash in ("-", "--", "-.") for colour in (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)]
_MOST_LINES = len(_LINES)
"""Routers beyond which the others, those of a lower utility, are drawn in grey without a name."""


def frontiers(table: Table, runs: Sequence[Run], stem: Path) -> list[Path]:
    """Deferral curves on test: the mean of a router's seeds, in a band from the lowest to the highest seed.

    Hollow points are single arms, the line through the best of them is what they reach mixed at random; a filled point
    is where the table's own alpha puts a router. No file where no router of the table was swept. Writes `stem`.svg
    and `stem`.png.
    """
    drawn = []
    for row, name in zip(table.rows, labels(table.rows), strict=True):
        of_row = [run for run in runs if _is_row(run, table, row)]
        swept = [each for run in of_row if (each := frontier_of(run, TEST)) is not None]
        if swept:
            drawn.append((name, row, swept))
    if not drawn:
        return []
    figure, axes = new_figure()
    # More lines than a legend holds could not be told apart either.
    for _, _, swept in drawn[_MOST_LINES:]:
        cost, accuracy_SX = seed_curves(swept)
        axes.plot(cost, 100 * accuracy_SX.mean(axis=0), color="0.82", linewidth=0.8, zorder=1)
    drawn = drawn[:_MOST_LINES]
    for (name, row, swept), (colour, dash) in zip(drawn, _LINES, strict=False):
        cost, accuracy_SX = seed_curves(swept)
        mean = 100 * accuracy_SX.mean(axis=0)
        axes.plot(cost, mean, dash, color=colour, label=_with_aiq(label(name), row.aiq), linewidth=1.5, zorder=3)
        if len(swept) > 1:
            low, high = 100 * accuracy_SX.min(axis=0), 100 * accuracy_SX.max(axis=0)
            axes.fill_between(cost, low, high, color=colour, alpha=0.15, linewidth=0)
        if row.accuracy_macro is not None and row.cost_usd_per_1k is not None:
            own = row.cost_usd_per_1k + (row.router_cost_usd_per_1k or 0.0)
            axes.plot(own, 100 * row.accuracy_macro, "o", color=colour, markersize=6, zorder=4)
    _draw_arms(axes, drawn[0][2][0])
    axes.margins(0.03, 0.06)
    axes.set_xlabel("cost, USD per 1,000 queries (with the router's own)")
    axes.set_ylabel("accuracy, % (macro)")
    axes.set_title(heading(title(table)), fontsize=8)
    axes.legend(
        title=f"router: AIQ\n(filled point: alpha {table.data.alpha:g})",
        fontsize=7,
        title_fontsize=7,
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
    )
    return save(figure, stem)


def _is_row(run: Run, table: Table, row: Comparison) -> bool:
    configuration = run.record.configuration
    row_is = (table.data.identity, row.router, row.settings_hash)
    return (configuration.data.identity, configuration.router, configuration.settings_hash) == row_is


def _draw_arms(axes: Axes, frontier: Frontier) -> None:
    arms, best = points_of(frontier.arms), points_of([frontier.best_accuracy])
    for points, style, face, name in (
        (upper_hull(arms), ":", BLACK, _with_aiq("single arms, mixed", arms_figures(frontier).aiq)),
        (arms, "D", "none", "single arm"),
        (best, "D", BLACK, "single arm, most accurate on train"),
    ):
        cost, accuracy = np.array(points).T
        axes.plot(
            cost,
            100 * accuracy,
            style,
            color=BLACK,
            markerfacecolor=face,
            markersize=4,
            linewidth=1,
            label=name,
            zorder=2,
        )


def _with_aiq(name: str, aiq: float | None) -> str:
    return name if aiq is None else f"{name}: {aiq:.3f}"
