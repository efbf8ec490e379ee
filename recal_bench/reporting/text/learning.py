"""How much log is enough, as a table."""

from __future__ import annotations

import numpy as np

from recal_bench.reporting.figures.learning import QUERIES, Learning, told
from recal_bench.reporting.text.layout import markdown_table, terminal_table
from recal_bench.wording import harmless, place_of


def as_table(found: Learning, markdown: bool = False) -> str:
    """The values by router and number of train queries, or of labels of each, with intervals."""
    place = place_of(markdown)
    lines = [
        [harmless(name, place), *(_cell(*of_point) for of_point in zip(*of_router, strict=True))]
        for name, *of_router in zip(found.routers, found.value_RP, found.low_RP, found.high_RP, strict=True)
    ]
    source = ", ".join([harmless(found.data.name, place), *told(found)])
    by = f"{found.counted} (share)" if found.counted == QUERIES else found.counted
    title = f"{found.what.capitalize()} on test by number of {by}, {source}"
    heads = ["router", *found.heading_P]
    # Of many numbers those of the largest share say most.
    ranks = [0, *reversed(range(len(found.heading_P)))]
    grid = markdown_table(heads, lines) if markdown else terminal_table(heads, lines, ranks)
    return f"{'### ' if markdown else ''}{title}\n\n{grid}"


def _cell(value: float, low: float, high: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.3f}" if np.isnan(low) else f"{value:.3f} [{low:.3f}, {high:.3f}]"
