"""Comparisons as text: a table for the terminal, markdown, CSV, JSON."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from recal_bench.errors import RunError
from recal_bench.reporting.figures.compare import Identity, Table
from recal_bench.reporting.figures.split_figures import Difference
from recal_bench.reporting.text.columns import ACCURACY, IQM, OTHERS, UNKNOWN, UTILITY, number

if TYPE_CHECKING:
    from recal_bench.reporting.figures.logged import LoggedTable

WIDTH = 120
FORMATS = ("table", "markdown", "csv", "json")
_LABEL_WIDTH = 26


def render_rows(rows: Sequence[Identity], format: str) -> str:
    """Rows of any tables as CSV or JSON."""
    return as_csv(rows) if format == "csv" else json.dumps([as_json(row) for row in rows], indent=1, allow_nan=False)


def render(table: Table, format: str = "table") -> str:
    """One table in one of `FORMATS`. The terminal's has at most 120 columns and says which figures it leaves out."""
    if format not in FORMATS:
        raise RunError(f"there is no format {format}: choose one of {', '.join(FORMATS)}")
    if format in ("csv", "json"):
        return render_rows(table.rows, format)
    return "\n\n".join(blocks(table, format == "markdown"))


def blocks(table: Table, markdown: bool, but: Sequence[str] = ()) -> list[str]:
    """Title, figures of test and of the other evaluated splits, accuracy by task, notes; without the columns `but`."""
    parts = [("### " if markdown else "") + title(table, markdown), figures_table(table, None, markdown, but)]
    for split in sorted({split for row in table.rows for split in row.splits}):
        parts += [f"Split `{split}`:" if markdown else f"Split {split}", figures_table(table, split, markdown, but)]
    parts += ["Accuracy by task, %", per_task_table(table, markdown)]
    notes = [f"Note: {note}." for note in table.notes]
    return parts + (notes if markdown else [textwrap.fill(note, WIDTH) for note in notes])


def title(table: Table | LoggedTable, markdown: bool = False) -> str:
    """Which outcomes a table is about, and that they are simulated where they are."""
    data = table.data
    simulated = (", **simulated**" if markdown else ", simulated") if data.simulated else ""
    tasks = f"{len(table.tasks)} task" + ("s" if len(table.tasks) != 1 else "")
    parts = [
        f"{data.name} ({data.hash[:12]}){simulated}: alpha {data.alpha:g}",
        f"{table.rows[0].n_queries:,} test queries of {tasks}",
    ]
    if data.missing != "error":
        parts.append(f"missing outcomes: {data.missing}")
    if data.logged:
        parts.append("a log of single choices")
    if data.train_fraction != 1:
        parts.append(f"{data.train_fraction:g} of train ({data.n_queries['train']:,} queries)")
    if data.held_out:
        parts.append(f"new arms with {data.labelled} labelled queries: {', '.join(data.held_out)}")
    return ", ".join(parts)


def labels(rows: Sequence[Identity]) -> list[str]:
    """A short name for every row: the router, and where it has several rows the settings in which they differ.

    Of a setting's dotted name the last part, where no other setting ends in it.
    """
    named = []
    for row in rows:
        siblings = [other for other in rows if other.router == row.router]
        if len(siblings) == 1:
            named.append(row.router)
            continue
        keys = sorted({key for other in siblings for key in other.settings})
        differing = [key for key in keys if len({repr(other.settings.get(key)) for other in siblings}) > 1]
        lasts = [key.rpartition(".")[2] for key in keys]
        short = {key: last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)}
        label = " ".join([row.router, *(f"{short[key]}={row.settings.get(key)}" for key in differing)])
        unique = differing and len(label) <= _LABEL_WIDTH and len({repr(o.settings) for o in siblings}) == len(siblings)
        named.append(label if unique else f"{row.router}@{row.settings_hash[:6]}")
    return named


