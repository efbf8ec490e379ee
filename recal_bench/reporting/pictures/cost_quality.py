"""Cost against quality, as SVG and PNG. The same rows give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recal_bench.evaluation.frontier import upper_hull
from recal_bench.reporting.figures.compare import Comparison, Table
from recal_bench.reporting.figures.names import labels, title
from recal_bench.reporting.pictures.drawing import BLACK, BLUE, SKY, VERMILION, heading, label, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_ROUNDS = 500
_ALONG = 200
_MOST_NAMES = 20
"""Points beyond which only the corners of the hull, the baseline and the references are named."""


def cost_quality(table: Table, stem: Path) -> list[Path]:
    """Accuracy against cost (the router's own included) on test; no file where a cost is unknown in every row.

    Filled points are routers, hollow ones references. The line is the non-decreasing upper hull of the routers: what
    the best of them reach alone or mixed at random. Writes `stem`.svg and `stem`.png.
    """
    points = [
        (row, name, *point)
        for row, name in zip(table.rows, labels(table.rows), strict=True)
        if (point := _point(row)) is not None
    ]
    if not points:
        return []
    figure, axes = new_figure()
    hull = upper_hull([(cost, accuracy) for row, _, cost, accuracy in points if not row.reference])
    axes.plot(*zip(*hull, strict=True), color=SKY, linewidth=1.5, zorder=1)
    marks = []
    for row, _, cost, accuracy in points:
        colour = BLACK if row.reference else VERMILION if row.is_baseline else BLUE
        marker = "D" if row.reference else "s" if row.is_baseline else "o"
        face = "none" if row.reference else colour
        above = 4 if row.reference or row.is_baseline else 3
        marks += axes.plot(cost, accuracy, marker, color=colour, markerfacecolor=face, markersize=6, zorder=above)
    axes.margins(0.08, 0.1)
    axes.set_xlabel("cost, USD per 1,000 queries (with the router's own)")
    axes.set_ylabel("accuracy, % (macro)")
    axes.set_title(heading(title(table)), fontsize=8)
    _key(axes, table.baseline, any(row.reference for row, *_ in points))
    # Names of all points would cover each other, or the points.
    corners = set(hull)
    told = [
        (name, cost, accuracy)
        for row, name, cost, accuracy in points
        if len(points) <= _MOST_NAMES or row.reference or row.is_baseline or (cost, accuracy) in corners
    ]
    _write_names(figure, axes, told, marks, hull)
    return save(figure, stem)


def _point(row: Comparison) -> tuple[float, float] | None:
    costs = (row.cost_usd_per_1k, row.router_cost_usd_per_1k)
    if row.accuracy_macro is None or costs[0] is None or costs[1] is None:
        return None
    return costs[0] + costs[1], 100 * row.accuracy_macro


def _key(axes: Axes, baseline: str, references: bool) -> None:
    from matplotlib.lines import Line2D

    kinds = [("router", "o", BLUE, BLUE), (label(baseline), "s", VERMILION, VERMILION)]
    kinds += [("reference", "D", BLACK, "none")] if references else []
    handles = [
        Line2D([], [], linestyle="none", marker=marker, color=colour, markerfacecolor=face, markersize=6, label=name)
        for name, marker, colour, face in kinds
    ]
    handles.append(Line2D([], [], color=SKY, linewidth=1.5, label="routers' upper hull"))
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=7)


def _write_names(
    figure: Figure,
    axes: Axes,
    told: Sequence[tuple[str, float, float]],
    marks: Sequence[Line2D],
    hull: Sequence[tuple[float, float]],
) -> None:
    """Write each name beside its point, off the other marks and the hull; a line leads back from one that is far."""
    from adjustText import adjust_text

    # The layout must not change once names have found their places.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    # Above and to the left of the hull there are no routers.
    sides = ["right" if (cost, accuracy) in hull else "left" for _, cost, accuracy in told]
    texts = [
        axes.text(cost, accuracy, label(name), fontsize=7.5, zorder=5, ha=side, va="bottom")
        for (name, cost, accuracy), side in zip(told, sides, strict=True)
    ]
    at = np.linspace(0, len(hull) - 1, _ALONG)
    along_XY = np.stack([np.interp(at, np.arange(len(hull)), each) for each in zip(*hull, strict=True)])
    adjust_text(
        texts,
        *along_XY,
        objects=marks,
        target_x=[cost for _, cost, _ in told],
        target_y=[accuracy for *_, accuracy in told],
        ax=axes,
        expand=(1.3, 2.2),
        force_static=(0.2, 0.4),
        force_text=(0.3, 0.6),
        force_pull=(0.005, 0.005),
        iter_lim=_ROUNDS,
        arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6},
    )
