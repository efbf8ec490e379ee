"""Cost against quality, as SVG and PNG. The same rows give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recal_bench.evaluation.frontier import upper_hull
from recal_bench.reporting.figures.compare import Comparison, Table
from recal_bench.reporting.figures.names import labels, title
from recal_bench.reporting.pictures.drawing import BLACK, BLUE, SKY, VERMILION, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABEL_POINTS = 8
_MOST_NAMES = 20
"""Points beyond which routers are numbered, their names standing beside the picture."""


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
    for row, _, cost, accuracy in points:
        colour = BLACK if row.reference else VERMILION if row.is_baseline else BLUE
        marker = "D" if row.reference else "s" if row.is_baseline else "o"
        face = "none" if row.reference else colour
        axes.plot(cost, accuracy, marker, color=colour, markerfacecolor=face, markersize=6, zorder=3)
    axes.margins(0.08, 0.1)
    axes.set_xlabel("cost, USD per 1,000 queries (with the router's own)")
    axes.set_ylabel("accuracy, % (macro)")
    axes.set_title(title(table), fontsize=8)
    named = {name: name for _, name, *_ in points}
    if len(points) > _MOST_NAMES:
        routers = [name for row, name, *_ in points if not row.reference]
        named |= {name: str(number) for number, name in enumerate(routers, start=1)}
    _key(axes, table.baseline, any(row.reference for row, *_ in points), named)
    _place_labels(figure, axes, [(named[name], cost, accuracy) for _, name, cost, accuracy in points], hull)
    return save(figure, stem)


def _point(row: Comparison) -> tuple[float, float] | None:
    costs = (row.cost_usd_per_1k, row.router_cost_usd_per_1k)
    if row.accuracy_macro is None or costs[0] is None or costs[1] is None:
        return None
    return costs[0] + costs[1], 100 * row.accuracy_macro


def _key(axes: Axes, baseline: str, references: bool, named: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    kinds = [("router", "o", BLUE, BLUE), (baseline, "s", VERMILION, VERMILION)]
    kinds += [("reference", "D", BLACK, "none")] if references else []
    handles = [
        Line2D([], [], linestyle="none", marker=marker, color=colour, markerfacecolor=face, markersize=6, label=name)
        for name, marker, colour, face in kinds
    ]
    handles.append(Line2D([], [], color=SKY, linewidth=1.5, label="routers' upper hull"))
    numbers = [f"{short}  {name}" for name, short in named.items() if short != name]
    handles += [Line2D([], [], linestyle="none", label=label) for label in numbers]
    look: dict[str, Any] = {"fontsize": 7}
    if numbers:
        look = {"ncols": 2, "fontsize": 5.5, "columnspacing": 0.3, "handlelength": 0.8, "handletextpad": 0.4}
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), **look)


def _place_labels(
    figure: Figure, axes: Axes, points: Sequence[tuple[str, float, float]], line: Sequence[tuple[float, float]]
) -> None:
    """Write each name beside its point, at the nearest place that covers no point, no line and no name before it."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    centres = [axes.transData.transform((x, y)) for _, x, y in points]
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in centres]
    corners = [axes.transData.transform(corner) for corner in line]
    for start, end in pairwise(corners):
        along = np.linspace(start, end, 2 + int(np.hypot(*(end - start)) / 4))
        taken += [Bbox.from_bounds(x - 1, y - 1, 2, 2) for x, y in along]
    frame = axes.get_window_extent()
    for name, x, y in sorted(points, key=lambda point: (point[2], point[1], point[0])):
        note = axes.annotate(
            name,
            (x, y),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=7.5,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
        )
        best: tuple[float, tuple[float, float], Any] | None = None
        for dx, dy in _places():
            note.set_position((dx, dy))
            note.set_horizontalalignment("left" if dx > 1 else "right" if dx < -1 else "center")
            note.set_verticalalignment("bottom" if dy > 1 else "top" if dy < -1 else "center")
            note.update_positions(renderer)
            # An annotation's own extent holds its arrow too, and so always the point.
            box = Text.get_window_extent(note, renderer).padded(1.5)
            covered = sum(_shared_area(box, other) for other in taken) + _outside(box, frame)
            if best is None or covered < best[0]:
                best = (covered, (dx, dy), (note.get_horizontalalignment(), note.get_verticalalignment(), box))
            if covered == 0:
                break
        assert best is not None
        _, position, (horizontal, vertical, box) = best
        note.set_position(position)
        note.set_horizontalalignment(horizontal)
        note.set_verticalalignment(vertical)
        if max(map(abs, position)) <= _LABEL_POINTS:
            note.arrow_patch.set_visible(False)  # type: ignore[union-attr]
        taken.append(box)


def _places() -> list[tuple[float, float]]:
    """Offsets in points around a point, near ones first."""
    directions = [(1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7)]
    return [(d * dx, d * dy) for d in (_LABEL_POINTS, 16, 26, 38, 52, 70) for dx, dy in directions]


def _shared_area(one: Any, other: Any) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(width, 0) * max(height, 0))


def _outside(box: Any, frame: Any) -> float:
    return float(box.width * box.height - _shared_area(box, frame))
