"""Routers on a log of single choices: what each would be worth, estimated from what was logged (docs/off-policy.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel

from recal_bench.arrays import FloatQ, FloatSQ, IntQ, IntSQ, StrQ
from recal_bench.defaults import BASELINE
from recal_bench.evaluation.offpolicy import Log, Overlap, overlap, refusal, row_values
from recal_bench.evaluation.statistics import Interval, crossed_interval
from recal_bench.experiments.records import Data, Run
from recal_bench.reporting.figures.compare import TEST, Identity, baseline_of, command_of, identity, notes
from recal_bench.reporting.figures.differences import adjusted_p, against, ci_of
from recal_bench.reporting.figures.entries import Entry, Group, Logged, read_groups

READING = (
    "every query shows one arm, so no router can be replayed: values are estimated from the queries where its choice "
    "is the logged one, each weighted by 1 / propensity. SNIPS and IPS use these alone, DR corrects by them what a "
    "model expects; accuracy, cost and differences are by SNIPS. Brackets hold 95% intervals. They trust the "
    "propensities, and that an arm's outcome does not depend on who chose it"
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

    `metric` says what is estimated: utility, or accuracy where no utility is reported. The other figures are by SNIPS,
    and so are the paired differences to what was logged and to the baseline. `effective_queries` and `matched` (the
    share of queries whose logged arm is the chosen one) are means over seeds.
    """

    n_queries: int
    metric: str
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
    names.append(names[0].model_copy(update={"router": LOGGED, "reference": True, **blank}))
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
    return LoggedTable(group.data, baseline_name, tasks, tuple(rows), (READING, *notes(group)))


@dataclass(frozen=True)
class _Choices:
    """What one router chose on one split of a log, S seeds. Arms are indices; costs are in USD.

    `reward_Q` is the utility, or the score where no utility is reported, and `own_SQ` what the router itself costs in
    its unit: that is paid whichever arm was logged.
    """

    log: Log
    arm_SQ: IntSQ
    own_SQ: FloatSQ
    own_usd_SQ: FloatSQ

    def ips(self) -> FloatSQ:
        return np.stack([row_values(self.log, arm_Q) for arm_Q in self.arm_SQ]) - self.own_SQ

    def snips(self) -> FloatSQ:
        return self._snips(self.log.reward_N) - self.own_SQ

    def dr(self, logged: Logged, expected_SQ: FloatSQ, n_arms: int) -> FloatSQ:
        values, rows = [], np.arange(len(logged.arm_Q))
        for arm_Q, expected_Q in zip(self.arm_SQ, expected_SQ, strict=True):
            # Two arms of a row count: the logged one and the chosen one.
            expected_QA = np.zeros((len(rows), n_arms))
            expected_QA[rows, self.log.logged_arm_N] = logged.expected_Q
            expected_QA[rows, arm_Q] = expected_Q
            values.append(row_values(self.log, arm_Q, expected_QA))
        return np.stack(values) - self.own_SQ

    def score(self, logged: Logged) -> FloatSQ:
        return self._snips(logged.score_Q)

    def usd_per_1k(self, logged: Logged) -> FloatSQ | None:
        """None where a cost is unknown."""
        if np.isnan(logged.cost_Q).any():
            return None
        return 1000 * (self._snips(logged.cost_Q) + self.own_usd_SQ)

    def _snips(self, reward_Q: FloatQ) -> FloatSQ:
        log = self.log._replace(reward_N=reward_Q)
        return np.stack([row_values(log, arm_Q, self_normalised=True) for arm_Q in self.arm_SQ])

    def overlap(self, task_Q: StrQ) -> list[Overlap]:
        return [overlap(self.log._replace(task_N=task_Q), arm_Q) for arm_Q in self.arm_SQ]


