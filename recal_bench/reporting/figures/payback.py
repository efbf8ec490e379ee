"""Does routing pay? After how many queries the labels of train are paid back, and what it costs until a horizon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from recal_bench.arrays import FloatSQ
from recal_bench.defaults import BASELINE
from recal_bench.errors import RunError
from recal_bench.evaluation.payback import break_even, break_even_ends, ratio_ends
from recal_bench.evaluation.statistics import Interval, crossed_interval
from recal_bench.experiments.records import Data, Run
from recal_bench.reporting.figures.compare import TEST, baseline_of
from recal_bench.reporting.figures.differences import against, ci_of
from recal_bench.reporting.figures.entries import Entry, Group, read_groups
from recal_bench.wording import listed


class PaybackRow(BaseModel):
    """One router against a baseline on test. USD are per 1,000 queries unless the name says otherwise.

    `saved` is the baseline's cost less the router's, its own cost included; `worth` besides what the difference in
    accuracy is worth at the table's alpha. `break_even` and `worth_break_even` are the queries after which
    `label_cost_usd` is back, null for never; in their intervals the first number is the fewest queries, and null is
    never there too. `cost_ratio` is what labels and `horizon` queries cost in the baseline's cost of these queries.
    """

    router: str
    settings: dict[str, Any]
    settings_hash: str
    baseline: str
    outcomes: str
    data_hash: str
    alpha: float
    n_seeds: int
    n_queries: int
    label_cost_usd: float
    baseline_usd_per_1k: float
    accuracy_difference: float
    accuracy_difference_ci: tuple[float, float] | None
    saved_usd_per_1k: float
    saved_usd_per_1k_ci: tuple[float, float] | None
    break_even: int | None
    break_even_ci: tuple[int | None, int | None] | None
    worth_usd_per_1k: float | None
    worth_usd_per_1k_ci: tuple[float, float] | None
    worth_break_even: int | None
    worth_break_even_ci: tuple[int | None, int | None] | None
    horizon: int | None
    cost_ratio: float | None
    cost_ratio_ci: tuple[float | None, float | None] | None


@dataclass(frozen=True)
class PaybackTable:
    """The routers on one set of outcomes, the greatest saving first. `notes` say what is left out, and why."""

    data: Data
    baseline: str
    rows: tuple[PaybackRow, ...]
    notes: tuple[str, ...]

    @property
    def usd_per_point(self) -> float | None:
        """What a point of accuracy is worth at the table's alpha, in USD per 1,000 queries; None where alpha is 0."""
        worth = _usd_per_score(self.data)
        return None if worth is None else 10 * worth


def payback(runs: Sequence[Run], baseline: str = BASELINE, horizon: int | None = None) -> list[PaybackTable]:
    """One table for each set of outcomes with costs, of every router but the baseline, without references.

    Raises RunError where no set of outcomes has the costs of all outcomes, and where the baseline has no run.
    """
    groups = read_groups([run for run in runs if not run.logged])
    known = [group for group in groups if group.data.cost_ref is not None and not group.data.unknown_costs]
    if not known:
        raise RunError(
            "payback needs what every outcome cost, and these runs do not know it (a log of single choices, unknown "
            "costs, or none): run on outcomes with cost_usd"
        )
    without = [group.data.name for group in groups if group not in known]
    notes = [f"left out, since costs are not known: {listed(without)}"] if without else []
    return [_table(group, baseline, horizon, notes) for group in known]


def _table(group: Group, name: str, horizon: int | None, notes: list[str]) -> PaybackTable:
    baseline = baseline_of(group, name)
    entries = [entry for entry in group.entries if entry is not baseline and not entry.record.reference]
    old = sorted({entry.router for entry in entries if entry.record.label_cost_usd is None})
    if old:
        notes = [*notes, f"left out, since an older version wrote their records: {listed(old)} (--fresh runs it again)"]
    if group.data.missing == "zero":
        notes = [*notes, "outcomes that were missing are counted as paid for, at the arm's mean cost (--missing zero)"]
    rows = [
        _row(group, entry, baseline, name, entry.record.label_cost_usd, horizon)
        for entry in entries
        if entry.record.label_cost_usd is not None
    ]
    rows.sort(key=lambda row: (-row.saved_usd_per_1k, row.router, row.settings_hash))
    if not rows:
        raise RunError(f"no router is there to hold against {name} on {group.data.name}: run one with --router")
    return PaybackTable(group.data, name, tuple(rows), tuple(notes))


