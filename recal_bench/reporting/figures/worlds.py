"""Tables of several simulated worlds as one: a world is drawn like a seed, and its luck belongs into the intervals.

Worlds are few and differ in everything, their queries included. What each gives is one observation: the mean over W
worlds has the t interval of W - 1 degrees of freedom.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from recal_bench.arrays import finite_or_none
from recal_bench.defaults import BASELINE
from recal_bench.evaluation.statistics import Interval, holm, smallest_detectable, t_interval
from recal_bench.experiments.records import Data, Run
from recal_bench.reporting.figures import compare
from recal_bench.reporting.figures.compare import Comparison, Table, rank
from recal_bench.reporting.figures.constraints import ConstraintFigures, verdict
from recal_bench.reporting.figures.differences import Difference, InterquartileMean, ci_of
from recal_bench.reporting.figures.notes import detectable_notes
from recal_bench.reporting.figures.ranks import Ranked, ranked_over_worlds
from recal_bench.reporting.figures.splits import Figures
from recal_bench.wording import counted, listed

_OF_A_WORLD = {"name", "hash", "cost_ref", "notes"}
_SUMMED = ("n_queries",)
_OVER_ALL_ROWS = tuple(Ranked._fields)
_TESTED = ("vs_baseline", "utility_vs_baseline", "accuracy_vs_baseline", "iqm")
_OF_RUNS = ("harm", "collapse_rate", "fit_seconds", "route_us_per_query", "route_us_p95")


class Pooled(NamedTuple):
    """A table, and the places of those that it was made of: itself, or one for each world."""

    table: Table
    members: tuple[int, ...]


def tables(runs: Sequence[Run], baseline: str = BASELINE, aggregate: str = "mean") -> list[Table]:
    """`compare.tables`, the worlds of one design as one table each."""
    return [each.table for each in pooled(compare.tables(runs, baseline, aggregate))]


def pooled(made: Sequence[Table]) -> list[Pooled]:
    """Tables of simulated worlds that differ in the world alone as one, in the place of the first; others stay."""
    members: dict[str, list[int]] = defaultdict(list)
    for number, table in enumerate(made):
        members[_design(table.data) if table.data.simulated else str(number)].append(number)
    return [
        Pooled(_as_one([made[number] for number in numbers]) if len(numbers) > 1 else made[numbers[0]], tuple(numbers))
        for numbers in members.values()
    ]


def _design(data: Data) -> str:
    return data.model_dump_json(exclude=_OF_A_WORLD)


def _as_one(worlds: Sequence[Table]) -> Table:
    first = worlds[0]
    by_row = [{(row.router, row.settings_hash): row for row in table.rows} for table in worlds]
    shared = [key for key in by_row[0] if all(key in rows for rows in by_row)]
    data = _data_of_all([table.data for table in worlds])
    rows = _with_holm([_pool_rows([rows[key] for rows in by_row], data) for key in shared])
    rows = _with_ranks(rows, [[rows_of[key] for key in shared] for rows_of in by_row])
    rows.sort(key=lambda row: (row.reference, -rank(row), row.router, row.settings_hash))
    common = [note for note in first.notes if all(note in table.notes for table in worlds)]
    left_out = sorted({router for rows in by_row for router, settings in rows if (router, settings) not in shared})
    notes = [
        *common,
        f"{len(worlds)} worlds: every figure is the mean over them, and intervals and p hold the luck of the world, "
        f"with that of its queries and of training (t, {len(worlds) - 1} degrees of freedom)",
        *([f"not run on all of them, and left out: {listed(left_out)}"] if left_out else []),
        *detectable_notes(rows, first.baseline),
    ]
    return Table(data, first.tasks, first.baseline, tuple(rows), tuple(notes), first.aggregate)


def _data_of_all(datas: Sequence[Data]) -> Data:
    digest = hashlib.sha256("\n".join(data.hash for data in datas).encode()).hexdigest()
    name = f"{datas[0].name} to {datas[-1].name} ({counted(len(datas), 'world')})"
    known = [data.cost_ref for data in datas if data.cost_ref is not None]
    cost_ref = float(np.mean(known)) if len(known) == len(datas) else None
    n_queries = {split: sum(data.n_queries[split] for data in datas) for split in datas[0].n_queries}
    update = {"name": name, "hash": digest, "cost_ref": cost_ref, "n_queries": n_queries, "notes": ()}
    return datas[0].model_copy(update=update)


def _pool_rows(rows: Sequence[Comparison], data: Data) -> Comparison:
    first = rows[0]
    values = {name: getattr(first, name) for name in Comparison.model_fields} | _pool_figures(rows)
    values |= {name: _mean([getattr(row, name) for row in rows]) for name in _OF_RUNS}
    values["per_task"] = {task: _mean([row.per_task.get(task) for row in rows]) for task in first.per_task}
    values["splits"] = {split: Figures(**_pool_figures([row.splits[split] for row in rows])) for split in first.splits}
    values |= {"outcomes": data.name, "data_hash": data.hash, "n_seeds": min(row.n_seeds for row in rows)}
    return Comparison(**values)


def _pool_figures(worlds: Sequence[Figures]) -> dict[str, Any]:
    """The figures of a split over all worlds. What one world does not know is unknown."""
    pooled: dict[str, Any] = {}
    for name in Figures.model_fields:
        values = [getattr(figures, name) for figures in worlds]
        if name in _OVER_ALL_ROWS:
            pooled[name] = None
        elif name in _SUMMED:
            pooled[name] = sum(values)
        elif name.endswith("_ci"):
            pooled[name] = ci_of(_over_worlds([getattr(figures, name.removesuffix("_ci")) for figures in worlds]))
        elif isinstance(values[0], ConstraintFigures):
            pooled[name] = _pool_constraints(values)
        elif isinstance(values[0], Difference):
            pooled[name] = _pool_differences(values)
        elif isinstance(values[0], InterquartileMean):
            pooled[name] = _pool_interquartile(values)
        else:
            pooled[name] = _mean(values)
    return pooled


def _pool_constraints(worlds: Sequence[ConstraintFigures | None]) -> ConstraintFigures | None:
    known = [each for each in worlds if each is not None]
    if len(known) < len(worlds):
        return None
    found, first = _over_worlds([each.reached for each in known]), known[0]
    return ConstraintFigures(
        kind=first.kind,
        target=first.target,
        alpha=float(np.mean([each.alpha for each in known])),
        on_validation=float(np.mean([each.on_validation for each in known])),
        reached=found.estimate,
        reached_ci=ci_of(found),
        held=verdict(found, first.kind, first.target),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _over_worlds(values: Sequence[float | None]) -> Interval:
    """The t interval of the mean over worlds; all NaN where one is unknown."""
    known = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    error = known.std(ddof=1) / np.sqrt(len(known))
    return t_interval(float(known.mean()), float(error), len(known) - 1)


def _pool_differences(worlds: Sequence[Difference | None]) -> Difference | None:
    known = [each for each in worlds if each is not None]
    if len(known) < len(worlds):
        return None
    found = _over_worlds([each.difference for each in known])
    better = _over_worlds([each.p_improvement for each in known])
    tested = all(each.p_adjusted is not None for each in known)
    return Difference(
        metric=known[0].metric,
        difference=found.estimate,
        ci=ci_of(found),
        p_adjusted=found.p if tested else None,
        p_improvement=better.estimate,
        p_improvement_ci=None,
        mde=(finite_or_none(smallest_detectable(found.error, found.df)) or None) if tested else None,
    )


def _pool_interquartile(worlds: Sequence[InterquartileMean | None]) -> InterquartileMean | None:
    known = [each for each in worlds if each is not None]
    if len(known) < len(worlds):
        return None
    own, against = _over_worlds([each.value for each in known]), _over_worlds([each.difference for each in known])
    tested = all(each.p_adjusted is not None for each in known)
    return InterquartileMean(
        metric=known[0].metric,
        value=own.estimate,
        ci=ci_of(own),
        difference=finite_or_none(against.estimate),
        difference_ci=ci_of(against),
        p_adjusted=against.p if tested else None,
    )


def _with_holm(rows: Sequence[Comparison]) -> list[Comparison]:
    """The p values of pooled rows, still as tested one by one, adjusted over the routers."""

    def adjusted(figures: Sequence[Any], name: str) -> list[Any]:
        found = [getattr(each, name) for each in figures]
        tested = [number for number, each in enumerate(found) if each is not None and each.p_adjusted is not None]
        stepped = dict(zip(tested, holm([found[number].p_adjusted for number in tested]), strict=True))
        return [
            each.model_copy(update={"p_adjusted": stepped[number]}) if number in stepped else each
            for number, each in enumerate(found)
        ]

    def changed(figures: Sequence[Any]) -> list[dict[str, Any]]:
        columns = [adjusted(figures, name) for name in _TESTED]
        return [dict(zip(_TESTED, each, strict=True)) for each in zip(*columns, strict=True)]

    updates = changed(rows)
    for split in rows[0].splits if rows else ():
        for update, row, values in zip(updates, rows, changed([row.splits[split] for row in rows]), strict=True):
            update["splits"] = {**update.get("splits", row.splits), split: row.splits[split].model_copy(update=values)}
    return [row.model_copy(update=update) for row, update in zip(rows, updates, strict=True)]


def _with_ranks(rows: Sequence[Comparison], by_world: Sequence[Sequence[Comparison]]) -> list[Comparison]:
    """Pooled rows with their ranks on every split, from what each world's rows are ranked by."""

    def places(split: str | None) -> list[dict[str, Any]]:
        figures = [[row if split is None else row.splits[split] for row in world] for world in by_world]
        value_WR = np.array([[each.headline[0] for each in world] for world in figures], dtype=np.float64)
        found = ranked_over_worlds(value_WR.reshape(len(by_world), len(rows)), [row.reference for row in rows])
        return [each._asdict() for each in found]

    updates = places(None)
    for split in rows[0].splits if rows else ():
        for update, row, place in zip(updates, rows, places(split), strict=True):
            update["splits"] = {**update.get("splits", row.splits), split: row.splits[split].model_copy(update=place)}
    return [row.model_copy(update=update) for row, update in zip(rows, updates, strict=True)]
