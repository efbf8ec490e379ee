"""Routers on a log of single choices: what each would be worth, estimated from what was logged (docs/off-policy.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel

from recal_bench.arrays import BoolQ, FloatQ, FloatSQ, IntQ, StrQ
from recal_bench.defaults import BASELINE
from recal_bench.evaluation.offpolicy import Overlap, refusal
from recal_bench.evaluation.statistics import Interval, crossed_interval
from recal_bench.experiments.records import Data, Run
from recal_bench.reporting.figures.choices import Choices, choices_of, reward_of
from recal_bench.reporting.figures.compare import TEST, Identity, baseline_of, command_of, identity
from recal_bench.reporting.figures.differences import adjusted_p, against, ci_of
from recal_bench.reporting.figures.entries import Entry, Group, Logged, read_groups
from recal_bench.reporting.figures.notes import notes

_READING = (
    "no router can be replayed: values are estimated from the queries where its choice is the logged one, each "
    "weighted by 1 / propensity. SNIPS and IPS use these alone, DR corrects by them what a model expects; accuracy, "
    "cost and differences are by SNIPS. Brackets hold 95% intervals. They trust the propensities, and that an arm's "
    "outcome does not depend on who chose it"
)
READING = f"every query shows one arm, so {_READING}"
MIXED = (
    f"where a query shows one arm, {_READING}. Where it shows several, the outcome of the choice is known and counts "
    "as it is. What was logged, and the differences to it, are of the queries that show one arm"
)
LOGGED = "logged"
"""The row of what the log itself did."""


class Estimate(BaseModel):
    """An estimated value with its 95% interval (null where the data cannot tell)."""

    value: float
    ci: tuple[float, float] | None

    @classmethod
    def of(cls, interval: Interval) -> Estimate:
        return cls(value=interval.estimate, ci=ci_of(interval))


class LoggedFigures(BaseModel):
    """What a router would have done on one split of a log; estimates are null where the overlap is refused.

    `metric` says what is estimated: utility, or accuracy where no utility is reported; `mean` over what: `macro` over
    tasks, or `micro` over queries, where some task says too little of a router. The other figures are by SNIPS, and so
    are the paired differences to what was logged (over the queries with one arm) and to the baseline.
    `effective_queries` and `matched` (the
    share of queries whose logged arm is the chosen one) are means over seeds.
    """

    n_queries: int
    metric: str
    mean: str = "macro"
    snips: Estimate | None = None
    dr: Estimate | None = None
    ips: Estimate | None = None
    accuracy: Estimate | None = None
    cost_usd_per_1k: Estimate | None = None
    against_logged: Estimate | None = None
    against_logged_p_adjusted: float | None = None
    against_baseline: Estimate | None = None
    effective_queries: float
    matched: float
    refusal: str | None = None


class LoggedRow(LoggedFigures, Identity):
    """One row. The figures are those of `test`; `splits` has them for the other evaluated splits."""

    splits: dict[str, LoggedFigures]
    command: str


@dataclass(frozen=True)
class LoggedTable:
    """Rows by their SNIPS estimate, refused ones and then references last. `notes` qualify them."""

    data: Data
    baseline: str
    tasks: tuple[str, ...]
    rows: tuple[LoggedRow, ...]
    notes: tuple[str, ...]


def logged_tables(runs: Sequence[Run], baseline: str = BASELINE) -> list[LoggedTable]:
    """One table for each log of single choices among the runs. Raises RunError where one lacks the baseline."""
    return [_table(group, baseline) for group in read_groups([run for run in runs if run.logged])]


def _table(group: Group, baseline_name: str) -> LoggedTable:
    baseline = baseline_of(group, baseline_name)
    by_split = {split: _figures(group, split, baseline) for split in sorted(set(group.split_Q))}
    names = [identity(group, entry, baseline_name) for entry in group.entries]
    commands = [command_of(entry) for entry in group.entries]
    # What was logged is a row like the others: the value of the arms that it chose.
    blank: dict[str, Any] = {"settings": {}, "settings_hash": "", "tuned": None, "encoder": None, "n_seeds": 1}
    names.append(names[0].model_copy(update={"router": LOGGED, "reference": True, "external": False, **blank}))
    commands.append("")
    rows = [
        LoggedRow(
            **dict(name),
            **dict(by_split[TEST][index]),
            splits={split: figures[index] for split, figures in by_split.items() if split != TEST},
            command=command,
        )
        for index, (name, command) in enumerate(zip(names, commands, strict=True))
    ]
    rows.sort(key=lambda row: (row.reference, -row.snips.value if row.snips else math.inf, row.router))
    tasks = tuple(str(task) for task in np.unique(group.task_Q[group.split_Q == TEST]))
    return LoggedTable(group.data, baseline_name, tasks, tuple(rows), (*_of_this_log(group, rows), *notes(group)))


def seed_estimates(group: Group, entry: Entry, split: str) -> FloatQ:
    """The SNIPS estimate of every seed on a split, over queries (micro), `[S]`; empty where the log says too little."""
    assert group.logged is not None
    rows_Q = group.split_Q == split
    if not rows_Q.any():
        return np.zeros(0)
    logged = Logged(*(column[rows_Q] for column in group.logged))
    chosen = choices_of(entry, logged, rows_Q, np.zeros(int(rows_Q.sum()), dtype=np.int64), group.data)
    if any(map(refusal, chosen.overlap(np.array(["all"], dtype=object)))):
        return np.zeros(0)
    return np.asarray(chosen.snips().mean(axis=1))


def _of_this_log(group: Group, rows: Sequence[LoggedRow]) -> list[str]:
    """What a reader should know of these estimates: several arms of a query, tasks that are too small."""
    assert group.logged is not None
    found = [MIXED if np.isnan(group.logged.propensity_Q).any() else READING]
    micro = {TEST} if rows[0].mean == "micro" else set()
    micro |= {split for split, figures in rows[0].splits.items() if figures.mean == "micro"}
    if micro:
        found.append(
            f"estimates on {' and '.join(sorted(micro))} are means over queries (micro), not over tasks: of some "
            "router a task alone says too little (fewer than 5 effective queries)"
        )
    return found


class _Judged(NamedTuple):
    """What was chosen, how much of a log speaks of it, why no estimate is given.

    One of each for every entry; `overlaps` one for every seed. `comparable`: also with what was logged.
    """

    chosen: list[Choices]
    overlaps: list[list[Overlap]]
    refusals: list[str | None]
    comparable: list[bool]

    @classmethod
    def of(cls, chosen: list[Choices], tasks: StrQ, drawn_Q: BoolQ) -> _Judged:
        overlaps = [each.overlap(tasks) for each in chosen]
        refusals = [next(filter(None, map(refusal, seen)), None) for seen in overlaps]
        # Of a mixed log the queries with one arm may say too little alone.
        comparable = [
            reason is None
            and bool(drawn_Q.any())
            and (bool(drawn_Q.all()) or not any(map(refusal, each.of(drawn_Q).overlap(tasks))))
            for each, reason in zip(chosen, refusals, strict=True)
        ]
        return cls(chosen, overlaps, refusals, comparable)

    @property
    def n_refused(self) -> int:
        return sum(reason is not None for reason in self.refusals) + self.comparable.count(False)


def _figures(group: Group, split: str, baseline: Entry) -> list[LoggedFigures]:
    """The figures of every entry, and last those of the log itself."""
    assert group.logged is not None
    data, rows_Q = group.data, group.split_Q == split
    logged = Logged(*(column[rows_Q] for column in group.logged))
    drawn_Q = ~np.isnan(logged.propensity_Q)
    tasks, task_Q = np.unique(group.task_Q[rows_Q], return_inverse=True)
    mean = "macro"
    found = _Judged.of([choices_of(entry, logged, rows_Q, task_Q, data) for entry in group.entries], tasks, drawn_Q)
    if found.n_refused:
        all_queries = np.array(["all"], dtype=object)
        together = _Judged.of([each.micro() for each in found.chosen], all_queries, drawn_Q)
        if together.n_refused < found.n_refused:
            found, mean, task_Q = together, "micro", np.zeros_like(task_Q)
    reward_Q = reward_of(logged.score_Q, logged.utility_Q, data)[drawn_Q]
    values = [None if reason else each.snips() for each, reason in zip(found.chosen, found.refusals, strict=True)]
    of_baseline = values[group.entries.index(baseline)]
    against_log = [
        crossed_interval([each.of(drawn_Q).snips(), -reward_Q[None]], task_Q[drawn_Q]) if comparable else None
        for each, comparable in zip(found.chosen, found.comparable, strict=True)
    ]
    adjusted_R = adjusted_p(group, against_log)
    figures = []
    for entry, each, seen, reason, value_SQ, to_log, adjusted in zip(
        group.entries, found.chosen, found.overlaps, found.refusals, values, against_log, adjusted_R, strict=True
    ):
        of_entry = LoggedFigures(
            n_queries=len(task_Q),
            metric="accuracy" if data.unknown_costs else "utility",
            mean=mean,
            effective_queries=float(np.mean([of_seed.ess for of_seed in seen])),
            matched=float(np.mean([of_seed.matched for of_seed in seen])),
            refusal=reason,
        )
        if value_SQ is not None:
            of_entry.snips = _estimate([value_SQ], task_Q)
            if to_log is not None:
                of_entry.against_logged, of_entry.against_logged_p_adjusted = Estimate.of(to_log), adjusted
            of_entry.ips = _estimate([each.ips()], task_Q)
            # What a model expects is a utility: there is no doubly robust accuracy.
            doubly_SQ = None if data.unknown_costs else each.dr(len(data.arms))
            of_entry.dr = None if doubly_SQ is None else _estimate([doubly_SQ], task_Q)
            of_entry.accuracy = _estimate([each.score()], task_Q)
            usd_SQ = each.usd_per_1k()
            of_entry.cost_usd_per_1k = None if usd_SQ is None else _estimate([usd_SQ], task_Q)
            if of_baseline is not None and entry is not baseline:
                of_entry.against_baseline = _estimate(against(entry, value_SQ, baseline, of_baseline), task_Q)
        figures.append(of_entry)
    return [*figures, _of_log(logged, drawn_Q, reward_Q, task_Q, figures[0])]


def _estimate(parts: Sequence[FloatSQ], task_Q: IntQ) -> Estimate:
    return Estimate.of(crossed_interval(parts, task_Q))


def _of_log(logged: Logged, drawn_Q: BoolQ, reward_Q: FloatQ, task_Q: IntQ, like: LoggedFigures) -> LoggedFigures:
    """The log's own row: plain means over the queries whose arm was drawn, each of which counts as it is."""
    blank = LoggedFigures(
        n_queries=int(drawn_Q.sum()),
        metric=like.metric,
        mean=like.mean,
        effective_queries=float(drawn_Q.sum()),
        matched=1.0,
    )
    if not drawn_Q.any():
        return blank.model_copy(update={"refusal": "every query here shows several arms, and none what was chosen"})
    value = _estimate([reward_Q[None]], task_Q[drawn_Q])
    cost_Q = logged.cost_Q[drawn_Q]
    cost = None if np.isnan(cost_Q).any() else _estimate([1000 * cost_Q[None]], task_Q[drawn_Q])
    found = {
        "snips": value,
        "ips": value,
        "dr": value if like.metric == "utility" else None,
        "accuracy": _estimate([logged.score_Q[drawn_Q][None]], task_Q[drawn_Q]),
        "cost_usd_per_1k": cost,
    }
    return blank.model_copy(update=found)
