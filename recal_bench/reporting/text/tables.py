"""Comparisons as text: a table for the terminal, markdown, CSV, JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import BaseModel

from recal_bench.errors import RunError
from recal_bench.reporting.figures.compare import Comparison, Table
from recal_bench.reporting.figures.names import labels, title, told_apart
from recal_bench.reporting.text.columns import ACCURACY, EXPECTED, IQM, OTHERS, UNKNOWN, UTILITY, TableColumn, number
from recal_bench.reporting.text.constraints import constraint_blocks
from recal_bench.reporting.text.layout import SHOWN_BY_FORMATS, filled, markdown_table, table_width, terminal_table
from recal_bench.reporting.text.rows import as_csv, as_json
from recal_bench.wording import Place, harmless, place_of

FORMATS = ("table", "markdown", "csv", "json")
_MOST_TASKS = 20
"""Tasks beyond which a row shows its worst and its best task alone."""
_TASK_WIDTH = 30
_MOST_TOLD = 20


def render_rows(rows: Sequence[BaseModel], format: str) -> str:
    """Rows of any tables as CSV or JSON."""
    return as_csv(rows) if format == "csv" else json.dumps([as_json(row) for row in rows], indent=1, allow_nan=False)


def render(table: Table, format: str = "table") -> str:
    """One table in one of `FORMATS`. The terminal's fits its width and says which figures it leaves out."""
    if format not in FORMATS:
        raise RunError(f"there is no format {format}: choose one of {', '.join(FORMATS)}")
    if format in ("csv", "json"):
        return render_rows(table.rows, format)
    return "\n\n".join(blocks(table, format == "markdown"))


def blocks(table: Table, markdown: bool, but: Sequence[str] = ()) -> list[str]:
    """Title, figures of test and of the other evaluated splits, accuracy by task, notes; without the columns `but`."""
    head = f"### {title(table, markdown)}" if markdown else filled(title(table))
    parts = [head, figures_table(table, None, markdown, but), *constraint_blocks(table, None, markdown)]
    for split in sorted({split for row in table.rows for split in row.splits}):
        parts += [
            f"Split {harmless(split, 'code')}:" if markdown else f"Split {harmless(split)}",
            figures_table(table, split, markdown, but),
            *constraint_blocks(table, split, markdown),
        ]
    parts += ["Accuracy by task, %", per_task_table(table, markdown)]
    told = told_apart(table.rows)[:_MOST_TOLD]
    hashes = [f"settings of rows named by a hash: {'; '.join(told)}"] if told else []
    notes = [f"Note: {note}." for note in (*table.notes, *hashes)]
    return parts + (list(map(in_markdown, notes)) if markdown else list(map(filled, notes)))


def put_together(title: str, body: str, notes: Sequence[str], markdown: bool) -> str:
    """A table under its title, with its notes below."""
    lines = [f"Note: {note}." for note in notes]
    shown = map(in_markdown if markdown else filled, lines)
    return "\n\n".join([f"### {title}" if markdown else filled(title), body, *shown])


def in_markdown(note: str) -> str:
    """A note, in which names are foreign text; what it puts between backticks stays code."""
    return "`".join(part if index % 2 else harmless(part, "markdown") for index, part in enumerate(note.split("`")))


def figures_table(table: Table, split: str | None, markdown: bool, but: Sequence[str] = ()) -> str:
    """The figures of one split (None: test), without the columns named in `but`."""
    by_accuracy = bool(table.data.unknown_costs)
    first: Sequence[TableColumn] = EXPECTED if table.by_expected else ACCURACY if by_accuracy else UTILITY
    first = IQM if table.aggregate == "iqm" else first
    pairs = [(row, row if split is None else row.splits[split]) for row in table.rows]
    columns = [column for column in [*first, *OTHERS] if column.header not in but]
    cells = [[column.cell(*pair, 4 if markdown else 3) for pair in pairs] for column in columns]
    known = [index for index, column in enumerate(cells) if any(cell != UNKNOWN for cell in column)]
    baseline = harmless(table.baseline, place_of(markdown))
    metric = "accuracy %" if by_accuracy else "utility"
    headers = [columns[index].header.replace("BASELINE", baseline).replace("METRIC", metric) for index in known]
    lines = list(zip(*(cells[index] for index in known), strict=True))
    return _grid(table, headers, lines, markdown, [columns[index].rank for index in known])


def per_task_table(table: Table, markdown: bool = False) -> str:
    """Accuracy in % of every row on every task of all evaluated splits; for the terminal in as many parts as needed.

    Of many tasks each row shows their number, its worst and its best one.
    """
    place = place_of(markdown)
    if len(table.rows[0].per_task) > _MOST_TASKS:
        return _grid(
            table,
            ["tasks", "worst", "%", "best", "%"],
            [_ends(row, place) for row in table.rows],
            markdown,
            left=(0, 2, 4),
        )
    room = 10_000 if markdown else table_width() - max(map(len, [*labels(table.rows), "router"]))
    parts: list[list[str]] = [[]]
    used = 0
    for task in table.rows[0].per_task:
        needed = max(len(harmless(task)), 6) + 2
        if parts[-1] and used + needed > room:
            parts.append([])
            used = 0
        parts[-1].append(task)
        used += needed
    tasks_of = [[[number(row.per_task[task], ".2f", 100) for task in part] for row in table.rows] for part in parts]
    return "\n\n".join(
        _grid(table, [harmless(task, place) for task in part], lines, markdown)
        for part, lines in zip(parts, tasks_of, strict=True)
    )


def _ends(row: Comparison, place: Place) -> list[str]:
    """How many tasks there are, the worst and the best, each with its accuracy in %."""
    known = sorted((value, task) for task, value in row.per_task.items() if value is not None)
    ends = [
        cell for value, task in (known[:1] + known[-1:]) for cell in (_task(task, place), number(value, ".2f", 100))
    ]
    return [f"{len(row.per_task):,}", *(ends or [UNKNOWN] * 4)]


def _task(task: str, place: Place) -> str:
    return harmless(task if len(task) <= _TASK_WIDTH else f"{task[:_TASK_WIDTH]}...", place)


def _grid(
    table: Table,
    headers: Sequence[str],
    cells: Sequence[Sequence[str]],
    markdown: bool,
    ranks: Sequence[int] = (),
    left: Sequence[int] = (0,),
) -> str:
    """Figures under headers beside the routers' names. References come last: marked in markdown, else below a rule."""
    names = labels(table.rows, place_of(markdown))
    if markdown:
        names = [
            f"*{name}* (reference)" if row.reference else name for name, row in zip(names, table.rows, strict=True)
        ]
    lines = [[name, *line] for name, line in zip(names, cells, strict=True)]
    if markdown:
        return markdown_table(["router", *headers], lines)
    n_references = sum(row.reference for row in table.rows)
    by_rank = [0, *ranks] if ranks else ()
    return terminal_table(["router", *headers], lines, by_rank, n_references, left, SHOWN_BY_FORMATS)
