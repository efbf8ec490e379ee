"""A router decides: by its own `route`, or by what it predicts; checked, and charged for what its encoder costs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recal_bench.encoders import Encoder
from recal_bench.errors import PluginError
from recal_bench.routers.interface import Calls, Decisions, Predictions, Predicts, Queries, Router, Routes, queries_for


def decide(router: Router, queries: Queries, calls: Calls) -> Decisions:
    """Let a router decide. Raises PluginError where it chooses an arm that is not on offer."""
    return decider(router, queries)(calls)


def decider(router: Router, queries: Queries) -> Callable[[Calls], Decisions]:
    """Lets a router decide on queries with any calls, as `decide` does. What it predicts is asked for once.

    Predictions do not depend on the calls: neither on the price of cost nor on what is available.
    """
    queries = queries_for(router, queries)
    predicted: list[Predictions] = []

    def decided(calls: Calls) -> Decisions:
        if isinstance(router, Routes):
            decisions = _checked(router, router.route(queries, calls), queries, calls)
            _bill_encoding(router, queries, calls)
            return decisions
        if not isinstance(router, Predicts):
            raise PluginError(f"router {type(router).__name__} has neither route() nor predict(): give it one of them")
        if not predicted:
            predicted.append(router.predict(queries))
        score_QA, cost_QA = predicted[0]
        decisions = _checked(router, calls.choose(calls.objective.utility(score_QA, cost_QA)), queries, calls)
        _bill_encoding(router, queries, calls)
        return decisions

    return decided


def encoders_of(router: Router) -> list[Encoder]:
    """The text encoders that a router holds as its attributes."""
    return [each for each in getattr(router, "__dict__", {}).values() if isinstance(each, Encoder)]


def _bill_encoding(router: Router, queries: Queries, calls: Calls) -> None:
    """Charge each query what its encoding costs, whether or not its vector was cached or has been used before."""
    for encoder in encoders_of(router):
        usd_Q = encoder.usd(queries.prompt)
        if usd_Q is not None:
            for row, usd in enumerate(usd_Q):
                calls.bill(row, float(usd))


def _checked(router: Router, decisions: Decisions, queries: Queries, calls: Calls) -> Decisions:
    if not isinstance(decisions, Decisions):
        raise PluginError(f"router {type(router).__name__}: route() must return Decisions, as calls.choose() does")
    arm_Q = np.asarray(decisions.arm_Q)
    in_range_Q = (arm_Q >= 0) & (arm_Q < len(calls.arms))
    if arm_Q.shape != (len(queries.prompt),) or not in_range_Q.all():
        raise PluginError(f"router {type(router).__name__} must give one arm index in 0..{len(calls.arms) - 1} a query")
    allowed_Q = calls.available_QA[np.arange(len(arm_Q)), arm_Q]
    if not allowed_Q.all():
        raise PluginError(
            f"router {type(router).__name__} chose an arm without an outcome for {int((~allowed_Q).sum())} queries: "
            "choose with calls.choose(value_QA), which knows what is available"
        )
    return decisions
