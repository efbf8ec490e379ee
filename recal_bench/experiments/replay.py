"""Replays a router's decisions on logged outcomes: what was chosen, what it scored and cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from recal_bench.arrays import FloatQ, FloatQA, IntQ
from recal_bench.evaluation import references
from recal_bench.evaluation.offpolicy import Log, row_values
from recal_bench.experiments.bench import Bench, queries_of
from recal_bench.experiments.records import Guard
from recal_bench.outcomes import Objective, Outcomes
from recal_bench.outcomes.schema import LATENCY
from recal_bench.routers import Calls, Decisions, Router, decide, decider, queries_for
from recal_bench.routers.guarded import Guarded

if TYPE_CHECKING:
    import pandas as pd


Deciders: TypeAlias = Mapping[str, Callable[[Calls], Decisions]]


def deciders_of(bench: Bench, router: Router) -> Deciders:
    """Lets a router decide on every evaluated split. What it predicts there is asked for once, and then remembered."""
    return {split: decider(router, queries_of(part)) for split, part in bench.splits.evaluation.items()}


def replay(bench: Bench, router: Router, price: float | None = None, deciders: Deciders | None = None) -> pd.DataFrame:
    """A router's decisions on every evaluated split, asked at another price of cost (an alpha) where one is given.

    `deciders` are those of `deciders_of`, where they are there already.
    """
    import pandas as pd

    frames, deciders = [], deciders or deciders_of(bench, router)
    for split, outcomes in bench.splits.evaluation.items():
        calls = bench.calls(outcomes, router)
        if price is not None:
            calls = replace(calls, objective=replace(bench.objective, alpha=price))
        decisions = deciders[split](calls)
        frames.append(decision_frame(bench, split, outcomes, decisions, calls))
    return pd.concat(frames, ignore_index=True)


def guard_of(bench: Bench, router: Router) -> Guard | None:
    """How a guarded router was held back on every evaluated split; None of another router."""
    if not isinstance(router, Guarded):
        return None
    held_back = {
        split: float(router.held_back(queries_for(router, queries_of(part)), bench.calls(part, router)).mean())
        for split, part in bench.splits.evaluation.items()
    }
    caution: float | Literal["inf"] = "inf" if math.isinf(router.caution) else router.caution
    return Guard(caution=caution, tuned=router.guard == "auto", held_back=held_back)


def cost_of_calls(outcomes: Outcomes, decisions: Decisions, calls: Calls) -> FloatQ:
    """USD of all arms that were called for each query, the chosen one among them; NaN where one is unknown."""
    return _over_calls(outcomes.cost_QA, decisions, calls)


def _over_calls(value_QA: FloatQA, decisions: Decisions, calls: Calls) -> FloatQ:
    if not calls.called_QA.any():
        return _of_arm(value_QA, np.asarray(decisions.arm_Q)) + 0.0  # as a sum: no zero has a sign
    paid_QA = calls.paid_QA(decisions)
    # Arms that are held out come last, and are not offered to routers that cannot adapt.
    total_Q: FloatQ = np.where(paid_QA, value_QA[:, : paid_QA.shape[1]], 0.0).sum(axis=1)
    return total_Q


def validation_utility(bench: Bench, router: Router) -> FloatQ:
    """What a router decides on validation: utility of each query, of the chosen arm's score at the cost of all calls.

    (The score, where the costs are not known.) Of simulated outcomes its true expectation, unless more than one arm was
    called. Of a log of single choices the doubly robust row values, whose mean estimates it.
    """
    outcomes, objective = bench.splits.validation, bench.objective
    calls = bench.calls(outcomes)
    decisions = decide(router, queries_of(outcomes), calls)
    arm_Q = np.asarray(decisions.arm_Q)
    own_Q = objective.utility(np.zeros(len(outcomes)), calls.router_cost_Q)
    if outcomes.expected_score_QA is not None and not calls.called_QA.any():
        return _true_utilities(bench, outcomes, arm_Q)[0] + own_Q
    if outcomes.propensity_Q is None:
        cost_Q = cost_of_calls(bench.charged(outcomes), decisions, calls) + calls.router_cost_Q
        return objective.utility(_of_arm(outcomes.score_QA, arm_Q), cost_Q)
    # Where several arms were asked, the outcome of the chosen one is known: as if it had been logged for certain.
    logged_Q = np.where(outcomes.several_Q, arm_Q, outcomes.logged_arm_Q)
    log = Log(_utility_of(bench, outcomes, logged_Q), outcomes.propensity_Q, logged_Q, outcomes.task_Q)
    return row_values(log, arm_Q, bench.expected_utility["validation"]) + own_Q


def _of_arm(value_QA: FloatQA, arm_Q: IntQ) -> FloatQ:
    return value_QA[np.arange(len(arm_Q)), arm_Q]


def _utility_of(bench: Bench, outcomes: Outcomes, arm_Q: IntQ) -> FloatQ:
    return bench.objective.utility(_of_arm(outcomes.score_QA, arm_Q), _of_arm(outcomes.cost_QA, arm_Q))


def decision_frame(bench: Bench, split: str, outcomes: Outcomes, decisions: Decisions, calls: Calls) -> pd.DataFrame:
    """One row a query: what was chosen, its score, cost, utility and, where the truth is known, `expected_utility`
    (less the router's own cost) and `regret`, by how much the best arm's expectation exceeds the chosen one's.

    Of a log of single choices, besides: what was logged, and what `bench.expected_utility` holds of the chosen and of
    the logged arm. There score, cost and utility are known only where the two are the same, and where several arms were
    asked; of such a query what was logged is null.

    `latency_s` is there where the outcomes hold latencies: of all calls, one after the other, without the router's own.

    An unknown cost, an unknown latency, a utility that may not be reported and an unknown expectation are null. The
    expectation is unknown where more than one arm was called: what the first answered is then no longer a matter of
    expectation.
    """
    import pandas as pd

    arm_Q, router_cost_Q = np.asarray(decisions.arm_Q), calls.router_cost_Q
    score_Q, cost_Q = _of_arm(outcomes.score_QA, arm_Q), cost_of_calls(outcomes, decisions, calls)
    n_calls_Q = calls.paid_QA(decisions).sum(axis=1)
    arm_names = np.array([str(arm) for arm in outcomes.arms], dtype=object)
    nothing_Q = np.full(len(outcomes), np.nan)
    charged_Q = cost_of_calls(bench.charged(outcomes), decisions, calls) + router_cost_Q
    utility_Q = bench.objective.utility(score_Q, charged_Q) if bench.objective.reportable else nothing_Q
    truth_Q, best_Q = _true_utilities(bench, outcomes, arm_Q)
    own_Q = bench.objective.utility(np.zeros(len(outcomes)), router_cost_Q)
    frame = pd.DataFrame(
        {
            "split": split,
            "task": outcomes.task_Q,
            "query_id": outcomes.query_id_Q,
            "arm": arm_names[arm_Q],
            "calls": n_calls_Q,
            "answer": list(decisions.answer_Q) if decisions.answer_Q else None,
            "score": score_Q,
            "cost_usd": cost_Q,
            "router_cost_usd": router_cost_Q,
            "utility": utility_Q,
            "expected_utility": np.where(n_calls_Q == 1, truth_Q + own_Q, np.nan),
            "regret": np.where(n_calls_Q == 1, best_Q - truth_Q, np.nan),
        }
    ).astype({"answer": object})
    if outcomes.latency_QA is not None:
        frame[LATENCY] = _over_calls(outcomes.latency_QA, decisions, calls)
    if not outcomes.logged:
        return frame
    logged_Q, expected_QA = outcomes.logged_arm_Q, bench.expected_utility[split]
    utility_Q = _utility_of(bench, outcomes, logged_Q) if bench.objective.reportable else nothing_Q
    assert outcomes.propensity_Q is not None
    of_log = {
        "propensity": outcomes.propensity_Q,
        "logged_score": _of_arm(outcomes.score_QA, logged_Q),
        "logged_cost_usd": _of_arm(outcomes.cost_QA, logged_Q),
        "logged_utility": utility_Q,
        "expected_logged_utility": _of_arm(expected_QA, logged_Q),
    }
    drawn = {name: np.where(outcomes.several_Q, np.nan, value_Q) for name, value_Q in of_log.items()}
    return frame.assign(
        logged_arm=np.where(outcomes.several_Q, "", arm_names[logged_Q]),
        expected_utility=_of_arm(expected_QA, arm_Q),
        **drawn,
    )


def bayes_arms(objective: Objective, outcomes: Outcomes) -> IntQ:
    """The best arm given what the text shows. Only for outcomes whose true expectations are known."""
    assert outcomes.expected_score_QA is not None
    assert outcomes.expected_cost_QA is not None
    return references.bayes(outcomes.expected_score_QA, outcomes.expected_cost_QA, objective, outcomes.observed_QA)


def _true_utilities(bench: Bench, outcomes: Outcomes, arm_Q: IntQ) -> tuple[FloatQ, FloatQ]:
    """The true expected utility of some arms, and of the best ones. NaN where the truth is not known."""
    if outcomes.expected_score_QA is None:
        return np.full(len(outcomes), np.nan), np.full(len(outcomes), np.nan)
    assert outcomes.expected_cost_QA is not None
    expected_QA = bench.objective.utility(outcomes.expected_score_QA, outcomes.expected_cost_QA)
    return _of_arm(expected_QA, arm_Q), _of_arm(expected_QA, bayes_arms(bench.objective, outcomes))
