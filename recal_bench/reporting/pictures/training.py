"""Training curves of many routers and seeds, as SVG and PNG. The same logs give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recal_bench.evaluation.stability import Curve, aligned
from recal_bench.reporting.pictures.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILION,
    blank_figure,
    heading,
    label,
    plain,
    save,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

PANELS = {
    "validation_utility": "utility, validation (dot: kept)",
    "validation_score": "accuracy, validation",
    "validation_cost_usd_per_1k": "USD per 1,000, validation",
    "entropy": "entropy, nats",
    "gradient_norm": "gradient norm",
}
_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE)
# Columns logged at every step are averaged over this many stretches: single steps are noise that hides others.
_STRETCHES = 40
_ACROSS = 3


def training_curves(named: Sequence[tuple[str, Sequence[Mapping[str, Curve]]]], title: str, stem: Path) -> list[Path]:
    """Small multiples: one block for at most five routers, in it one panel for each of `PANELS` that any log holds.

    Of each router the mean of its seeds in a band from the lowest to the highest; the other blocks' routers in grey
    behind, on the same axes, so that every router is seen against all. A dot is at the mean step whose policy was kept.
    `named` are the labels with each seed's columns.
    Writes `stem`.svg and `stem`.png; nothing where no log holds any column.
    """
    columns = [name for name in PANELS if any(name in curves for _, seeds in named for curves in seeds)]
    if not columns:
        return []
    n_blocks = -(-len(named) // len(_COLOURS))
    blocks = [[named[index] for index in block] for block in np.array_split(np.arange(len(named)), n_blocks)]
    n_rows = -(-(len(columns) + 1) // _ACROSS)
    figure = blank_figure((3.2 * _ACROSS, 2.3 * n_rows * n_blocks + 0.4))
    axes_BP = figure.subplots(n_rows * n_blocks, _ACROSS, squeeze=False).reshape(n_blocks, -1)
    for block, axes_P in zip(blocks, axes_BP, strict=True):
        others = [seeds for each in blocks if each is not block for _, seeds in each]
        for column, axes, first in zip(columns, axes_P, axes_BP[0], strict=False):
            _panel(axes, column, block, others)
            if axes is not first:
                axes.sharex(first)
                axes.sharey(first)
        for axes in axes_P[len(columns) :]:
            axes.set_axis_off()
        axes_P[len(columns)].legend(
            handles=_key(block), title="router (seeds)", fontsize=8, title_fontsize=8, loc="center"
        )
    figure.suptitle(heading(title), fontsize=9)
    return save(figure, stem)


def _panel(
    axes: Axes,
    column: str,
    block: Sequence[tuple[str, Sequence[Mapping[str, Curve]]]],
    others: Sequence[Sequence[Mapping[str, Curve]]],
) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    plain(axes)
    axes.tick_params(labelsize=7)
    axes.set_title(PANELS[column], fontsize=8)
    axes.set_xlabel("training step", fontsize=7)
    if column == "gradient_norm":
        # The default would write 9 x 10^-1 for .9, too wide beside another panel.
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    for seeds in others:
        if drawn := _seeds(seeds, column):
            axes.plot(drawn[0], drawn[1].mean(axis=0), color="0.82", linewidth=0.8, zorder=1)
    for (_, seeds), colour in zip(block, _COLOURS, strict=False):
        if drawn := _seeds(seeds, column):
            step_N, value_SN = drawn
            axes.plot(step_N, value_SN.mean(axis=0), color=colour, linewidth=1.4, zorder=3)
            axes.fill_between(
                step_N, value_SN.min(axis=0), value_SN.max(axis=0), color=colour, alpha=0.15, linewidth=0, zorder=2
            )
            if column == "validation_utility" and all("kept_step" in curves for curves in seeds):
                kept = float(np.mean([curves["kept_step"].value_N[-1] for curves in seeds]))
                axes.plot(
                    kept, np.interp(kept, step_N, value_SN.mean(axis=0)), "o", color=colour, markersize=4, zorder=4
                )


def _seeds(seeds: Sequence[Mapping[str, Curve]], column: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The steps that all seeds logged and their values, `[N]` and `[S, N]`, shortened to `_STRETCHES`."""
    curves = [curves[column] for curves in seeds if column in curves]
    if not curves:
        return None
    step_N, value_SN = aligned(curves)
    if not len(step_N):
        return None
    if len(step_N) > 2 * _STRETCHES:
        stretches = np.array_split(np.arange(len(step_N)), _STRETCHES)
        step_N = np.array([step_N[part].mean() for part in stretches])
        value_SN = np.stack([value_SN[:, part].mean(axis=1) for part in stretches], axis=1)
    return step_N, value_SN


def _key(block: Sequence[tuple[str, Sequence[Mapping[str, Curve]]]]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=colour, linewidth=1.4, label=f"{label(name)} ({len(seeds)})")
        for (name, seeds), colour in zip(block, _COLOURS, strict=False)
    ]
