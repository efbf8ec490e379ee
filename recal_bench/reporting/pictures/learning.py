"""How much log is enough, as curves in SVG and PNG."""

from __future__ import annotations

from pathlib import Path

from recal_bench.reporting.figures.learning import Learning
from recal_bench.reporting.pictures.drawing import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    blank_figure,
    heading,
    label,
    plain,
    save,
)

_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)


def draw(found: Learning, stem: Path) -> list[Path]:
    """One curve for each router, in `stem`.svg and `stem`.png: six to a panel, the others in grey behind."""
    n_panels = -(-len(found.routers) // len(_COLOURS))
    figure = blank_figure((4.6 * min(n_panels, 3), 3.6 * -(-n_panels // 3)))
    axes_P = figure.subplots(-(-n_panels // 3), min(n_panels, 3), squeeze=False, sharex=True, sharey=True).ravel()
    for panel, axes in enumerate(axes_P):
        plain(axes)
        axes.set_xscale("log")
        mine = range(panel * len(_COLOURS), min((panel + 1) * len(_COLOURS), len(found.routers)))
        for row in range(len(found.routers)):
            if row not in mine:
                axes.plot(found.train_P, found.value_RP[row], color=BLACK, alpha=0.12, linewidth=0.8)
        for colour, row in zip(_COLOURS, mine, strict=False):
            axes.plot(
                found.train_P,
                found.value_RP[row],
                color=colour,
                marker="o",
                markersize=3,
                label=label(found.routers[row]),
            )
            axes.fill_between(
                found.train_P, found.low_RP[row], found.high_RP[row], color=colour, alpha=0.12, linewidth=0
            )
        axes.set_xticks(found.train_P, [f"{train:,}" for train in found.train_P])
        axes.minorticks_off()
        axes.set_xlabel("train queries")
        axes.set_ylabel(f"{found.what}, test")
        if mine:
            axes.legend(fontsize=7)
    figure.suptitle(heading(f"{found.data.name}{', simulated' if found.data.simulated else ''}"), fontsize=9)
    return save(figure, stem)
