"""What tables and pictures are called: titles of sets of outcomes, short names of rows, names of files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from recal_bench.experiments.records import Data
from recal_bench.reporting.figures.compare import Table
from recal_bench.reporting.figures.logged import LoggedTable
from recal_bench.reporting.figures.stability import StabilityReport
from recal_bench.wording import counted

_LABEL_WIDTH = 26


class _Row(Protocol):
    """A router with its settings, whatever its figures."""

    @property
    def router(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def settings_hash(self) -> str: ...


def title(table: Table | LoggedTable, markdown: bool = False) -> str:
    """Which outcomes a table is about, and that they are simulated where they are."""
    data = table.data
    parts = [
        _named(data, markdown),
        f"{table.rows[0].n_queries:,} test queries of {counted(len(table.tasks), 'task')}",
    ]
    if data.missing != "error":
        parts.append(f"missing outcomes: {data.missing}")
    if data.cost_rule != "error":
        parts.append(f"unknown costs: {data.cost_rule}")
    if data.logged:
        parts.append("a log of single choices")
    if data.train_fraction != 1:
        parts.append(f"{data.train_fraction:g} of train ({data.n_queries['train']:,} queries)")
    if data.held_out:
        parts.append(f"new arms with {data.labelled} labelled queries: {', '.join(data.held_out)}")
    return ", ".join(parts)


def labels(rows: Sequence[_Row]) -> list[str]:
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


def stability_title(report: StabilityReport, markdown: bool = False) -> str:
    """Which outcomes a report is about, and that they are simulated where they are."""
    return f"Stability of training on {_named(report.data, markdown)}"


def _named(data: Data, markdown: bool) -> str:
    simulated = (", **simulated**" if markdown else ", simulated") if data.simulated else ""
    return f"{data.name} ({data.hash[:12]}){simulated}: alpha {data.alpha:g}"


def slugs(datas: Sequence[Data]) -> list[str]:
    """A file name for each set of outcomes: its own name, numbered where several share it."""
    made: list[str] = []
    for data in datas:
        slug = re.sub(r"[^A-Za-z0-9]+", "-", Path(data.name).stem).strip("-").lower() or "outcomes"
        count = 2
        unique = slug
        while unique in made:
            unique = f"{slug}-{count}"
            count += 1
        made.append(unique)
    return made
