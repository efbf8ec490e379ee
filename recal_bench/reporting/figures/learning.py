"""How much log is enough: what each router reaches with how many train queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recal_bench.experiments.records import Data
from recal_bench.reporting.figures.compare import Comparison, Table
from recal_bench.reporting.figures.differences import EXPECTED
from recal_bench.reporting.figures.names import labels


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
    return data.model_copy(update={"train_fraction": 1.0, "n_queries": n_queries}).identity


def _learning(tables: list[Table]) -> Learning:
    by_label = [_rows(table) for table in tables]
    best = by_label[-1]
    names = sorted({name for rows in by_label for name in rows}, key=lambda name: (-_value(best.get(name)), name))
    values = [[[_value(rows.get(name)), *_interval(rows.get(name))] for rows in by_label] for name in names]
    value_RPX = np.array(values, dtype=np.float64)
    data = tables[-1].data
    return Learning(
        data,
        EXPECTED if tables[-1].by_expected else "accuracy" if data.unknown_costs else "utility",
        [table.data.n_queries["train"] for table in tables],
        [table.data.train_fraction for table in tables],
        names,
        *np.moveaxis(value_RPX, 2, 0),
    )


def _rows(table: Table) -> dict[str, Comparison]:
    return {name: row for name, row in zip(labels(table.rows), table.rows, strict=True) if not row.reference}


def _value(row: Comparison | None) -> float:
    value = None if row is None else row.headline[0]
    return float("nan") if value is None else value


def _interval(row: Comparison | None) -> tuple[float, float]:
    interval = None if row is None else row.headline[1]
    return (float("nan"), float("nan")) if interval is None else interval
