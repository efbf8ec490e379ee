"""What tables and pictures are called: titles of sets of outcomes, short names of rows, names of files."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from recal_bench.experiments.records import Data
from recal_bench.reporting.figures.compare import Table
from recal_bench.reporting.figures.logged import LoggedTable
from recal_bench.reporting.figures.stability import StabilityReport
from recal_bench.wording import Place, counted, harmless, place_of, show

_LABEL_WIDTH = 32
_LEAST_SHOWN = 12


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
    place = place_of(markdown)
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
    if data.labels_per_query:
        parts.append(f"{counted(data.labels_per_query, 'label')} a train query")
    if data.held_out:
        new = ", ".join(harmless(arm, place) for arm in data.held_out)
        parts.append(f"new arms with {data.labelled} labelled queries: {new}")
    return ", ".join(parts)


def labels(rows: Sequence[_Row], place: Place = "terminal") -> list[str]:
    """A short name for every row: the router, its constraint, and the settings in which its rows differ.

    Of a setting's dotted name the last part, where no other setting ends in it. Settings that are too long, or that
    several rows share, are cut off behind a hash.
    """
    named = []
    for row in rows:
        siblings = [other for other in rows if other.router == row.router]
        difference = _difference(row, siblings)
        if len(siblings) == 1 and not difference:
            named.append(harmless(row.router, place))
            continue
        label = f"{row.router} {difference}"
        alike = len({repr(other.settings) for other in siblings}) < len(siblings)
        if alike or len(label) > _LABEL_WIDTH:
            label = f"{row.router}@{row.settings_hash[:6]}"
            label += f" {_cut(difference, max(_LABEL_WIDTH - len(label) - 1, _LEAST_SHOWN))}" if difference else ""
        named.append(harmless(label, place))
    return named


def _cut(difference: str, width: int) -> str:
    """As many whole settings as fit; of one that is too long its beginning."""
    whole = textwrap.shorten(difference, width, placeholder=" ...")
    return show(difference, width - len("...")) if whole == "..." else whole


def told_apart(rows: Sequence[_Row]) -> list[str]:
    """The settings of each row whose label has them cut off behind a hash, in full."""
    told = []
    for label, row in zip(labels(rows), rows, strict=True):
        difference = _difference(row, [other for other in rows if other.router == row.router])
        if label.startswith(f"{row.router}@") and difference and not label.endswith(f" {difference}"):
            told.append(f"{row.router}@{row.settings_hash[:6]}: {difference}")
    return told


def _difference(row: _Row, siblings: Sequence[_Row]) -> str:
    """The settings of a row in which its siblings differ, those of most values first; `defaults` where it has none.

    What an option of the command line made of it (`--budget`) is always among them.
    """
    keys = sorted({key for other in siblings for key in other.settings})
    n_values = {key: len({repr(other.settings.get(key)) for other in siblings}) for key in keys}
    shown = [key for key in keys if n_values[key] > 1 or key.startswith("-")]
    differing = sorted(shown, key=lambda key: -n_values[key])
    lasts = [key.rpartition(".")[2] for key in keys]
    short = {key: last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)}
    given = " ".join(f"{short[key]}={harmless(str(row.settings[key]))}" for key in differing if key in row.settings)
    return given or ("defaults" if differing else "")


def stability_title(report: StabilityReport, markdown: bool = False) -> str:
    """Which outcomes a report is about, and that they are simulated where they are."""
    return f"Stability of training on {_named(report.data, markdown)}"


def _named(data: Data, markdown: bool) -> str:
    priced = f", {data.latency_price:g} a second" if data.latency_price else ""
    simulated = (", **simulated**" if markdown else ", simulated") if data.simulated else ""
    return f"{harmless(data.name, place_of(markdown))} ({data.hash[:12]}){simulated}: alpha {data.alpha:g}{priced}"


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