def _figures(group: Group, split: str, baseline: Entry) -> list[LoggedFigures]:
    """The figures of every entry, and last those of the log itself."""
    assert group.logged is not None
    data, rows_Q = group.data, group.split_Q == split
    logged = Logged(*(column[rows_Q] for column in group.logged))
    index = {arm: number for number, arm in enumerate(data.arms)}
    task_Q = np.unique(group.task_Q[rows_Q], return_inverse=True)[1]
    arm_Q = np.array([index[arm] for arm in logged.arm_Q])
    reward_Q = logged.score_Q if data.unknown_costs else logged.utility_Q
    price = 0.0 if data.cost_ref is None else data.alpha / data.cost_ref
    chosen = []
    for entry in group.entries:
        usd_SQ = entry.router_cost_SQ[:, rows_Q]
        arm_SQ = np.array([[index[arm] for arm in of_seed] for of_seed in entry.arm_SQ[:, rows_Q]])
        chosen.append(_Choices(Log(reward_Q, logged.propensity_Q, arm_Q, task_Q), arm_SQ, price * usd_SQ, usd_SQ))
    # With the tasks' names, for a refusal says which task it is about.
    overlaps = [each.overlap(group.task_Q[rows_Q]) for each in chosen]
    refusals = [next(filter(None, map(refusal, seen)), None) for seen in overlaps]
    values = [None if reason else each.snips() for each, reason in zip(chosen, refusals, strict=True)]
    of_baseline = values[group.entries.index(baseline)]
    against_log = [None if each is None else crossed_interval([each, -reward_Q[None]], task_Q) for each in values]
    adjusted_R = adjusted_p(group, against_log)
    figures = []
    for entry, each, seen, reason, value_SQ, to_log, adjusted in zip(
        group.entries, chosen, overlaps, refusals, values, against_log, adjusted_R, strict=True
    ):
        found = LoggedFigures(
            n_queries=len(task_Q),
            metric="accuracy" if data.unknown_costs else "utility",
            effective_queries=float(np.mean([of_seed.ess for of_seed in seen])),
            matched=float(np.mean([of_seed.matched for of_seed in seen])),
            refusal=reason,
        )
        if value_SQ is not None and to_log is not None:
            found.snips = _estimate([value_SQ], task_Q)
            found.against_logged, found.against_logged_p_adjusted = Estimate.of(to_log), adjusted
            found.ips = _estimate([each.ips()], task_Q)
            # What a model expects is a utility: there is no doubly robust accuracy.
            if entry.expected_SQ is not None and not data.unknown_costs:
                found.dr = _estimate([each.dr(logged, entry.expected_SQ[:, rows_Q], len(data.arms))], task_Q)
            found.accuracy = _estimate([each.score(logged)], task_Q)
            usd_SQ = each.usd_per_1k(logged)
            found.cost_usd_per_1k = None if usd_SQ is None else _estimate([usd_SQ], task_Q)
            if of_baseline is not None and entry is not baseline:
                found.against_baseline = _estimate(against(entry, value_SQ, baseline, of_baseline), task_Q)
        figures.append(found)
    return [*figures, _of_log(logged, reward_Q, task_Q, figures[0].metric)]


def _estimate(parts: Sequence[FloatSQ], task_Q: IntQ) -> Estimate:
    return Estimate.of(crossed_interval(parts, task_Q))


def _of_log(logged: Logged, reward_Q: FloatQ, task_Q: IntQ, metric: str) -> LoggedFigures:
    """The log's own row: plain means, for every query counts as it is."""
    value = _estimate([reward_Q[None]], task_Q)
    unknown = bool(np.isnan(logged.cost_Q).any())
    return LoggedFigures(
        n_queries=len(task_Q),
        metric=metric,
        snips=value,
        ips=value,
        dr=value if metric == "utility" else None,
        accuracy=_estimate([logged.score_Q[None]], task_Q),
        cost_usd_per_1k=None if unknown else _estimate([1000 * logged.cost_Q[None]], task_Q),
        effective_queries=float(len(task_Q)),
        matched=1.0,
    )
