"""How much log is enough, as curves in SVG and PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recal_bench.reporting.figures.learning import Learning, told
from recal_bench.reporting.pictures.drawing import (
    LINES,
    framed,
    label,
    names_beside,
    new_figure,
    numbered,
    save,
    shared_out,
)

_HOW = "Band: 95% interval. Names are at the ends of the lines, in the order of what is reached with most labels."


def draw(found: Learning, stem: Path) -> list[Path]:
    """One curve for each router, its name at the end, in `stem`.svg and `stem`.png.

    More routers than colours are shared out over several pictures with the same axes: `stem`-2.svg, ...
    """
    parts, paths = shared_out(range(len(found.routers))), list[Path]()
    known = np.concatenate([each[np.isfinite(each)] for each in (found.value_RP, found.low_RP, found.high_RP)])
    room = 0.05 * (float(np.ptp(known)) or 1.0) if len(known) else 0.0
    for number, part in enumerate(parts):
        figure, axes = new_figure((9.5, 5.2))
        axes.set_xscale("log")
        ends = []
        for colour, row in zip(LINES, part, strict=False):
            value_P = found.value_RP[row]
            axes.plot(found.count_P, value_P, color=colour, marker="o", markersize=4, linewidth=1.6)
            axes.fill_between(
                found.count_P, found.low_RP[row], found.high_RP[row], color=colour, alpha=0.12, linewidth=0
            )
            if len(there := np.flatnonzero(np.isfinite(value_P))):
                last = there[-1]
                ends.append((found.count_P[last], float(value_P[last]), label(found.routers[row]), colour))
        axes.set_xticks(found.count_P, [f"{count:,}" for count in found.count_P])
        axes.minorticks_off()
        if len(known):
            axes.set_ylim(float(known.min()) - room, float(known.max()) + room)
        axes.set_xlabel(found.counted)
        axes.set_ylabel(f"{found.what}, test")
        which = f" ({number + 1} of {len(parts)})" if len(parts) > 1 else ""
        of = ", ".join([found.data.name, *told(found)])
        framed(figure, f"How much log is enough{which}", of, _HOW)
        figure.draw_without_rendering()
        names_beside(axes, ends)
        paths += save(figure, numbered(stem, number))
    return paths
