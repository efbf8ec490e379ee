"""A trained router, loaded from its run once and asked about new queries."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import NamedTuple

import numpy as np

from recal_bench import routers
from recal_bench.arrays import BoolQA, FloatQA, IntQ, IntQA, finite_or_none
from recal_bench.encoders import FeatureValues
from recal_bench.errors import PluginError, RecalBenchError, RunError, SettingsError
from recal_bench.experiments.records import Run
from recal_bench.outcomes import Arm, Objective
from recal_bench.plugins import raised_by_plugin
from recal_bench.routers import Calls, Predicts, Queries, Router, decide, encoders_of
from recal_bench.routers.ranking import Ranking, rank


class Expected(NamedTuple):
    """An arm with its score and cost (USD; None where unknown)."""

    arm: Arm
    score: float | None
    cost: float | None


class Advice(NamedTuple):
    """The arm for one query. Score and cost (USD) are expected for this query where `predicted`, else train means.

    `ranking` are all arms, the chosen one first, in the order in which the router would take them.
    """

    arm: Arm
    score: float | None
    cost: float | None
    predicted: bool
    ranking: tuple[Expected, ...]


class DeployedRouter:
    """The router of a run in memory (arrays, JSON, safetensors; never a pickle). Not for several threads at once.

    `arms` are what it chooses among, `predicts` says whether it expects a score and a cost for each query,
    `features` are those that it reads.

    Raises RunError for a reference (not a router), for decisions that were made elsewhere, and for a run whose router
    cannot be loaded or has other settings here, PluginError where its class is not there.
    """

    def __init__(self, run: Run) -> None:
        record = run.record
        configuration, data = record.configuration, record.configuration.data
        if record.reference:
            raise RunError(f"{run.folder} is the reference {configuration.router}, which no router can be")
        if record.external:
            raise RunError(f"{run.folder} holds decisions that were made elsewhere: there is no router here to ask")
        self.run, self._router = run, _unfitted(run)
        with _readable(run):
            self._router.load(run.folder / "router")
        # Who cannot adapt to the held-out arms, which come last, knows nothing of them.
        n_arms = len(data.arms) - (0 if record.adapted else len(data.held_out))
        self.arms = tuple(Arm.parse(name) for name in data.arms[:n_arms])
        self.predicts = isinstance(self._router, Predicts)
        self.features = tuple(sorted({name for each in encoders_of(self._router) for name in each.feature_names}))
        # A router with a constraint is asked at the price that meets it.
        alpha = data.alpha if record.on_validation is None else record.on_validation.alpha
        self._objective = Objective(alpha, data.cost_ref, data.unknown_costs)
        self._mean_score_A, self._mean_cost_A = (
            np.array([np.nan if value is None else value for value in mean_A[:n_arms]])
            for mean_A in (record.mean_score_A, record.mean_cost_A)
        )

    def rank(
        self,
        prompts: Sequence[str],
        query_ids: Sequence[str] | None = None,
        features: Sequence[FeatureValues] | None = None,
    ) -> Ranking:
        """The arms of each prompt, best first, as indices into `arms`. `query_ids` are `query-0`, ... by default.

        `features` is what is known of each prompt; what is not given, or was not on train, counts as unknown.

        Raises SettingsError on an empty prompt, PluginError where the router needs more than a prompt to decide
        (answers of arms, advice of models), RunError where it cannot route with what it has loaded.
        """
        empty = next((row for row, prompt in enumerate(prompts) if not prompt.strip()), None)
        if empty is not None:
            raise SettingsError(f"question {empty + 1:,} of {len(prompts):,} is empty: there is nothing to route by")
        ids = tuple(f"query-{row}" for row in range(len(prompts))) if query_ids is None else tuple(query_ids)
        with _readable(self.run):
            queries = Queries(ids, tuple(prompts), tuple(features or [{}] * len(prompts)))
            return rank(self._router, queries, self._calls(len(prompts)))

    def decide(self, queries: Queries, available_QA: BoolQA | None = None) -> IntQ:
        """The arm of each query as an index into `arms`, among the available ones or (None) all. Raises as `rank`."""
        with _readable(self.run):
            return np.asarray(decide(self._router, queries, self._calls(len(queries.prompt), available_QA)).arm_Q)

    def _calls(self, n_queries: int, available_QA: BoolQA | None = None) -> Calls:
        n_arms = len(self.arms)
        everything_QA = np.ones((n_queries, n_arms), dtype=bool)
        available_QA = everything_QA if available_QA is None else available_QA[:, :n_arms]
        return Calls(self.arms, self._objective, available_QA, self._mean_cost_A)

    def expect(
        self,
        prompts: Sequence[str],
        query_ids: Sequence[str] | None = None,
        features: Sequence[FeatureValues] | None = None,
    ) -> tuple[IntQA, FloatQA, FloatQA]:
        """What `rank` gives, and the score and cost of every arm of `arms`: predictions, else means on train."""
        arm_QA, predictions = self.rank(prompts, query_ids, features)
        if predictions is not None:
            return arm_QA, *predictions
        shape = (len(prompts), len(self.arms))
        return arm_QA, np.broadcast_to(self._mean_score_A, shape), np.broadcast_to(self._mean_cost_A, shape)

    def route(
        self,
        prompts: Sequence[str],
        query_ids: Sequence[str] | None = None,
        features: Sequence[FeatureValues] | None = None,
    ) -> list[Advice]:
        """The arm for each prompt. Raises what `rank` raises."""
        if not prompts:
            return []
        arm_QA, score_QA, cost_QA = self.expect(prompts, query_ids, features)
        advice = []
        for row, arm_A in enumerate(arm_QA):
            ranking = tuple(
                Expected(self.arms[arm], finite_or_none(score_QA[row, arm]), finite_or_none(cost_QA[row, arm]))
                for arm in arm_A
            )
            advice.append(Advice(*ranking[0], self.predicts, ranking))
        return advice


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
