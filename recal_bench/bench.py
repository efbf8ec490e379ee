"""Outcomes made ready to be run on: read or simulated, split, checked, with the objective fixed on train."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recal_bench.arrays import FloatA
from recal_bench.defaults import DEFAULT_ALPHA
from recal_bench.errors import RecalBenchError
from recal_bench.objective import Objective, mean_over_observed
from recal_bench.outcomes import Outcomes
from recal_bench.records import Data
from recal_bench.routers import Calls, Queries, Reply, Train
from recal_bench.splits import Splits, prepare


@dataclass(frozen=True)
class Bench:
    """What every run on the same outcomes shares. `mean_score_A` and `mean_cost_A` (USD) are over train."""

    data: Data
    splits: Splits
    objective: Objective
    mean_score_A: FloatA
    mean_cost_A: FloatA

    @property
    def train(self) -> Train:
        return self._of(self.splits.train)

    @property
    def validation(self) -> Train:
        return self._of(self.splits.validation)

    def with_train_fraction(self, fraction: float) -> Bench:
        """The same with a share of train to learn from; the objective and what is evaluated stay.

        Of each task so many queries are kept, at least one; a larger share holds the queries of a smaller one. Raises
        RecalBenchError on a share that is none.
        """
        if not 0 < fraction <= 1:
            raise RecalBenchError(f"a train fraction of {fraction:g}: give a share above 0, at most 1")
        train = self.splits.train
        keys = zip(train.task_Q, train.query_id_Q, strict=True)
        order_Q = np.argsort(
            [hashlib.sha256(f"fraction\n{task}\n{query}".encode()).hexdigest() for task, query in keys]
        )
        kept_Q = np.zeros(len(train), dtype=bool)
        for task in train.tasks:
            of_task = order_Q[train.task_Q[order_Q] == task]
            kept_Q[of_task[: max(1, round(fraction * len(of_task)))]] = True
        part = train.take(kept_Q)
        data = self.data.model_copy(
            update={"train_fraction": fraction, "n_queries": {**self.data.n_queries, "train": len(part)}}
        )
        return replace(
            self,
            data=data,
            splits=replace(self.splits, train=part),
            mean_score_A=mean_over_observed(part.score_QA),
            mean_cost_A=mean_over_observed(part.cost_QA),
        )

    def _of(self, outcomes: Outcomes) -> Train:
        visible = replace(outcomes, expected_score_QA=None, expected_cost_QA=None)
        return Train(queries_of(outcomes), visible, self.objective)

    def calls(self, outcomes: Outcomes) -> Calls:
        """The replayed arms for the queries of one split."""

        def reply(row: int, arm: int) -> Reply:
            text = None if outcomes.response_QA is None else outcomes.response_QA[row, arm]
            return Reply(text, float(outcomes.cost_QA[row, arm]))

        return Calls(outcomes.arms, self.objective, outcomes.observed_QA, self.mean_cost_A, reply)


def queries_of(outcomes: Outcomes) -> Queries:
    """What a router may see of a split: identifiers that tell nothing (a log's own often name the task), and texts."""
    keys = zip(outcomes.task_Q, outcomes.query_id_Q, strict=True)
    identifiers = tuple(hashlib.sha256(f"{task}\n{query_id}".encode()).hexdigest()[:16] for task, query_id in keys)
    return Queries(identifiers, tuple(outcomes.prompt_Q))


def load_bench(
    path: Path | None = None,
    *,
    world_seed: int = 0,
    tasks: tuple[str, ...] = (),
    alpha: float = DEFAULT_ALPHA,
    missing: str = "error",
    responses: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Bench:
    """The outcomes of a file, or of the embedded pool where no path is given; with the arms' texts, where wanted.

    Raises RecalBenchError where the file is not usable, with what is wrong and what to do.
    """
    if path is None:
        from recal_bench.simulation import embedded_outcomes, embedded_responses

        outcomes = embedded_outcomes(world_seed, progress=progress)
        if responses:
            outcomes = replace(outcomes, response_QA=embedded_responses(world_seed))
    else:
        from recal_bench.outcome_files import read_outcomes

        outcomes = read_outcomes(path, responses)
    splits = prepare(outcomes, tasks, missing)
    train = splits.train
    objective = Objective.from_train(train.score_QA, train.cost_QA, alpha)
    if objective.has_cost:
        unknown = sum(int((part.observed_QA & np.isnan(part.cost_QA)).sum()) for part in splits.parts.values())
        if unknown:
            objective = replace(objective, cost_ref=None, unknown_costs=unknown)
    data = Data(
        name=outcomes.name,
        hash=outcomes.data_hash,
        simulated=outcomes.simulated,
        tasks=tuple(sorted({task for part in splits.parts.values() for task in part.tasks})),
        missing=missing,
        alpha=alpha,
        cost_ref=objective.cost_ref,
        unknown_costs=objective.unknown_costs,
        arms=tuple(str(arm) for arm in train.arms),
        n_queries={name: len(part) for name, part in splits.parts.items()},
        notes=splits.notes,
    )
    return Bench(data, splits, objective, mean_over_observed(train.score_QA), mean_over_observed(train.cost_QA))
