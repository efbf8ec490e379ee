"""How long routers take to route, measured alone: one call after the other, when all fits are over."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recal_bench.arrays import FloatQ
from recal_bench.experiments.bench import Bench, queries_of
from recal_bench.experiments.plans import RunPlan
from recal_bench.experiments.records import Run
from recal_bench.experiments.work import alone, write_record
from recal_bench.outcomes import Outcomes
from recal_bench.routers import Router, decide

TIMED_QUERIES, REPEATS = 50, 5


class Fitted(NamedTuple):
    """The runs of one plan, and one fitted router of theirs; None where all of them were found again."""

    plan: RunPlan
    runs: list[Run]
    router: Router | None


def measure(bench: Bench, fitted: Sequence[Fitted], folder: Path) -> list[Run]:
    """Write the latency into the records that lack it, and return all runs. All seeds of a router have the same.

    Where another process is at work in the folder, or it cannot be written, the latency stays unknown: whoever runs the
    same again measures it.
    """
    if all(run.record.route_us_per_query is not None for each in fitted for run in each.runs):
        return [run for each in fitted for run in each.runs]
    with alone(folder) as is_alone:
        routers = [_to_measure(each) if is_alone else None for each in fitted]
        taken = iter(time_single_queries(bench, [router for router in routers if router is not None]))
        return [
            run
            for each, router in zip(fitted, routers, strict=True)
            for run in (each.runs if router is None else _written(each.runs, next(taken)))
        ]


def _to_measure(each: Fitted) -> Router | None:
    """A fitted router of a plan of which a latency is unknown."""
    lacking = [run for run in each.runs if run.record.route_us_per_query is None]
    return (each.router or _loaded(each.plan, lacking[0])) if lacking else None


def _written(runs: Sequence[Run], taken_Q: FloatQ) -> list[Run]:
    found = {"route_us_per_query": float(np.median(taken_Q)), "route_us_p95": float(np.percentile(taken_Q, 95))}
    measured = []
    for run in runs:
        if run.record.route_us_per_query is None:
            run = Run(folder=run.folder, record=run.record.model_copy(update=found))
            write_record(run.folder, run.record)
        measured.append(run)
    return measured


def _loaded(plan: RunPlan, run: Run) -> Router | None:
    """The router of a run that was not fitted now; None where what it saved cannot be loaded."""
    router = copy.deepcopy(plan.router)
    try:
        router.load(run.folder / "router")
    except Exception:
        return None
    return router


def time_single_queries(bench: Bench, routers: Sequence[Router]) -> list[FloatQ]:
    """Of each router the microseconds to route a query that comes alone, `[Q]`, for the first queries of test.

    Each is the median of some repeats. The routers take turns, so that what else the machine does meets them alike; the
    first call of each is not measured.
    """
    test = bench.splits.test
    singles = [test.take(np.array([row])) for row in range(min(TIMED_QUERIES, len(test)))]

    def taken(router: Router, one: Outcomes) -> float:
        calls, queries = bench.calls(one, router), queries_of(one)
        begin = time.perf_counter()
        decide(router, queries, calls)
        return (time.perf_counter() - begin) * 1e6

    for router in routers:
        taken(router, singles[0])
    taken_NRQ = [[[taken(router, one) for one in singles] for router in routers] for _ in range(REPEATS)]
    return [np.asarray(np.median(of_one, axis=0)) for of_one in zip(*taken_NRQ, strict=True)]
