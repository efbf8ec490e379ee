"""Cost against quality, as SVG and PNG. The same rows give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from recal_bench.evaluation.frontier import upper_hull
from recal_bench.experiments.records import Run
from recal_bench.reporting.figures.compare import TEST, Comparison, Table
from recal_bench.reporting.figures.frontier import arm_points
from recal_bench.reporting.figures.names import labels, title
from recal_bench.reporting.pictures.drawing import (
    BLACK,
    BLUE,
    GREY,
    PALE,
    SKY,
    VERMILION,
    blank_figure,
    framed,
    label,
    plain,
    save,
)
from recal_bench.reporting.pictures.placing import Name, write_names
from recal_bench.wording import some_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Box = tuple[tuple[float, float], tuple[float, float]]
"""The ends of the axis of cost, and of that of accuracy."""
Line = tuple[np.ndarray, np.ndarray]

_MANY = 20
_COST = "cost, USD per 1,000 queries (with the router's own)"
_MOST_ALIKE = 3
_ROOM = 0.08
_MOST_ARMS_BEYOND = 3
_CROWD = 5
_CROWDED = 0.15
"""So many routers, in such a part of the axis of accuracy below the best, are drawn once more, enlarged."""


class Point(NamedTuple):
    """Where a row or an arm is: USD per 1,000 queries, accuracy in %, and their intervals where they are known."""

    name: str
    kind: str
    cost: float
    accuracy: float
    cost_ci: tuple[float, float] | None = None
    accuracy_ci: tuple[float, float] | None = None


_STYLES = {
    "router": ("o", BLUE, BLUE),
    "baseline": ("s", VERMILION, VERMILION),
    "reference": ("D", BLACK, "white"),
    "arm": ("x", GREY, GREY),
}
_HOW = (
    "Crosses of lines: 95% intervals, each router's own; what tells two routers apart is their paired difference. "
    "An arrow at the border: beyond the axes, at (USD, %)."
)


def cost_quality(table: Table, runs: Sequence[Run], stem: Path) -> list[Path]:
    """Accuracy against cost (the router's own included) on test; no file where a cost is unknown in every row.

    The axes hold all routers; arms and references beyond them are arrows at the border. The dashed line is of those
    points that are worth as much as the baseline at the table's alpha, the other one the non-decreasing upper hull of
    the routers: what the best of them reach alone or mixed at random. Where many routers are close together they are
    drawn once more, enlarged. `runs` are the table's. Writes `stem`.svg and `stem`.png.
    """
    rows = [point for row, name in zip(table.rows, labels(table.rows), strict=True) if (point := _point(row, name))]
    if not rows:
        return []
    arms = [Point(name, "arm", cost, 100 * accuracy) for name, (cost, accuracy) in arm_points(runs, TEST).items()]
    drawn = [*rows, *arms]
    routers = [point for point in rows if point.kind != "reference"] or rows
    whole = box_of(routers)
    crowd = _crowd(routers, whole)
    figure = blank_figure((13 if crowd else 9.5, 6.8 + 0.1 * max(0, len(routers) - _MANY)))
    axes_P = figure.subplots(1, 2 if crowd else 1, squeeze=False)[0]
    boxes = [whole, box_of(crowd)] if crowd else [whole]
    hull, iso = np.array(upper_hull([(point.cost, point.accuracy) for point in routers])).T, _iso_utility(table, rows)
    for axes, (across, up) in zip(axes_P, boxes, strict=True):
        plain(axes)
        axes.set(xlim=across, ylim=up, xlabel=_COST, ylabel="accuracy, % (macro)")
        axes.plot(*hull, color=SKY, linewidth=1.2, zorder=1)
        if iso:
            axes.plot(*iso, "--", color=GREY, linewidth=1.2, zorder=1)
    if crowd:
        _outline(axes_P[0], axes_P[1], boxes[1])
    _key(axes_P[0], table, {point.kind for point in drawn}, iso is not None)
    framed(figure, "Accuracy against cost on test", title(table), _HOW)
    # The layout must not change once names have found their places.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    lines = [(hull[0], hull[1]), *([iso] if iso else [])]
    enlarged = [point for point in drawn if _inside(point, boxes[1])] if crowd else []
    told_twice = {"reference", "baseline"}
    elsewhere = [point for point in drawn if point.kind in told_twice or point not in enlarged]
    _fill(axes_P[0], elsewhere, drawn, lines, True)
    if crowd:
        _fill(axes_P[1], enlarged, drawn, lines, False)
    return save(figure, stem)


def _point(row: Comparison, name: str) -> Point | None:
    cost, accuracy = row.total_cost_usd_per_1k, row.accuracy_macro
    if cost is None or accuracy is None:
        return None
    kind = "reference" if row.reference else "baseline" if row.is_baseline else "router"
    low_high = row.accuracy_macro_ci
    ci = None if low_high is None else (100 * low_high[0], 100 * low_high[1])
    return Point(name, kind, cost, 100 * accuracy, row.total_cost_usd_per_1k_ci, ci)


def box_of(points: Sequence[Point]) -> Box:
    """The axes that hold these points, and of their intervals what is no longer than the points are apart."""
    return (
        _ends([p.cost for p in points], [p.cost_ci for p in points]),
        _ends([p.accuracy for p in points], [p.accuracy_ci for p in points]),
    )


def _ends(values: Sequence[float], intervals: Sequence[tuple[float, float] | None]) -> tuple[float, float]:
    known = [each for each in intervals if each is not None]
    least, most = min(values), max(values)
    span = (most - least) or max((high - low for low, high in known), default=0) or abs(most) or 1.0
    low = max(least - span / 4, min([least, *(low for low, _ in known)]))
    high = min(most + span / 4, max([most, *(high for _, high in known)]))
    return low - _ROOM * span, high + _ROOM * span


def _crowd(routers: Sequence[Point], whole: Box) -> list[Point]:
    """Routers as good as the best but for a part of the axis, where they are many; else none."""
    best, height = max(point.accuracy for point in routers), whole[1][1] - whole[1][0]
    close = [point for point in routers if best - point.accuracy <= _CROWDED * height]
    return close if _CROWD <= len(close) < len(routers) else []


def _inside(point: Point, box: Box | None) -> bool:
    if box is None:
        return False
    (left, right), (low, high) = box
    return left <= point.cost <= right and low <= point.accuracy <= high


def _iso_utility(table: Table, rows: Sequence[Point]) -> Line | None:
    """All that is worth as much as the baseline, from one end of any axis to the other: x and y.

    None where there is no such line: without costs, and where latency counts too.
    """
    base = next((point for point in rows if point.kind == "baseline"), None)
    if base is None or table.data.cost_ref is None or table.data.latency_price:
        return None
    far = 10 * max(point.cost for point in rows)
    cost = np.array([-far, far])
    return cost, base.accuracy + 100 * table.data.alpha / (1000 * table.data.cost_ref) * (cost - base.cost)


def _fill(axes: Axes, named: Sequence[Point], drawn: Sequence[Point], lines: Sequence[Line], beyond: bool) -> None:
    """Points with their intervals, and the names of some of them; of those beyond the axes arrows, where asked."""
    box = (axes.get_xlim(), axes.get_ylim())
    inside = [point for point in drawn if _inside(point, box)]
    n_routers = sum(point.kind == "router" for point in inside)
    crosses, faint = [], 0.35 if n_routers <= _MANY else 0.15
    for point in inside:
        marker, colour, face = _STYLES[point.kind]
        above, size = {"arm": (3, 5), "router": (4, 6)}.get(point.kind, (5, 6))
        axes.plot(
            *(point.cost, point.accuracy, marker), color=colour, markerfacecolor=face, markersize=size, zorder=above
        )
        for x, y in _cross(point):
            axes.plot(x, y, color=colour, alpha=faint, linewidth=1, zorder=2)
            crosses.append((np.array(x), np.array(y)))
    names = [_name(group) for group in _alike([point for point in named if point in inside])]
    outside = _told_beyond([point for point in named if not _inside(point, box)]) if beyond else []
    names += [_arrow(axes, group, box) for group in _alike(outside)]
    marks = [*((point.cost, point.accuracy) for point in inside), *((name.x, name.y) for name in names)]
    write_names(axes, names, marks, [*lines, *crosses])


def _cross(point: Point) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The intervals of a router, along and up: x and y of each."""
    if point.kind not in ("router", "baseline"):
        return []
    found = [] if point.cost_ci is None else [(point.cost_ci, (point.accuracy, point.accuracy))]
    return found if point.accuracy_ci is None else [*found, ((point.cost, point.cost), point.accuracy_ci)]


def _arrow(axes: Axes, alike: Sequence[Point], box: Box) -> Name:
    """An arrow at the border for what lies beyond it, and its name with the place where it is."""
    (left, right), (low, high) = box
    name, point = _name(alike), alike[0]
    x, y = min(max(point.cost, left), right), min(max(point.accuracy, low), high)
    arrow = "^" if point.accuracy > high else "v" if point.accuracy < low else "<" if point.cost < left else ">"
    face = _STYLES[point.kind][2]
    axes.plot(x, y, arrow, color=name.colour, markerfacecolor=face, markersize=6, clip_on=False, zorder=6)
    return Name(f"{name.text} ({point.cost:.3g}, {point.accuracy:.1f})", x, y, name.colour, name.size)


def _told_beyond(points: Sequence[Point]) -> list[Point]:
    """All references, and of the arms the most accurate."""
    arms = sorted((p for p in points if p.kind == "arm"), key=lambda p: (-p.accuracy, p.name))
    return [*(p for p in points if p.kind != "arm"), *arms[:_MOST_ARMS_BEYOND]]


def _alike(points: Sequence[Point]) -> list[list[Point]]:
    """Points by place: those that decide alike share one."""
    groups: dict[tuple[float, float], list[Point]] = {}
    for point in points:
        groups.setdefault((round(point.cost, 9), round(point.accuracy, 9)), []).append(point)
    return list(groups.values())


def _name(alike: Sequence[Point]) -> Name:
    kinds = [point.kind for point in alike]
    first = alike[min(range(len(kinds)), key=lambda at: list(_STYLES).index(kinds[at]))]
    colour = _STYLES["baseline" if "baseline" in kinds else first.kind][1]
    size = 7.0 if kinds == ["arm"] else 8.0
    return Name(some_of([label(point.name) for point in alike], _MOST_ALIKE), first.cost, first.accuracy, colour, size)


def _outline(axes: Axes, enlarged: Axes, box: Box) -> None:
    from matplotlib.patches import Rectangle

    (left, right), (low, high) = box
    axes.add_patch(Rectangle((left, low), right - left, high - low, fill=False, edgecolor=PALE, linewidth=1, zorder=1))
    axes.annotate("enlarged", (left, high), xytext=(0, 2), textcoords="offset points", fontsize=7, color=GREY)
    enlarged.set_title("enlarged", loc="left", fontsize=8, color=GREY)
    for spine in enlarged.spines.values():
        spine.set_visible(True)
        spine.set_color(PALE)


def _key(axes: Axes, table: Table, kinds: set[str], iso: bool) -> None:
    from matplotlib.lines import Line2D

    told = {"router": "router", "baseline": label(table.baseline), "reference": "reference", "arm": "single arm"}
    handles = [
        Line2D([], [], linestyle="none", marker=marker, color=colour, markerfacecolor=face, label=told[kind])
        for kind, (marker, colour, face) in _STYLES.items()
        if kind in kinds
    ]
    handles.append(Line2D([], [], color=SKY, linewidth=1.2, label="routers' upper hull"))
    if iso:
        worth = f"same utility as {label(table.baseline)} (alpha {table.data.alpha:g}); above: more"
        handles.append(Line2D([], [], color=GREY, linestyle="--", linewidth=1.2, label=worth))
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, -0.09), ncols=3, frameon=False, fontsize=8)
