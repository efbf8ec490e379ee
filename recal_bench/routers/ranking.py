"""All arms of a query in the order in which a router would take them: its choice first, then what it falls back to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from recal_bench.arrays import FloatQA, IntQA
from recal_bench.routers.deciding import decide
from recal_bench.routers.interface import Calls, Decisions, Predictions, Predicts, Queries, Router, Routes, queries_for


class Ranking(NamedTuple):
    """`arm_QA` holds indices into `calls.arms`, best first; `predictions` what a router that predicts expects."""

    arm_QA: IntQA
    predictions: Predictions | None


@dataclass
class _Watched(Calls):
    """Calls that remember the values by which a router chose last."""

    value_QA: FloatQA | None = field(init=False, default=None)

    def choose(self, value_QA: FloatQA) -> Decisions:
        decisions = super().choose(value_QA)
        self.value_QA = value_QA
        return decisions


def rank(router: Router, queries: Queries, calls: Calls) -> Ranking:
    """Rank the arms, all of which must be available. The first is what `decide` gives.

    By the values that the router chose by, equal ones as in `Calls.choose`; a router that chooses without values is
    asked again without the arms that it has named. Raises PluginError as `decide` does.
    """
    queries = queries_for(router, queries)
    watched = _Watched(calls.arms, calls.objective, calls.available_QA, calls.mean_cost_A, calls.replies, calls.adviser)
    predictions = router.predict(queries) if isinstance(router, Predicts) else None
    if predictions is not None and not isinstance(router, Routes):
        decisions = watched.choose(calls.objective.utility(*predictions))
    else:
        decisions = decide(router, queries, watched)
    first_Q = np.asarray(decisions.arm_Q)
    arm_QA = None if watched.value_QA is None else _by_value(watched.value_QA, calls)
    if arm_QA is None or not np.array_equal(arm_QA[:, 0], first_Q):
        arm_QA = _by_asking_again(router, queries, calls)
    return Ranking(arm_QA, predictions)


def _by_value(value_QA: FloatQA, calls: Calls) -> IntQA:
    order_A = np.argsort(np.where(np.isnan(calls.mean_cost_A), np.inf, calls.mean_cost_A), kind="stable")
    arm_QA: IntQA = order_A[np.argsort(-value_QA[:, order_A], axis=1, kind="stable")]
    return arm_QA


def _by_asking_again(router: Router, queries: Queries, calls: Calls) -> IntQA:
    rows, left_QA, columns = np.arange(len(calls.available_QA)), calls.available_QA.copy(), []
    for _ in calls.arms:
        offered = replace(calls, available_QA=left_QA.copy())
        arm_Q = np.asarray(decide(router, queries, offered).arm_Q)
        left_QA[rows, arm_Q] = False
        columns.append(arm_Q)
    return np.stack(columns, axis=1)
