"""How much log is enough: what each router reaches with how many train queries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tabulate import tabulate

from recal_bench.experiments.records import Data
from recal_bench.reporting.figures.compare import Comparison, Table
from recal_bench.reporting.pictures.drawing import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    blank_figure,
    plain,
    save,
)
from recal_bench.reporting.text.tables import labels

_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)


class Learning(NamedTuple):
    """Routers with the value that each reaches at each number of train queries; P numbers, ascending.

    `value_RP` is the utility on test (accuracy where no utility is reported), `low_RP` and `high_RP` its interval; NaN
    where a router was not run.
    """

    data: Data
    what: str
    train_P: list[int]
    fraction_P: list[float]
    routers: list[str]
    value_RP: np.ndarray
    low_RP: np.ndarray
    high_RP: np.ndarray


def learning(tables: Sequence[Table]) -> list[Learning]:
    """One for each set of tables that differ in their train fraction alone; without references, which do not learn."""
    groups: dict[str, list[Table]] = {}
    for table in tables:
        groups.setdefault(_without_fraction(table.data), []).append(table)
    return [_learning(sorted(group, key=_fraction)) for group in groups.values() if len(group) > 1]


def _fraction(table: Table) -> float:
    return table.data.train_fraction


def _without_fraction(data: Data) -> str:
    n_queries = {name: count for name, count in data.n_queries.items() if name != "train"}
    return data.model_copy(update={"train_fraction": 1.0, "n_queries": n_queries}).model_dump_json()


def _learning(tables: list[Table]) -> Learning:
    by_label = [_rows(table) for table in tables]
    best = by_label[-1]
    names = sorted({name for rows in by_label for name in rows}, key=lambda name: (-_value(best.get(name)), name))
    values = [[[_value(rows.get(name)), *_interval(rows.get(name))] for rows in by_label] for name in names]
    value_RPX = np.array(values, dtype=np.float64)
    data = tables[-1].data
    return Learning(
        data,
        "accuracy" if data.unknown_costs else "utility",
        [table.data.n_queries["train"] for table in tables],
        [table.data.train_fraction for table in tables],
        names,
        *np.moveaxis(value_RPX, 2, 0),
    )


def _rows(table: Table) -> dict[str, Comparison]:
    return {name: row for name, row in zip(labels(table.rows), table.rows, strict=True) if not row.reference}


def _value(row: Comparison | None) -> float:
    value = None if row is None else row.accuracy_macro if row.utility is None else row.utility
    return float("nan") if value is None else value


def _interval(row: Comparison | None) -> tuple[float, float]:
    interval = None if row is None else row.utility_ci
    return (float("nan"), float("nan")) if interval is None else (interval[0], interval[1])


def as_table(found: Learning, markdown: bool = False) -> str:
    """The values by router and number of train queries, with intervals."""
    heads = [
        "router",
        *(f"{train:,} ({fraction:g})" for train, fraction in zip(found.train_P, found.fraction_P, strict=True)),
    ]
    rows = [
        [name, *(_cell(*of_point) for of_point in zip(*of_router, strict=True))]
        for name, *of_router in zip(found.routers, found.value_RP, found.low_RP, found.high_RP, strict=True)
    ]
    simulated = ", simulated" if found.data.simulated else ""
    title = f"{found.what.capitalize()} on test by number of train queries (share), {found.data.name}{simulated}"
    grid = tabulate(rows, heads, "github" if markdown else "simple", disable_numparse=True)
    return f"{'### ' if markdown else ''}{title}\n\n{grid}"


def _cell(value: float, low: float, high: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.3f}" if np.isnan(low) else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def draw(found: Learning, stem: Path) -> list[Path]:
    """The same as curves, in `stem`.svg and `stem`.png: six routers a panel, the others in grey behind."""
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
                found.train_P, found.value_RP[row], color=colour, marker="o", markersize=3, label=found.routers[row]
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
    figure.suptitle(f"{found.data.name}{', simulated' if found.data.simulated else ''}", fontsize=9)
    return save(figure, stem)
