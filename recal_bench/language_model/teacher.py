"""What another router predicts of each train query without having seen that query: what a policy is distilled from."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from recal_bench import routers
from recal_bench.arrays import FloatQA, IntQ
from recal_bench.errors import SettingsError
from recal_bench.outcomes.splits import normalized_prompt
from recal_bench.routers import Context, Train
from recal_bench.routers.registry import spec_of

FOLDS = 5


class Expected(NamedTuple):
    """Predicted scores and costs (in units of `cost_ref`; 0 where the outcomes hold none)."""

    score_QA: FloatQA
    cost_QA: FloatQA

    def utility_QA(self, alpha: float) -> FloatQA:
        return np.asarray(self.score_QA - alpha * self.cost_QA)


def cross_fitted(name: str, train: Train, validation: Train, context: Context) -> Expected:
    """A router's predictions for the train queries, each by a fit on the folds that do not hold its prompt.

    Raises SettingsError where the router does not predict scores and costs.
    """
    if not hasattr(spec_of(name).cls, "predict"):
        raise SettingsError(
            f"teacher={name} predicts no scores and costs to learn from: name a router that does (hierarchy, ridge, "
            "knn), or warm_start=format"
        )
    fold_Q = folds(train.queries.prompt)
    score_QA, cost_QA = (np.zeros_like(train.outcomes.score_QA) for _ in range(2))
    for fold in range(FOLDS):
        rows, others = np.flatnonzero(fold_Q == fold), np.flatnonzero(fold_Q != fold)
        teacher = routers.create(name)
        quiet = Context(context.seed, "cpu", context.folder, lambda line: None)
        teacher.fit(_taken(train, others), validation, quiet)
        predicted = teacher.predict(routers.queries_for(teacher, train.queries.take(rows)))
        score_QA[rows] = predicted.score_QA
        cost_QA[rows] = predicted.cost_QA / train.objective.cost_ref if train.objective.has_cost else 0.0
    return Expected(score_QA, cost_QA)


def folds(prompts: tuple[str, ...]) -> IntQ:
    """The fold of each prompt; those of identical prompts are the same. It does not depend on their order."""
    digests = [hashlib.sha256(normalized_prompt(each).encode()).digest() for each in prompts]
    return np.array([int.from_bytes(each[:8], "big") % FOLDS for each in digests])


def _taken(train: Train, rows: IntQ) -> Train:
    return train._replace(queries=train.queries.take(rows), outcomes=train.outcomes.take(rows))
