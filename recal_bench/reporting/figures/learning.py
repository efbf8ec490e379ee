"""How much log is enough: what each router reaches with how many train queries, or labels of each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from recal_bench.experiments.records import Data
from recal_bench.reporting.figures.compare import Comparison, Table
from recal_bench.reporting.figures.differences import EXPECTED
from recal_bench.reporting.figures.names import labels
from recal_bench.wording import counted

QUERIES, LABELS = "train queries", "labels of each train query"


class Learning(NamedTuple):
    """Routers with the value that each reaches at each number of `counted`: P numbers, ascending, with their headings.

    `value_RP` is the utility on test (accuracy where no utility is reported), `low_RP` and `high_RP` its interval; NaN
    where a router was not run.
    """

    data: Data
    what: str
    counted: str
    count_P: list[int]
    heading_P: list[str]
    routers: list[str]
    value_RP: np.ndarray
    low_RP: np.ndarray
    high_RP: np.ndarray


def learning(tables: Sequence[Table]) -> list[Learning]:
    """One for each set of tables that differ in their train fraction alone, or in the labels of a train query alone.

    Without references, which do not learn.
    """
    found = []
    for axis in (QUERIES, LABELS):
        groups: dict[str, list[Table]] = {}
        for table in tables:
            groups.setdefault(_but_for(axis, table.data), []).append(table)
        found += [_learning(axis, group) for group in groups.values() if len(group) > 1]
    return found


def _but_for(axis: str, data: Data) -> str:
    """What is the same of tables that make one curve."""
    n_queries = {name: count for name, count in data.n_queries.items() if name != "train"}
    same: dict[str, Any] = (
        {"labels_per_query": 0} if axis == LABELS else {"train_fraction": 1.0, "n_queries": n_queries}
    )
    return data.model_copy(update=same).identity


def _count(axis: str, data: Data) -> int:
    return data.n_queries["train"] if axis == QUERIES else data.labels_per_query or len(data.arms)


def _heading(axis: str, data: Data) -> str:
    if axis == QUERIES:
        return f"{data.n_queries['train']:,} ({data.train_fraction:g})"
    return str(data.labels_per_query) if data.labels_per_query else f"all ({len(data.arms)})"


def _learning(axis: str, group: list[Table]) -> Learning:
    tables = sorted(group, key=lambda table: (_count(axis, table.data), table.data.train_fraction))
    by_label = [_rows(table) for table in tables]
    best = by_label[-1]
    names = sorted({name for rows in by_label for name in rows}, key=lambda name: (-_value(best.get(name)), name))
    values = [[[_value(rows.get(name)), *_interval(rows.get(name))] for rows in by_label] for name in names]
    value_RPX = np.array(values, dtype=np.float64)
    data = tables[-1].data
    return Learning(
        data,
        EXPECTED if tables[-1].by_expected else "accuracy" if data.unknown_costs else "utility",
        axis,
        [_count(axis, table.data) for table in tables],
        [_heading(axis, table.data) for table in tables],
        names,
        *np.moveaxis(value_RPX, 2, 0),
    )


def told(found: Learning) -> list[str]:
    """What a title says of the outcomes besides their name: that they are simulated, and what every point shares."""
    data = found.data
    parts = ["simulated"] if data.simulated else []
    if found.counted == QUERIES and data.labels_per_query:
        parts.append(f"{counted(data.labels_per_query, 'label')} of each")
    if found.counted == LABELS and data.train_fraction != 1:
        parts.append(f"{data.train_fraction:g} of train")
    return parts


def _rows(table: Table) -> dict[str, Comparison]:
    return {name: row for name, row in zip(labels(table.rows), table.rows, strict=True) if not row.reference}


def _value(row: Comparison | None) -> float:
    value = None if row is None else row.headline[0]
    return float("nan") if value is None else value


def _interval(row: Comparison | None) -> tuple[float, float]:
    interval = None if row is None else row.headline[1]
    return (float("nan"), float("nan")) if interval is None else interval
