"""Every router's difference to the baseline as a forest plot, in SVG and PNG. The same rows give the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from recal_bench.evaluation.statistics import LEVEL
from recal_bench.reporting.figures.compare import Table
from recal_bench.reporting.figures.differences import ACCURACY, Difference
from recal_bench.reporting.figures.names import labels, title
from recal_bench.reporting.pictures.drawing import BLACK, BLUE, GREY, PALE, VERMILION, framed, label, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_ROW = 0.27
_AROUND = 1.9
"""Inches of a row, and of what is above and below all of them."""


class _Line(NamedTuple):
    name: str
    found: Difference
    reference: bool
    scale: float

    @property
    def value(self) -> float:
        return self.scale * self.found.difference

    @property
    def ends(self) -> tuple[float, float]:
        low, high = self.found.ci or (self.found.difference, self.found.difference)
        return self.scale * low, self.scale * high

    @property
    def told_apart(self) -> bool:
        return self.found.p_adjusted is not None and self.found.p_adjusted < 1 - LEVEL

    @property
    def colour(self) -> str:
        if self.reference:
            return BLACK
        return GREY if not self.told_apart else BLUE if self.value > 0 else VERMILION


def differences(table: Table, stem: Path) -> list[Path]:
    """The paired differences to the baseline with their 95% intervals, the best router first, references below.

    In utility (the expected one where it is known), or in points of accuracy where no utility is reported. The axis
    holds every router; what of an interval, or which reference, lies beyond it is an arrow at the border, and all
    numbers stand beside. No file where no row has a difference. Writes `stem`.svg and `stem`.png.
    """
    lines = _lines(table)
    if not lines:
        return []
    routers = sum(not line.reference for line in lines)
    figure, axes = new_figure((9.5, _AROUND + _ROW * len(lines)))
    axes.grid(axis="y", alpha=0)
    low, high = _reach(lines)
    axes.set_xlim(low, high)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    for row, line in enumerate(lines):
        axes.axhline(row, color=PALE, linewidth=0.4, zorder=0)
        _draw(axes, row, line, low, high)
    axes.axvline(0, color=BLACK, linewidth=1, zorder=1)
    if 0 < routers < len(lines):
        axes.axhline(routers - 0.5, color=BLACK, linewidth=0.8, clip_on=False)
    axes.set_yticks(range(len(lines)), [label(line.name) for line in lines], fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    base, metric = label(table.baseline), lines[0].found.metric
    unit = ", points" if metric == ACCURACY else ""
    axes.set_xlabel(f"worse than {base}  $\\leftarrow$  {metric} on test{unit}  $\\rightarrow$  better", fontsize=9)
    _numbers(axes, lines)
    _key(axes, lines, _ROW * len(lines))
    framed(figure, f"Difference of {metric} to {table.baseline}", title(table), _HOW)
    return save(figure, stem)


_HOW = (
    "Paired by query. p: adjusted over the routers of the table (Holm); filled: below .05. "
    "An arrow: more of it lies beyond the axis."
)


def _lines(table: Table) -> list[_Line]:
    lines = []
    for row, name in zip(table.rows, labels(table.rows), strict=True):
        if (found := row.vs_baseline or row.accuracy_vs_baseline) is not None:
            lines.append(_Line(name, found, row.reference, 100 if found.metric == ACCURACY else 1))
    if not lines:
        return []
    usual = lines[0].found.metric
    lines = [
        line if line.found.metric == usual else line._replace(name=f"{line.name} ({line.found.metric})")
        for line in lines
    ]
    return sorted(lines, key=lambda line: (line.reference, -line.value, line.name))


def _reach(lines: list[_Line]) -> tuple[float, float]:
    """The axis: all routers and 0, and of their intervals what is no longer than that on either side."""
    drawn = [line for line in lines if not line.reference] or lines
    least, most = min(0.0, *(line.value for line in drawn)), max(0.0, *(line.value for line in drawn))
    span = (most - least) or max((line.ends[1] - line.ends[0] for line in drawn), default=0) or 1.0
    low = max(least - span, min(least, *(line.ends[0] for line in drawn)))
    high = min(most + span, max(most, *(line.ends[1] for line in drawn)))
    room = 0.04 * ((high - low) or span)
    return low - room, high + room


def _draw(axes: Axes, row: int, line: _Line, low: float, high: float) -> None:
    ends = line.ends
    inside = max(low, ends[0]), min(high, ends[1])
    if inside[0] <= inside[1]:
        axes.plot(inside, (row, row), color=line.colour, linewidth=1.6, solid_capstyle="butt", zorder=3)
    if low <= line.value <= high:
        face = line.colour if line.told_apart else "white"
        marker = "D" if line.reference else "o"
        axes.plot(line.value, row, marker, color=line.colour, markerfacecolor=face, markersize=6, zorder=4)
    for at, beyond, arrow in ((low, ends[0] < low, "<"), (high, ends[1] > high, ">")):
        if beyond:
            axes.plot(at, row, arrow, color=line.colour, markersize=6, clip_on=False, zorder=4)


def _numbers(axes: Axes, lines: list[_Line]) -> None:
    """Difference, interval and p, right of the axes."""
    spec = "+.2f" if lines[0].found.metric == ACCURACY else "+.3f"
    columns = [("difference", 62), ("95% interval", 158), ("p", 196)]

    def write(at: int, row: float, text: str, color: str = BLACK, weight: str = "normal") -> None:
        axes.annotate(
            text,
            xy=(1, row),
            xycoords=axes.get_yaxis_transform(),
            xytext=(at, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=8,
            color=color,
            fontweight=weight,
            annotation_clip=False,
        )

    for name, at in columns:
        write(at, -0.95, name, GREY)
    for row, line in enumerate(lines):
        interval = "" if line.found.ci is None else f"[{line.ends[0]:{spec}}, {line.ends[1]:{spec}}]"
        p = line.found.p_adjusted
        shown = "" if p is None else "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")
        for text, (_, at) in zip((f"{line.value:{spec}}", interval, shown), columns, strict=True):
            write(at, row, text.replace("-", "\N{MINUS SIGN}"), weight="bold" if line.told_apart else "normal")


def _key(axes: Axes, lines: list[_Line], inches: float) -> None:
    from matplotlib.lines import Line2D

    def mark(marker: str, colour: str, face: str, name: str) -> Line2D:
        return Line2D([], [], color=colour, marker=marker, markerfacecolor=face, markersize=6, label=name)

    kinds = {
        BLUE: mark("o", BLUE, BLUE, "better"),
        VERMILION: mark("o", VERMILION, VERMILION, "worse"),
        GREY: mark("o", GREY, "white", "cannot be told apart"),
        BLACK: mark("D", BLACK, "white", "reference, which no router can be"),
    }
    there = {line.colour for line in lines}
    handles = [handle for colour, handle in kinds.items() if colour in there]
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.5 / inches),
        ncols=len(handles),
        frameon=False,
        fontsize=8,
    )
