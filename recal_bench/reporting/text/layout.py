"""How tables and paragraphs are laid out: for the terminal, as wide as it is, and in markdown."""

from __future__ import annotations

import io
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence

from tabulate import tabulate

from recal_bench.wording import harmless

WIDTH = 120
"""Columns where the output is not a terminal."""
_GAP = 2
_BREAKS = re.compile(r"[\t\n\r\f\v]")
_BARE_PIPE = re.compile(r"(?<!\\)\|")


def width() -> int:
    """Columns that text may take: the terminal's, or `WIDTH` where the output goes elsewhere."""
    return shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH


def filled(text: str, first: str = "", others: str = "") -> str:
    """A paragraph broken into lines; the first starts with `first`, the others with `others`."""
    return textwrap.fill(
        harmless(_BREAKS.sub(" ", text)),
        width(),
        initial_indent=first,
        subsequent_indent=others,
        break_on_hyphens=False,
    )


def markdown_table(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in markdown: names to the left, figures to the right. Foreign text in it is escaped by the caller."""
    escaped = [[_BARE_PIPE.sub(r"\\|", harmless(cell)) for cell in line] for line in [headers, *lines]]
    align = ("left", *["right"] * (len(headers) - 1))
    return tabulate(escaped[1:], escaped[0], "pipe", disable_numparse=True, colalign=align)


def terminal_table(
    headers: Sequence[str],
    lines: Sequence[Sequence[str]],
    ranks: Sequence[int] = (),
    n_below: int = 0,
    left: Sequence[int] = (0,),
) -> str:
    """A table for the terminal, at most `width` columns wide. The last `n_below` lines are put below a rule.

    Where not all columns fit, those of the highest `ranks` (one a column; without ranks: none) are left out first and
    named below the table. Rank 0 always stays: if that alone is too wide, cells are broken. The columns `left` are
    aligned to the left.
    """
    from rich.box import Box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    headers, lines = list(map(harmless, headers)), [list(map(harmless, line)) for line in lines]
    kept, left_out = list(range(len(headers))), list[str]()
    needed = [max(cell_len(line[index]) for line in [headers, *lines]) + _GAP for index in kept]
    while sum(needed[index] for index in kept) - _GAP > width() and ranks:
        last = max(kept, key=lambda index: ranks[index])
        if ranks[last] == 0:
            break
        kept.remove(last)
        left_out.append(headers[last])
    # Rules below the headers and between sections, and nothing else.
    rules = Box("\n".join(["    ", "    ", " -- ", "    ", " -- ", "    ", "    ", "    ", ""]), ascii=True)
    table = Table(box=rules, show_edge=False, pad_edge=False, collapse_padding=True, header_style="")
    for index in kept:
        table.add_column(headers[index], justify="left" if index in left else "right", overflow="fold")
    for number, line in enumerate(lines):
        if n_below and number == len(lines) - n_below:
            table.add_section()
        table.add_row(*(line[index] for index in kept))
    file = io.StringIO()
    Console(file=file, width=width(), color_system=None, markup=False, highlight=False, emoji=False).print(table)
    text = "\n".join(line.rstrip() for line in file.getvalue().splitlines())
    if left_out:
        text += "\n" + filled(
            f"Left out to fit {width()} columns (--format markdown, csv and json have them): {', '.join(left_out)}"
        )
    return text
