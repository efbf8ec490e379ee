"""What a router that predicts is fitted to: the scores and costs of all arms, column by column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import BoolQA, FloatA, FloatQ, FloatQA, IntQ, StrQ
from recal_bench.encoders import Encoder
from recal_bench.errors import OutcomesError
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.evaluation.references import arm_effects
from recal_bench.outcomes import Arm, Outcomes
from recal_bench.routers import Predictions, Queries, Train

NO_OUTCOME = "no arm has any outcome on train: give outcomes with scores"
PRIOR_COUNT = 20.0
"""Outcomes that the average arm counts for: what keeps an arm with two lucky outcomes from looking best."""


class Targets(NamedTuple):
    """Columns C: the score of every arm; then, where the outcomes hold costs, its cost in units of `cost_ref` (USD).

    `value_QC` is NaN where an arm has no outcome; `cost_ref` is NaN where the objective has no cost.
    `typical_C` is what a column is worth over all train queries, never NaN, and near the average arm's for an arm with
    few outcomes; `trust_C` is how far to follow what a model says of a column beyond that: 0 without an outcome, near
    1 with hundreds.
    """

    value_QC: FloatQA
    typical_C: FloatA
    trust_C: FloatA
    cost_ref: float

    @property
    def known_QC(self) -> BoolQA:
        return ~np.isnan(self.value_QC)

    @property
    def excess_QC(self) -> FloatQA:
        """By how much each value lies above its column's typical value; 0 where there is no outcome."""
        return np.where(self.known_QC, self.value_QC - self.typical_C, 0.0)


def targets_of(train: Train) -> Targets:
    """The columns that a router which predicts is fitted to."""
    outcomes, cost_ref = train.outcomes, train.objective.cost_ref
    score_A = typical_values(outcomes.score_QA, outcomes, np.min, PRIOR_COUNT)
    count_A = outcomes.observed_QA.sum(axis=0)
    trust_A = count_A / (count_A + PRIOR_COUNT)
    if cost_ref is None:
        return Targets(outcomes.score_QA, score_A, trust_A, np.nan)
    cost_QA = outcomes.cost_QA / cost_ref
    cost_A = typical_values(cost_QA, outcomes, np.max, PRIOR_COUNT)
    value_QC = np.hstack([outcomes.score_QA, cost_QA])
    return Targets(value_QC, np.concatenate([score_A, cost_A]), np.tile(trust_A, 2), cost_ref)


def predictions_of(value_QC: FloatQA, cost_ref: float) -> Predictions:
    """Predicted columns as scores and costs (USD)."""
    if np.isnan(cost_ref):
        return Predictions(value_QC, np.full_like(value_QC, np.nan))
    score_QA, cost_QA = np.hsplit(value_QC, 2)
    return Predictions(score_QA, cost_QA * cost_ref)


def typical_values(
    value_QA: FloatQA, outcomes: Outcomes, worst: Callable[[FloatA], float], prior_count: float = 0.0
) -> FloatA:
    """What each arm is worth over all queries of `outcomes` (see `arm_effects`), never NaN.

    With a `prior_count`, drawn towards the average arm as if that many outcomes of an arm were average. The average arm
    is made of each by how far it is followed itself: one with few outcomes is not drawn towards its own luck. An arm
    without any outcome is taken to be as bad as the worst known one. Raises OutcomesError where no arm has one.
    """
    level_A = arm_effects(value_QA, outcomes.task_Q, outcomes.propensity_Q)
    known_A = ~np.isnan(level_A)
    if not known_A.any():
        raise OutcomesError(NO_OUTCOME)
    count_A = (~np.isnan(value_QA)).sum(axis=0)[known_A]
    share_A = count_A / (count_A + prior_count)
    # Equal shares give the plain mean, to the last digit.
    average = np.average(level_A[known_A], weights=share_A / share_A.max())
    level_A[known_A] = average + share_A * (level_A[known_A] - average)
    return np.where(known_A, level_A, worst(level_A[known_A]))


def require_outcomes(train: Train) -> None:
    """Raises OutcomesError where no arm has an outcome."""
    if not train.outcomes.observed_QA.any():
        raise OutcomesError(NO_OUTCOME)


def require_validation(validation: Train, router: str, what_for: str) -> None:
    """Raises OutcomesError where no arm has an outcome on validation, naming the router and what it needs them for."""
    if not validation.outcomes.observed_QA.any():
        raise OutcomesError(f"router {router} needs outcomes in the split validation: it {what_for} by them")


def name_order(arms: Sequence[Arm]) -> IntQ:
    """The arms' places in the order of their names, for what must not depend on how they are listed. `[A]`."""
    return np.argsort([str(arm) for arm in arms], kind="stable")


def chosen_utility(split: Train, value_QA: FloatQA) -> float:
    """Macro utility on a split of the arms of the highest value, among those with an outcome: to pick a step by.

    Queries without any outcome do not count. Raises OutcomesError where all are.
    """
    utility_QA = split.utility_QA
    known_Q = ~np.isnan(utility_QA).all(axis=1)
    if not known_Q.any():
        raise OutcomesError("no arm has any outcome on validation: this router picks a training step by them")
    value_QA = np.where(np.isnan(utility_QA), -np.inf, value_QA)[known_Q]
    chosen_Q = utility_QA[known_Q][np.arange(known_Q.sum()), value_QA.argmax(axis=1)]
    return float(macro_mean(chosen_Q, split.outcomes.task_Q[known_Q]))


def utility_error(split: Train, predicted: Predictions) -> float:
    """Mean squared error of the predicted utility where it is known, in score units squared."""
    return float(np.nanmean((split.objective.utility(*predicted) - split.utility_QA) ** 2))


def task_weights(task_Q: StrQ) -> FloatQ:
    """A weight for each query, 1 in sum over every task: all tasks alike, however many queries they have."""
    task_of_Q, count_T = np.unique(task_Q, return_inverse=True, return_counts=True)[1:]
    return 1 / count_T[task_of_Q]


def unseen_last(value_QA: FloatQA, seen_A: NDArray[np.bool_]) -> FloatQA:
    """The same values, but those of arms without any outcome on train below all others: nothing is known of them."""
    return np.where(seen_A, value_QA, value_QA.min(initial=0.0) - 1.0)


def linear_inputs(encoder: Encoder, queries: Queries) -> FloatQA:
    """What a linear model reads of each query: its encoding in double precision, and a constant, `[Q, E + 1]`."""
    encoding_QE = encoder.encode(queries.prompt, queries.features).astype(np.float64)
    return np.hstack([encoding_QE, np.ones((len(encoding_QE), 1))])


def in_fixed_order(train: Train) -> Train:
    """The same split with its rows sorted by prompt, so that what is drawn or summed does not depend on their order."""
    keys = zip(train.queries.prompt, train.queries.query_id, train.outcomes.task_Q, strict=True)
    order_Q = np.array([row for _, row in sorted((key, row) for row, key in enumerate(keys))], dtype=np.int64)
    queries = train.queries.take(order_Q)
    feedback = train.feedback.take(order_Q) if train.feedback else None
    return Train(queries, train.outcomes.take(order_Q), train.objective, feedback)
