"""What all pictures share: colours, axes, and files. The same figure gives the same bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from recal_bench.folders import written_whole
from recal_bench.wording import harmless

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

_NOT_IN_FONT = "?"
_NAME_WIDTH = 40
_LINE_HEIGHT = 1.25
_MARGIN, _LINE = 0.08, 0.145
"""Inches around a figure, and of a line of its small text."""
_Drawn = TypeVar("_Drawn")

# Okabe and Ito's palette, which people with any colour vision can tell apart (its yellow is too pale for lines).
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
LINES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
"""The colours of lines, in their order. No picture has more lines than that, and so none has a colour twice."""
GREY, PALE = "#6B6B6B", "#B8B8B8"


def shared_out(drawn: Sequence[_Drawn]) -> list[Sequence[_Drawn]]:
    """What is drawn as lines, in equal parts of at most as many as there are colours: a picture for each."""
    n_parts = -(-len(drawn) // len(LINES))
    ends = [round(part * len(drawn) / n_parts) for part in range(n_parts + 1)] if n_parts else []
    return [drawn[start:end] for start, end in pairwise(ends)]


def numbered(stem: Path, part: int) -> Path:
    """The stem of one of several pictures: the first has no number."""
    return stem if part == 0 else stem.with_name(f"{stem.name}-{part + 1}")


def svgs_of(paths: Sequence[Path]) -> list[Path]:
    """Of the files of pictures those that documents show."""
    return [path for path in paths if path.suffix == ".svg"]


def label(name: str, width: int = _NAME_WIDTH) -> str:
    """A name as it may stand in a picture: nothing in it is a formula, what the font lacks is replaced.

    Of a long one the middle is left out: where names are alike it is mostly their ends that tell them apart.
    """
    if len(name) > width:
        name = f"{name[: width - width // 3 - 3]}...{name[-(width // 3) :]}"
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    shown = "".join(
        letter if font.get_char_index(ord(letter)) else _NOT_IN_FONT for letter in harmless(name, "picture")
    )
    # A label that starts with an underscore is left out of legends.
    return f"\N{ZERO WIDTH SPACE}{shown}" if shown.startswith("_") else shown


def new_figure(inches: tuple[float, float]) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; no window, and no state that pictures share."""
    figure = blank_figure(inches)
    axes = figure.add_subplot()
    plain(axes)
    return figure, axes


def blank_figure(inches: tuple[float, float]) -> Figure:
    """A figure without axes, of this width and height."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes) -> None:
    """Two spines and a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)


def framed(figure: Figure, what: str, of: str, how: str = "") -> None:
    """What a figure shows, in bold, and of which outcomes, above it; below it how it is read."""
    width, height = figure.get_size_inches()
    per_line = int(15 * width)
    above = textwrap.wrap(label(of, len(of)), per_line)
    above = [*above[:2], *(["..."] if len(above) > 2 else [])]
    below = textwrap.wrap(label(how, len(how)), per_line)
    top, bottom = _MARGIN + 0.24 + _LINE * len(above), _MARGIN + _LINE * len(below)
    left = _MARGIN / width
    figure.text(left, 1 - _MARGIN / height, label(what, per_line), va="top", fontsize=11, fontweight="bold")
    figure.text(left, 1 - (_MARGIN + 0.24) / height, "\n".join(above), va="top", fontsize=8, color=GREY)
    figure.text(left, _MARGIN / height, "\n".join(below), va="bottom", fontsize=8, color=GREY)
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(left, bottom / height, 1 - 2 * left, 1 - (top + bottom) / height))


def spread(height_N: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights moved as little as possible (least squares) to be `gap` apart, in their order, from `low` to `high`.

    Where so many do not fit, they are as far apart as there is room.
    """
    from sklearn.isotonic import isotonic_regression

    if len(height_N) == 0:
        return []
    gap = min(gap, (high - low) / max(len(height_N) - 1, 1))
    order = np.argsort(np.asarray(height_N), kind="stable")
    steps = gap * np.arange(len(order))
    level = isotonic_regression(np.asarray(height_N)[order] - steps, y_min=low, y_max=high - steps[-1])
    moved = np.empty(len(order))
    moved[order] = level + steps
    return [float(value) for value in moved]


def names_beside(axes: Axes, ends: Sequence[tuple[float, float, str, str]], size: float = 8) -> list[Text]:
    """Names to the right of the axes, each as high as the point that it is for, or near; a thin line leads to it.

    `ends` are x, y, name and colour. The axes' limits must be final.
    """
    low, high = axes.get_ylim()
    figure = axes.get_figure()
    assert figure is not None
    inches = axes.get_window_extent().height / figure.dpi
    gap = (high - low) * size * _LINE_HEIGHT / 72 / inches
    heights = spread([y for _, y, *_ in ends], gap, low, high)
    across = axes.get_yaxis_transform()
    return [
        axes.annotate(
            name,
            xy=(x, y),
            xytext=(1.03, height),
            textcoords=across,
            color=colour,
            fontsize=size,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "shrinkA": 1, "shrinkB": 2},
        )
        for (x, y, name, colour), height in zip(ends, heights, strict=True)
    ]


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as `stem`.svg and `stem`.png; the same figure gives the same bytes."""
    import matplotlib

    paths = [stem.with_name(stem.name + suffix) for suffix in (".svg", ".png")]
    # Dates, versions and random identifiers would make every picture a new file.
    with matplotlib.rc_context({"svg.hashsalt": "recal-bench"}):
        with written_whole(paths[0]) as draft:
            figure.savefig(draft, format="svg", metadata={"Date": None, "Creator": None})
        with written_whole(paths[1]) as draft:
            figure.savefig(draft, format="png", dpi=150, metadata={"Software": None})
    return paths
