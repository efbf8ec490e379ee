"""How tables and paragraphs are laid out: for the terminal, as wide as it is, and in markdown."""

from __future__ import annotations

import io
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from os import environ

from tabulate import tabulate

from recal_bench.wording import harmless

WIDTH = 120
"""Columns of a paragraph where the output is not a terminal. Tables are as wide there as they have to be."""
SHOWN_BY = "a wider terminal or a pipe shows them"
SHOWN_BY_FORMATS = "a wider terminal, a pipe and --format csv show them"
_ENDLESS = 100_000
_LEAST_SHOWN = 12
_LEFT_OUT = "..."
_GAP = 2
_BREAKS = re.compile(r"[\t\n\r\f\v]")
_BARE_PIPE = re.compile(r"(?<!\\)\|")


def width() -> int:
    """Columns that a paragraph may take: those of the terminal, or `WIDTH` where the output goes elsewhere."""
    return _terminal_columns() or WIDTH


def table_width() -> int:
    """Columns that a table may take: those of the terminal; endless where the output goes elsewhere."""
    return _terminal_columns() or _ENDLESS


def _terminal_columns() -> int | None:
    """Those of the terminal, or what the variable COLUMNS asks for; None where the output goes elsewhere."""
    if not sys.stdout.isatty() and not environ.get("COLUMNS", "").isdigit():
        return None
    return shutil.get_terminal_size((WIDTH, 24)).columns


def line(text: str, others: str = "") -> str:
    """A line that is broken on a terminal alone; the lines after the first start with `others`."""
    return filled(text, others=others) if _terminal_columns() else text


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
    shown_by: str = SHOWN_BY,
) -> str:
    """A table for the terminal, at most `table_width` columns wide. The last `n_below` lines are put below a rule.

    Where not all columns fit, those of the highest `ranks` (one a column; without ranks: none) are left out first.
    Rank 0 always stays: if that alone is too wide, texts (what is in the columns `left`, aligned to the left, and
    headers) lose their middle. What was left out or shortened is named below, with what shows it. Numbers are never
    cut: where there is no room for them either, they are broken.
    """
    from rich.box import Box
    from rich.console import Console
    from rich.table import Table

    headers, lines = list(map(harmless, headers)), [list(map(harmless, line)) for line in lines]
    room, kept, left_out = table_width(), list(range(len(headers))), list[str]()
    columns = [[headers[index], *(line[index] for line in lines)] for index in kept]
    while _needed([columns[index] for index in kept]) > room and ranks:
        last = max(kept, key=lambda index: ranks[index])
        if ranks[last] == 0:
            break
        kept.remove(last)
        left_out.append(headers[last])
    columns, left = [columns[index] for index in kept], [kept.index(index) for index in left if index in kept]
    columns, shortened = _shortened(columns, left, room)
    # Rules below the headers and between sections, and nothing else.
    rules = Box("\n".join(["    ", "    ", " -- ", "    ", " -- ", "    ", "    ", "    ", ""]), ascii=True)
    table = Table(box=rules, show_edge=False, pad_edge=False, collapse_padding=True, header_style="")
    for index, (header, *_) in enumerate(columns):
        table.add_column(header, justify="left" if index in left else "right", overflow="fold")
    for number, cells in enumerate(zip(*(cells for _, *cells in columns), strict=True)):
        if n_below and number == len(lines) - n_below:
            table.add_section()
        table.add_row(*cells)
    file = io.StringIO()
    wide = max(min(room, _needed(columns)), 1)
    Console(file=file, width=wide, color_system=None, markup=False, highlight=False, emoji=False).print(table)
    parts = ["\n".join(line.rstrip() for line in file.getvalue().splitlines())]
    for what, names in (("Left out", left_out), ("Shortened", shortened)):
        parts += (
            [filled(f"{what} to fit {room} columns ({shown_by}): {', '.join(dict.fromkeys(names))}")] if names else []
        )
    return "\n".join(parts)


def _needed(columns: Sequence[Sequence[str]]) -> int:
    from rich.cells import cell_len

    return sum(max(map(cell_len, column)) + _GAP for column in columns) - _GAP


def _shortened(columns: list[list[str]], left: Sequence[int], room: int) -> tuple[list[list[str]], list[str]]:
    """Columns whose texts are as short as it takes to fit, the longest first, and the headers of those cut."""
    from rich.cells import cell_len

    cut: dict[int, str] = {}
    while (excess := _needed(columns) - room) > 0:
        # What is not a text keeps the room of its cells: there the header alone can be shortened.
        least = [
            _LEAST_SHOWN if index in left else max([_LEAST_SHOWN, *map(cell_len, column[1:])])
            for index, column in enumerate(columns)
        ]
        spare = [max(map(cell_len, column)) - least[index] for index, column in enumerate(columns)]
        widest = max(range(len(columns)), key=lambda index: spare[index])
        if spare[widest] <= 0:
            break
        most = least[widest] + max(0, spare[widest] - max(1, min(excess, spare[widest] // 2)))
        cut.setdefault(widest, columns[widest][0])
        columns = [
            [_middle_out(text, most) for text in column] if index == widest else column
            for index, column in enumerate(columns)
        ]
    return columns, list(cut.values())


def _middle_out(text: str, most: int) -> str:
    """A text of at most so many columns, its middle left out: where names are alike their ends tell them apart."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= most:
        return text
    end = (most - len(_LEFT_OUT)) // 2
    tail = text[-end:]
    while cell_len(tail) > end:
        tail = tail[1:]
    head = set_cell_size(text, most - len(_LEFT_OUT) - cell_len(tail))
    return f"{head}{_LEFT_OUT}{tail}"
