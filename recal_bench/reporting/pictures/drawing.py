"""What all pictures share: colours, axes, and files. The same figure gives the same bytes."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from recal_bench.folders import written_whole
from recal_bench.wording import harmless

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NOT_IN_FONT = "?"

# Okabe and Ito's palette, which people with any colour vision can tell apart (its yellow is too pale for lines).
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip


def label(name: str) -> str:
    """A name as it may stand in a picture: nothing in it is a formula, and what the font lacks is replaced."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    shown = "".join(
        letter if font.get_char_index(ord(letter)) else _NOT_IN_FONT for letter in harmless(name, "picture")
    )
    # A label that starts with an underscore is left out of legends.
    return f"\N{ZERO WIDTH SPACE}{shown}" if shown.startswith("_") else shown


def heading(text: str, width: int = 110) -> str:
    """A title in as many lines as it takes, the last of them shortened."""
    lines = textwrap.wrap(label(text), width)
    return "\n".join([*lines[:2], *(["..."] if len(lines) > 2 else [])])


def new_figure() -> tuple[Figure, Axes]:
    """A figure with one pair of axes; no window, and no state that pictures share."""
    figure = blank_figure((8, 4.8))
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
