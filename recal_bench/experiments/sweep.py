"""One router at all prices of cost: what it does as alpha goes from 0 to "always cheapest"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from recal_bench.evaluation import references
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.experiments.bench import Bench
from recal_bench.experiments.points import Frontier, FrontierPoint, OperatingPoint
from recal_bench.experiments.replay import Deciders, cost_of_calls, deciders_of
from recal_bench.outcomes import Outcomes
from recal_bench.routers import Calls, Decisions, Predicts, Router, Routes, flags_of

ALPHAS = (0.0, *(float(f"{10 ** (step / 8):.3g}") for step in range(-16, 17)), 10_000.0)
"""Prices of cost: 0; eight a decade from 0.01 to 100; 10,000.

Below 0.01 the whole cost of the most expensive arm weighs less than a point of accuracy, and only near ties are left to
decide. Above 100 a tenth of accuracy buys less than a thousandth of `cost_ref`, which no area shows: one more price
means "always cheapest", at which even a hundred points of accuracy buy no more than a ten-thousandth.
"""


def sweep(bench: Bench, router: Router, deciders: Deciders | None = None) -> tuple[Frontier, ...] | None:
    """What a fitted router does on every evaluated split at each of `ALPHAS` and at the objective's own alpha.

    `deciders` are those of `deciders_of`, where they are there already.

    None where the outcomes have no (or not every) cost, arms are held out, or one arm a query is known, and for a
    router that cannot be swept: it must decide by its predictions, or say by a true attribute `sweeps` that its `route`
    follows `calls.objective.alpha`.
    """
    if not bench.objective.has_cost or bench.few is not None or bench.data.logged or not can_sweep(router):
        return None
    deciders = deciders or deciders_of(bench, router)
    return tuple(_frontier(bench, deciders[split], split, part) for split, part in bench.splits.evaluation.items())


def can_sweep(router: Router) -> bool:
    """Whether what a router decides follows the alpha it is given. A router with a `route` ignores its predictions."""
    return flags_of(router).sweeps or (isinstance(router, Predicts) and not isinstance(router, Routes))


def _frontier(bench: Bench, decide_with: Callable[[Calls], Decisions], split: str, part: Outcomes) -> Frontier:
    points = []
    for alpha in sorted({*ALPHAS, bench.objective.alpha}):
        calls = replace(bench.calls(part), objective=replace(bench.objective, alpha=alpha))
        point = operating_point(part, decide_with(calls), calls)
        points.append(FrontierPoint(alpha=alpha, **dict(point)))
    train = bench.splits.train
    accuracy_A = references.arm_effects(train.score_QA, train.task_Q)
    calls = bench.calls(part)
    most_accurate = calls.choose(np.tile(accuracy_A, (len(part), 1)))
    return Frontier(
        split=split,
        points=tuple(points),
        arms=tuple(_single_arm(bench, part, arm) for arm in range(len(part.arms))),
        best_accuracy=operating_point(part, most_accurate, calls),
    )


def _single_arm(bench: Bench, part: Outcomes, arm: int) -> OperatingPoint:
    """One arm for every query; where it has no outcome, the arm nearest to it in the order of train costs."""
    rank_A = np.argsort(np.argsort(bench.mean_cost_A, kind="stable"))
    nearness_A = -np.abs(rank_A - rank_A[arm]).astype(np.float64)
    calls = bench.calls(part)
    return operating_point(part, calls.choose(np.tile(nearness_A, (len(part), 1))), calls)


def operating_point(part: Outcomes, decisions: Decisions, calls: Calls) -> OperatingPoint:
    score_Q = part.score_QA[np.arange(len(part)), np.asarray(decisions.arm_Q)]
    cost_Q = cost_of_calls(part, decisions, calls) + calls.router_cost_Q
    return OperatingPoint(
        accuracy=macro_mean(score_Q, part.task_code_Q), cost_usd_per_1k=1000 * macro_mean(cost_Q, part.task_code_Q)
    )