def figures_table(table: Table, split: str | None, markdown: bool, but: Sequence[str] = ()) -> str:
    """The figures of one split (None: test), without the columns named in `but`."""
    by_accuracy = bool(table.data.unknown_costs)
    first = IQM if table.aggregate == "iqm" else ACCURACY if by_accuracy else UTILITY
    columns = [*first, *OTHERS]
    columns = [column for column in columns if column.header not in but]
    pairs = [(row, row if split is None else row.splits[split]) for row in table.rows]
    cells = {column: [column.cell(*pair, 4 if markdown else 3) for pair in pairs] for column in columns}
    columns = [column for column in columns if any(cell != UNKNOWN for cell in cells[column])]
    names, left_out = labels(table.rows), list[str]()
    metric = "accuracy %" if by_accuracy else "utility"
    named = {each: each.header.replace("BASELINE", table.baseline).replace("METRIC", metric) for each in columns}
    while True:
        headers = [named[column] for column in columns]
        lines = list(zip(*(cells[column] for column in columns), strict=True))
        text = _grid(table, names, headers, lines, markdown)
        last = max(columns, key=lambda column: column.rank)
        if markdown or len(text.partition("\n")[0]) <= WIDTH or last.rank == 0:
            break
        left_out.append(named[last])
        columns.remove(last)
    if left_out:
        line = f"Left out to fit {WIDTH} columns, see --format markdown (csv and json have all): {', '.join(left_out)}"
        text += "\n" + textwrap.fill(line, WIDTH, break_on_hyphens=False)
    return text


def _grid(
    table: Table, names: Sequence[str], headers: Sequence[str], cells: Sequence[Sequence[str]], markdown: bool
) -> str:
    """Rows under headers; references are marked in markdown and stand below a rule in the terminal."""
    align = ("left", *["right"] * len(headers))
    head = ["router", *headers]
    body = [[name, *line] for name, line in zip(names, cells, strict=True)]
    references = [row.reference for row in table.rows]
    if markdown:
        marked = [
            [f"*{name}* (reference)" if reference else name, *line]
            for (name, *line), reference in zip(body, references, strict=True)
        ]
        escaped = [[cell.replace("|", "\\|") for cell in line] for line in [head, *marked]]
        return tabulate(escaped[1:], escaped[0], "pipe", disable_numparse=True, colalign=align)
    # tabulate's own headers would make every column two wider than it need be.
    rule = ["-" * max(len(line[index]) for line in [head, *body]) for index in range(len(head))]
    n_routers = references.index(True) if True in references else len(body)
    below = [rule, *body[n_routers:]] if body[n_routers:] else []
    return tabulate([head, rule, *body[:n_routers], *below], tablefmt="plain", disable_numparse=True, colalign=align)


def per_task_table(table: Table, markdown: bool = False) -> str:
    """Accuracy in % of every row on every task of all evaluated splits; for the terminal in as many parts as needed."""
    tasks = list(table.rows[0].per_task)
    names = labels(table.rows)
    room = 10_000 if markdown else WIDTH - max(map(len, [*names, "router"]))
    parts: list[list[str]] = [[]]
    used = 0
    for task in tasks:
        width = max(len(task), 6) + 2
        if parts[-1] and used + width > room:
            parts.append([])
            used = 0
        parts[-1].append(task)
        used += width
    return "\n\n".join(
        _grid(
            table,
            names,
            part,
            [[number(row.per_task[task], ".2f", 100) for task in part] for row in table.rows],
            markdown,
        )
        for part in parts
    )


def as_json(row: Identity) -> dict[str, Any]:
    """A row as plain JSON values; what is unknown, or no finite number, is null."""
    values: dict[str, Any] = json.loads(row.model_dump_json())
    return values


def as_csv(rows: Sequence[Identity]) -> str:
    """All rows under one header. Nested figures have dotted names; what is unknown or does not apply is empty."""
    flat = [_flatten(as_json(row)) for row in rows]
    names = list(dict.fromkeys(name for line in flat for name in line))
    # A figure that one row has in parts and another not at all has its parts' columns alone.
    names = [name for name in names if not any(other.startswith(f"{name}.") for other in names)]
    # Tasks that only a later table has would otherwise stand behind everything else.
    groups: dict[str, int] = {}
    for name in names:
        groups.setdefault(name.split(".")[0], len(groups))
    names.sort(key=lambda name: groups[name.split(".")[0]])
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue().rstrip("\n")


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = prefix + key
        if key == "settings":
            flat[name] = json.dumps(value, sort_keys=True)
        elif key == "ci" or key.endswith("_ci"):
            flat[f"{name}.low"], flat[f"{name}.high"] = value or (None, None)
        elif key in ("vs_baseline", "accuracy_vs_baseline"):
            flat |= _flatten(value or dict.fromkeys(Difference.model_fields), f"{name}.")
        elif key == "iqm" and value is None:
            continue
        elif isinstance(value, dict):
            flat |= _flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat
