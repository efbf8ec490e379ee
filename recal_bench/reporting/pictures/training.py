"""Training curves of many routers and seeds, as SVG and PNG. The same logs give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from recal_bench.evaluation.stability import Curve, aligned
from recal_bench.reporting.pictures.drawing import LINES, blank_figure, framed, label, numbered, plain, save, shared_out

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = {
    "validation_utility": "utility on validation",
    "validation_sampled_utility": "utility on validation, replies sampled",
    "validation_score": "accuracy on validation",
    "validation_cost_usd_per_1k": "USD per 1,000 queries, validation",
    "entropy": "entropy of the policy, nats",
    "gradient_norm": "gradient norm",
}
# Columns logged at every step are averaged over this many stretches: single steps are noise that hides others.
_STRETCHES = 40
_ACROSS = 3
_FLAT = 1e-9
_HOW = (
    "Line: mean of the seeds; band: from the lowest to the highest seed; dot: the mean step whose policy was kept. "
    "Columns logged at every step are averaged over stretches."
)

Seeds: TypeAlias = Sequence[Mapping[str, Curve]]
_Drawn: TypeAlias = tuple[np.ndarray, np.ndarray]


def training_curves(named: Sequence[tuple[str, Seeds]], title: str, stem: Path) -> list[Path]:
    """Small multiples: a panel for each of `PANELS` that varies in any log, in it the routers that log it.

    Of each router the mean of its seeds in a band from the lowest to the highest; a dot is at the mean step whose
    policy was kept. More routers than colours are shared out over several pictures, whose panels have the same axes.
    `named` are the labels with each seed's columns.
    Writes `stem`.svg and `stem`.png, then `stem`-2.svg, ...; nothing where no log holds a column that varies.
    """
    drawn = [
        (
            f"{name} ({len(seeds)})",
            seeds,
            {name: found for name in PANELS if (found := _seeds(seeds, name)) is not None},
        )
        for name, seeds in named
    ]
    panels = [name for name in PANELS if _varies([curves[name] for *_, curves in drawn if name in curves])]
    drawn = [each for each in drawn if any(name in each[2] for name in panels)]
    limits = {name: _limits([curves[name] for *_, curves in drawn if name in curves], name) for name in panels}
    paths, parts = list[Path](), shared_out(drawn)
    for number, part in enumerate(parts):
        across = min(len(panels) + 1, _ACROSS) if len(panels) != 3 else 2
        n_rows = -(-(len(panels) + 1) // across)
        figure = blank_figure((3.4 * max(across, 2), 2.5 * n_rows + 0.8))
        axes_P = figure.subplots(n_rows, across, squeeze=False).ravel()
        for axes, panel in zip(axes_P, panels, strict=False):
            _panel(axes, panel, part)
            axes.set_xlim(*limits[panel][0])
            axes.set_ylim(*limits[panel][1])
        for axes in axes_P[len(panels) :]:
            axes.set_axis_off()
        _key(axes_P[len(panels)], [name for name, *_ in part])
        which = f" ({number + 1} of {len(parts)})" if len(parts) > 1 else ""
        framed(figure, f"Training curves{which}", title, _HOW)
        paths += save(figure, numbered(stem, number))
    return paths


def _panel(axes: Axes, panel: str, part: Sequence[tuple[str, Seeds, Mapping[str, _Drawn]]]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    plain(axes)
    axes.tick_params(labelsize=8)
    axes.set_title(PANELS[panel], fontsize=9, loc="left")
    axes.set_xlabel("training step", fontsize=8)
    if panel == "gradient_norm":
        # The default would write 9 x 10^-1 for .9, too wide beside another panel.
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    for (_, seeds, curves), colour in zip(part, LINES, strict=False):
        if panel not in curves:
            continue
        step_N, value_SN = curves[panel]
        mean_N = value_SN.mean(axis=0)
        axes.plot(step_N, mean_N, color=colour, linewidth=1.5, zorder=3)
        if len(value_SN) > 1:
            ends = value_SN.min(axis=0), value_SN.max(axis=0)
            axes.fill_between(step_N, *ends, color=colour, alpha=0.15, linewidth=0, zorder=2)
        if panel == "validation_utility" and all("kept_step" in each for each in seeds):
            kept = float(np.mean([each["kept_step"].value_N[-1] for each in seeds]))
            axes.plot(kept, np.interp(kept, step_N, mean_N), "o", color=colour, markersize=5, zorder=4)


def _seeds(seeds: Seeds, column: str) -> _Drawn | None:
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


def _varies(curves: Sequence[_Drawn]) -> bool:
    """Whether any of them changes in the course of the training."""
    return any(np.ptp(value_SN, axis=1).max() > _FLAT * max(1.0, np.abs(value_SN).max()) for _, value_SN in curves)


def _limits(curves: Sequence[_Drawn], column: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """The axes that hold all these curves: of the steps, and of the values."""
    steps, values = (np.concatenate([each[part].ravel() for each in curves]) for part in (0, 1))
    low, high = float(values.min()), float(values.max())
    if column == "gradient_norm" and (values > 0).any():
        low = float(values[values > 0].min())
        room = (high / low) ** 0.06
        return _widened(float(steps.min()), float(steps.max())), (low / room, high * room)
    return _widened(float(steps.min()), float(steps.max())), _widened(low, high)


def _widened(low: float, high: float) -> tuple[float, float]:
    room = 0.05 * (high - low) or 0.5
    return low - room, high + room


def _key(axes: Axes, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, linewidth=2, label=label(name)) for name, colour in zip(names, LINES, strict=False)
    ]
    axes.legend(
        handles=handles, title="router (seeds)", fontsize=9, title_fontsize=9, loc="upper left", frameon=False,
        alignment="left",
    )  # fmt: skip