def _row(group: Group, entry: Entry, baseline: Entry, name: str, labels: float, horizon: int | None) -> PaybackRow:
    rows_Q = group.split_Q == TEST
    task_Q = np.unique(group.task_Q[rows_Q], return_inverse=True)[1]
    paid_SQ, of_baseline_SQ = ((each.cost_SQ + each.router_cost_SQ)[:, rows_Q] for each in (entry, baseline))
    saved = _gain(entry, -paid_SQ, baseline, -of_baseline_SQ, task_Q)
    score = _gain(entry, entry.score_SQ[:, rows_Q], baseline, baseline.score_SQ[:, rows_Q], task_Q)
    usd_per_score = _usd_per_score(group.data)
    worth = None
    if usd_per_score is not None:
        value_SQ, utility_SQ = (usd_per_score * each.utility_SQ[:, rows_Q] for each in (entry, baseline))
        worth = _gain(entry, value_SQ, baseline, utility_SQ, task_Q)
    of_baseline = crossed_interval([of_baseline_SQ], task_Q).estimate
    ratio, ratio_ci = None, None
    if horizon is not None and of_baseline > 0:
        whole_SQ = paid_SQ + labels / horizon
        ratio = crossed_interval([whole_SQ], task_Q).estimate / of_baseline
        ratio_ci = ratio_ends(lambda each: against(entry, whole_SQ, baseline, each * of_baseline_SQ), ratio, task_Q)
    configuration = entry.record.configuration
    return PaybackRow(
        router=entry.router,
        settings=configuration.shown_settings,
        settings_hash=entry.settings_hash,
        baseline=name,
        outcomes=group.data.name,
        data_hash=group.data.hash,
        alpha=group.data.alpha,
        n_seeds=len(entry.runs),
        n_queries=int(rows_Q.sum()),
        label_cost_usd=labels,
        baseline_usd_per_1k=1000 * of_baseline,
        accuracy_difference=score.estimate,
        accuracy_difference_ci=ci_of(score),
        saved_usd_per_1k=1000 * saved.estimate,
        saved_usd_per_1k_ci=_per_1k(saved),
        break_even=break_even(labels, saved.estimate),
        break_even_ci=_break_even_ci(labels, saved),
        worth_usd_per_1k=None if worth is None else 1000 * worth.estimate,
        worth_usd_per_1k_ci=None if worth is None else _per_1k(worth),
        worth_break_even=None if worth is None else break_even(labels, worth.estimate),
        worth_break_even_ci=None if worth is None else _break_even_ci(labels, worth),
        horizon=horizon,
        cost_ratio=ratio,
        cost_ratio_ci=ratio_ci,
    )


def _gain(entry: Entry, value_SQ: FloatSQ, baseline: Entry, of_baseline_SQ: FloatSQ, task_Q: NDArray[Any]) -> Interval:
    return crossed_interval(against(entry, value_SQ, baseline, of_baseline_SQ), task_Q)


def _usd_per_score(data: Data) -> float | None:
    """What a score of 1 is worth in USD per query, where utility is `score - alpha * cost / cost_ref`."""
    return None if data.cost_ref is None or data.alpha == 0 else data.cost_ref / data.alpha


def _per_1k(found: Interval) -> tuple[float, float] | None:
    ends = ci_of(found)
    return None if ends is None else (1000 * ends[0], 1000 * ends[1])


def _break_even_ci(labels: float, found: Interval) -> tuple[int | None, int | None] | None:
    ends = ci_of(found)
    return None if ends is None else break_even_ends(labels, *ends)
