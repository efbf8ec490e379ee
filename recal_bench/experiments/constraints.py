"""A budget, or an accuracy to keep: the price of cost at which a fitted router meets it on validation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from recal_bench.arrays import FloatQ
from recal_bench.errors import SettingsError
from recal_bench.evaluation import prices
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.experiments.bench import Bench, queries_of
from recal_bench.experiments.points import BUDGET, Constraint, FrontierPoint, OperatingPoint
from recal_bench.experiments.sweep import ALPHAS, can_sweep, operating_point
from recal_bench.outcomes import Objective, Outcomes
from recal_bench.outcomes.objective import MOST_ALPHA
from recal_bench.routers import Predicts, Router, Routes, decider

_BISECTIONS = 20
_NOTHING = 1e-12


class ConstraintError(SettingsError):
    """A constraint that one router cannot meet, or that it cannot be asked to meet; others may."""


def meets(constraint: Constraint, point: OperatingPoint) -> bool:
    """Whether an operating point keeps the constraint; what rounding takes away does not count."""
    if constraint.kind == BUDGET:
        return point.cost_usd_per_1k <= constraint.target * (1 + _NOTHING)
    return point.accuracy >= constraint.target - _NOTHING


def require(bench: Bench, constraint: Constraint) -> None:
    """Raises SettingsError where no router could be held to a constraint on such outcomes, before any work is done."""
    option, data = constraint.option, bench.data
    if data.unknown_costs:
        raise SettingsError(
            f"{option} needs the cost of every outcome, and {data.unknown_costs:,} of {data.name} are not known: "
            "choose a rule with --unknown-cost"
        )
    if data.logged:
        raise SettingsError(f"{option} needs the outcomes of several arms a query: {data.name} is a log of single ones")
    if not bench.objective.has_cost:
        raise SettingsError(f"{option} trades cost for accuracy, and {data.name} has no cost: leave it out")
    if bench.few is not None:
        raise SettingsError(f"{option} does not go with --hold-out-arms: validation knows nothing of the new arms")
    part = bench.splits.validation
    if constraint.kind == BUDGET:
        least = 1000 * float(macro_mean(np.nanmin(part.cost_QA, axis=1), part.task_Q))
        most = 1000 * float(np.nanmax(bench.mean_cost_A))
        if constraint.target < least:
            raise SettingsError(
                f"{constraint.written}: the cheapest arm of each validation query alone costs {least:.4g} USD per "
                f"1,000 queries: give more, up to about {most:.4g}, what the most expensive arm costs"
            )
        return
    best = float(macro_mean(np.nanmax(part.score_QA, axis=1), part.task_Q))
    if constraint.target > best + _NOTHING:
        raise SettingsError(
            f"{constraint.written}: with the right arm for each validation query accuracy is {best:.4f}: give less"
        )


def require_sweep(router: Router, constraint: Constraint) -> None:
    """Raises ConstraintError for a router that decides alike at every price of cost."""
    if not can_sweep(router):
        raise ConstraintError(
            f"it cannot be asked at another price of cost, which {constraint.option} chooses: run it without"
        )


def price_for(bench: Bench, router: Router, constraint: Constraint) -> FrontierPoint:
    """The price of cost (an alpha) at which a fitted router meets a constraint on validation, and what it does there.

    For a budget it is the lowest such price, for an accuracy the highest, so that nothing is saved or spent that need
    not be. Between two neighbouring choices nothing is mixed: the one that meets the constraint is taken. What a router
    predicts is searched exactly, at every price at which a choice changes; one that routes itself is asked at the
    prices of a frontier, and then by bisection. Raises ConstraintError where no price meets it, with what there is.
    """
    part = bench.splits.validation
    decide_with = decider(router, queries_of(part))
    seen: list[FrontierPoint] = []

    def at(alpha: float) -> FrontierPoint:
        calls = replace(bench.calls(part), objective=replace(bench.objective, alpha=alpha))
        seen.append(FrontierPoint(alpha=alpha, **dict(operating_point(part, decide_with(calls), calls))))
        return seen[-1]

    at(0.0)  # what it predicts is checked here
    if isinstance(router, Predicts) and not isinstance(router, Routes):
        candidates = _steps_that_meet(bench.objective, part, router, constraint)
        found = next((point for point in map(at, candidates) if meets(constraint, point)), None)
        at(MOST_ALPHA)
    else:
        points = [at(alpha) for alpha in _from_wasteful(ALPHAS, constraint)]
        first = next((index for index, point in enumerate(points) if meets(constraint, point)), None)
        found = None if first is None else points[first]
        if found is not None and first:
            refused = points[first - 1].alpha
            for _ in range(_BISECTIONS):
                middle = at((refused + found.alpha) / 2)
                if meets(constraint, middle):
                    found = middle
                else:
                    refused = middle.alpha
    if found is None:
        raise ConstraintError(
            f"{constraint.written} is not met: at any price it {_range(seen, constraint)} on validation"
        )
    return found


def _from_wasteful(alphas: Iterable[float], constraint: Constraint) -> list[float]:
    """Prices in the order in which the first that meets the constraint is the one to take."""
    return sorted(alphas, reverse=constraint.kind != BUDGET)


def _steps_that_meet(objective: Objective, part: Outcomes, router: Predicts, constraint: Constraint) -> list[float]:
    score_QA, cost_QA = router.predict(queries_of(part))
    assert objective.cost_ref is not None
    found = prices.steps(score_QA, cost_QA / objective.cost_ref, part.observed_QA)
    weight_Q = _macro_weights(part)
    price_P, cost_P = prices.along(found, part.cost_QA, weight_Q)
    accuracy_P = prices.along(found, part.score_QA, weight_Q)[1]
    return _from_wasteful(
        (
            float(price)
            for price, accuracy, cost in zip(price_P, accuracy_P, cost_P, strict=True)
            if price <= MOST_ALPHA
            and meets(constraint, OperatingPoint(accuracy=accuracy, cost_usd_per_1k=1000 * float(cost)))
        ),
        constraint,
    )


def _macro_weights(part: Outcomes) -> FloatQ:
    """What each query weighs in the mean of the tasks' means."""
    task_Q, n_T = np.unique(part.task_Q, return_inverse=True, return_counts=True)[1:]
    return np.asarray(1.0 / n_T[task_Q] / len(n_T))


def _range(seen: list[FrontierPoint], constraint: Constraint) -> str:
    if constraint.kind == BUDGET:
        usd = [point.cost_usd_per_1k for point in seen]
        return f"costs {min(usd):.4g} to {max(usd):.4g} USD per 1,000 queries"
    accuracy = [point.accuracy for point in seen]
    return f"has an accuracy of {min(accuracy):.4f} to {max(accuracy):.4f}"
