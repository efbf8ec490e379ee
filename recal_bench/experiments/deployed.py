"""A trained router, loaded from its run and asked about new queries."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import NamedTuple

import numpy as np

from recal_bench import routers
from recal_bench.arrays import BoolQA, FloatA, IntQ, finite_or_none
from recal_bench.errors import PluginError, RecalBenchError, RunError, SettingsError
from recal_bench.experiments.records import Run
from recal_bench.outcomes import Arm, Objective
from recal_bench.plugins import raised_by_plugin
from recal_bench.routers import Calls, Predicts, Queries, Router, decide


class Advice(NamedTuple):
    """The arm for one query. Score and cost (USD) are expected for this query where `predicted`, else train means."""

    arm: Arm
    score: float | None
    cost: float | None
    predicted: bool


def advise(run: Run, prompts: Sequence[str]) -> list[Advice]:
    """Load the router of a run (arrays, JSON, safetensors; never a pickle) and route the prompts. Raises as `ask`."""
    queries = Queries(tuple(f"query-{row}" for row in range(len(prompts))), tuple(prompts))
    asked = ask(run, queries)
    router, calls = asked.router, asked.calls
    mean_score_A = _known(run.record.mean_score_A[: len(calls.arms)])
    with _readable(run):
        predicted = isinstance(router, Predicts)
        score_QA, cost_QA = (
            router.predict(queries)
            if isinstance(router, Predicts)
            else (np.tile(mean_A, (len(prompts), 1)) for mean_A in (mean_score_A, calls.mean_cost_A))
        )
    return [
        Advice(calls.arms[arm], finite_or_none(score_QA[row, arm]), finite_or_none(cost_QA[row, arm]), predicted)
        for row, arm in enumerate(asked.arm_Q)
    ]


class Asked(NamedTuple):
    """What the router of a run decides: the place of an arm in `calls.arms` for every query."""

    router: Router
    calls: Calls
    arm_Q: IntQ


def ask(run: Run, queries: Queries, available_QA: BoolQA | None = None) -> Asked:
    """Load the router of a run and let it decide, among the available arms or (None) all.

    Raises RunError for a reference (not a router), for decisions that were made elsewhere, and for a run whose router
    cannot be loaded, has other settings here, or cannot route with what it has loaded, PluginError where its class is
    not there.
    """
    record = run.record
    configuration, data = record.configuration, record.configuration.data
    if record.reference:
        raise RunError(f"{run.folder} is the reference {configuration.router}, which no router can be")
    if record.external:
        raise RunError(f"{run.folder} holds decisions that were made elsewhere: there is no router here to ask")
    router = _unfitted(run)
    with _readable(run):
        router.load(run.folder / "router")
    # Who cannot adapt to the held-out arms, which come last, knows nothing of them.
    n_arms = len(data.arms) - (0 if record.adapted else len(data.held_out))
    arms = tuple(Arm.parse(name) for name in data.arms[:n_arms])
    if available_QA is None:
        available_QA = np.ones((len(queries.prompt), n_arms), dtype=bool)
    calls = Calls(
        arms=arms,
        objective=Objective(data.alpha, data.cost_ref, data.unknown_costs),
        available_QA=available_QA[:, :n_arms],
        mean_cost_A=_known(record.mean_cost_A[:n_arms]),
    )
    with _readable(run):
        return Asked(router, calls, np.asarray(decide(router, queries, calls).arm_Q))


def _known(mean_A: Sequence[float | None]) -> FloatA:
    return np.array([np.nan if value is None else value for value in mean_A])


@contextmanager
def _readable(run: Run) -> Iterator[None]:
    """Whatever a damaged folder makes a router raise is one line; what a plug-in raises is for its author to read."""
    try:
        yield
    except RecalBenchError:
        raise
    except Exception as error:
        if raised_by_plugin(error):
            raise
        raise RunError(
            f"{run.folder / 'router'} is damaged or of another version: run it again with --fresh"
        ) from error


def _unfitted(run: Run) -> Router:
    """The router of a run, before it is loaded. Nothing is imported because a record names it.

    Raises PluginError where its class is not registered and not imported here, RunError where its settings are others.
    """
    configuration, written = run.record.configuration, run.record.router_class
    if routers.is_known(configuration.router) or written is None:
        try:
            created: Router = routers.create(configuration.router, configuration.settings)
        except SettingsError as error:
            raise RunError(
                f"{run.folder} was run by recal-bench {run.record.code}, where {configuration.router} had other "
                "settings than here: run it again, or use that version"
            ) from error
        return created
    module, _, name = written.partition(":")
    cls = getattr(sys.modules.get(module), name, None)
    if not (isinstance(cls, type) and is_dataclass(cls)):
        raise PluginError(
            f"{run.folder} was run with the class {name} of {module}, which is not there: "
            + ("define it again" if module == "__main__" else f"import {module} first")
        )
    routers.require_parts(configuration.router, cls)
    built: Router = routers.build(configuration.router, cls, configuration.settings)
    return built
