"""From run records to comparisons: one row for each router with its settings, one table for each set of outcomes."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel

from recal_bench.arrays import StrQ, finite_or_none
from recal_bench.defaults import BASELINE
from recal_bench.errors import RunError
from recal_bench.evaluation import metrics
from recal_bench.experiments.records import Data, Run
from recal_bench.reporting.figures.entries import Entry, Group, read_groups
from recal_bench.reporting.figures.harm import harms
from recal_bench.reporting.figures.notes import detectable_notes, expected_notes, iqm_notes, latency_notes, notes
from recal_bench.reporting.figures.ranks import NOTE as RANK_NOTE
from recal_bench.reporting.figures.splits import Figures, split_figures
from recal_bench.reporting.figures.training_logs import collapse_of, evaluations_of
from recal_bench.routers.fixed_arm import PREFIX as ARM_PREFIX

AGGREGATES = ("mean", "iqm")
TEST = "test"


class Identity(BaseModel):
    """Which router, with which settings, on which outcomes."""

    router: str
    settings: dict[str, Any]
    settings_hash: str
    tuned: str | None
    reference: bool
    external: bool
    baseline: str
    outcomes: str
    data_hash: str
    missing: str
    cost_rule: str
    simulated: bool
    alpha: float
    unknown_costs: int
    encoder: str | None
    n_seeds: int

    @property
    def is_baseline(self) -> bool:
        """Whether this is the row that the others are compared with."""
        return self.baseline in (self.router, f"{self.router}@{self.settings_hash}")


class Comparison(Figures, Identity):
    """One row. The figures are those of `test`; `splits` has them for the other evaluated splits.

    `harm` is the share of the tasks of all evaluated splits on which the router is below best-single (see `harms`).
    """

    harm: float | None = None
    collapse_rate: float | None
    per_task: dict[str, float | None]
    splits: dict[str, Figures]
    fit_seconds: float | None
    route_us_per_query: float | None
    route_us_p95: float | None
    command: str


@dataclass(frozen=True)
class Table:
    """The rows that may be compared with each other: routers by utility, then references. `notes` qualify them.

    `tasks` are those of test.
    """

    data: Data
    tasks: tuple[str, ...]
    baseline: str
    rows: tuple[Comparison, ...]
    notes: tuple[str, ...]
    aggregate: str = "mean"

    @property
    def by_expected(self) -> bool:
        """Whether rows are ranked and held against the baseline by their expected utility."""
        return any(row.expected_utility is not None for row in self.rows)


def compare(runs: Sequence[Run], baseline: str = BASELINE, aggregate: str = "mean") -> list[Comparison]:
    """The rows of all tables, one table after the other."""
    return [row for table in tables(runs, baseline, aggregate) for row in table.rows]


def tables(runs: Sequence[Run], baseline: str = BASELINE, aggregate: str = "mean") -> list[Table]:
    """One table for each `Data` but logs of single choices (see `logged`).

    `baseline` is a router's name, or `router@settings_hash` where it has several rows.

    `aggregate` "iqm" adds interquartile means and ranks by them; every other figure stays a mean.
    Raises RunError where a table lacks the baseline, or its runs decided on different queries.
    """
    if aggregate not in AGGREGATES:
        raise RunError(f"there is no aggregate {aggregate}: choose one of {', '.join(AGGREGATES)}")
    return [_table(group, baseline, aggregate) for group in read_groups([run for run in runs if not run.logged])]


def _table(group: Group, baseline_name: str, aggregate: str) -> Table:
    data = group.data
    baseline = baseline_of(group, baseline_name)
    if TEST not in group.split_Q:
        raise RunError(f"the runs on {data.name} decide on no test query: run them again with --fresh")
    by_split = {
        split: split_figures(group, split, baseline, aggregate == "iqm") for split in sorted(set(group.split_Q))
    }
    rows, harm_R = [], harms(group)
    for index, entry in enumerate(group.entries):
        of_split = {split: figures[index] for split, figures in by_split.items()}
        rows.append(_row(group, entry, baseline_name, of_split).model_copy(update={"harm": harm_R[index]}))
    rows.sort(key=lambda row: (row.reference, -rank(row), row.router, row.settings_hash))
    tasks = tuple(_tasks(group.task_Q[group.split_Q == TEST]))
    all_notes = [*notes(group), *expected_notes(rows, baseline_name), *iqm_notes(rows, len(tasks))]
    all_notes += latency_notes(rows)
    all_notes += detectable_notes(rows, baseline_name) + ([RANK_NOTE] if aggregate == "mean" else [])
    return Table(data, tasks, baseline_name, tuple(rows), tuple(all_notes), aggregate)


def baseline_of(group: Group, name: str) -> Entry:
    """The entry that others are compared with. Raises RunError where there is none of that name."""
    baseline = group.find(name)
    if baseline is None:
        there = ", ".join(sorted({entry.router for entry in group.entries}))
        how = f"run it with --router {shlex.quote(name)}, or " if name.startswith(ARM_PREFIX) else ""
        raise RunError(
            f"baseline {name} has no run on {group.data.name} (alpha {group.data.alpha:g}): {how}choose one of {there}"
        )
    return baseline


def rank(row: Comparison) -> float:
    value = row.headline[0] if row.iqm is None else row.iqm.value
    return -math.inf if value is None else value


def identity(group: Group, entry: Entry, baseline: str) -> Identity:
    """Which router an entry is."""
    data, records = group.data, [run.record for run in entry.runs]
    configuration = entry.record.configuration
    return Identity(
        router=entry.router,
        settings=configuration.shown_settings,
        settings_hash=entry.settings_hash,
        tuned=next((record.configuration.tuned for record in records if record.configuration.tuned), None),
        reference=entry.record.reference,
        external=entry.record.external,
        baseline=baseline,
        outcomes=data.name,
        data_hash=data.hash,
        missing=data.missing,
        cost_rule=data.cost_rule,
        simulated=data.simulated,
        alpha=data.alpha,
        unknown_costs=data.unknown_costs,
        encoder=entry.record.encoder,
        n_seeds=len(records),
    )


def _row(group: Group, entry: Entry, baseline: str, of_split: dict[str, Figures]) -> Comparison:
    records = [run.record for run in entry.runs]
    return Comparison(
        **dict(identity(group, entry, baseline)),
        collapse_rate=_collapse_rate(entry),
        per_task=_per_task(group, entry),
        splits={split: figures for split, figures in of_split.items() if split != TEST},
        fit_seconds=_over_seeds([record.fit_seconds for record in records]),
        route_us_per_query=_over_seeds([record.route_us_per_query for record in records]),
        route_us_p95=_over_seeds([record.route_us_p95 for record in records]),
        command=command_of(entry),
        **dict(of_split[TEST]),
    )


def _collapse_rate(entry: Entry) -> float | None:
    fate = collapse_of([evaluations_of(run) for run in entry.runs])
    return None if fate is None else fate.rate


def _per_task(group: Group, entry: Entry) -> dict[str, float | None]:
    """Accuracy of each task of all evaluated splits. A task that test has too is written `split/task` elsewhere."""
    in_test = set(group.task_Q[group.split_Q == TEST])
    accuracies: dict[str, float | None] = {}
    for split in sorted(set(group.split_Q), key=lambda split: (split != TEST, split)):
        rows_Q = group.split_Q == split
        mean_T = metrics.task_means(entry.score_SQ[:, rows_Q], group.task_code_Q[rows_Q]).mean(axis=0)
        for task, mean in zip(_tasks(group.task_Q[rows_Q]), mean_T, strict=True):
            clear = split == TEST or (task not in in_test and task not in accuracies)
            accuracies[task if clear else f"{split}/{task}"] = finite_or_none(float(mean))
    return accuracies


def _tasks(task_Q: StrQ) -> list[str]:
    return sorted(map(str, set(task_Q.tolist())))


def command_of(entry: Entry) -> str:
    """What reproduces the row: the runs' commands, with the number of seeds where they left it out."""
    commands = list(dict.fromkeys(run.record.command for run in entry.runs))
    if len(entry.seeds) > 1 and not entry.record.external:
        count = f" --seeds {max(entry.seeds) + 1}"
        commands = [each if "--seeds" in shlex.split(each) else each + count for each in commands]
    return " && ".join(commands)


def _over_seeds(values: list[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return float(np.median(measured)) if measured else None
