"""What a policy is trained on and judged by: tensors of one split."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recal_bench.arrays import FloatQA
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.evaluation.references import best_single
from recal_bench.outcomes import mean_over_observed
from recal_bench.routers import Train


class Examples(NamedTuple):
    """Queries of one split, `[Q, ...]`; taken by rows `[S, B]` they become `[S, B, ...]`.

    Scores and costs (in units of `cost_ref`; 0 where the outcomes hold none) are 0 where an arm is not available. The
    prior logits at a price alpha are `prior_score - alpha * prior_cost`.
    """

    embedding_QE: Tensor
    prior_score_QA: Tensor
    prior_cost_QA: Tensor
    available_QA: Tensor
    score_QA: Tensor
    cost_QA: Tensor
    dataset_Q: Tensor

    def take(self, rows: Tensor) -> Examples:
        return Examples(*(part[rows] for part in self))


def examples_of(
    split: Train, embedding_QE: Tensor, prior_score_QA: Tensor, prior_cost_QA: Tensor, device: str
) -> Examples:
    """The outcomes of a split, with its embeddings and prior logits."""
    outcomes = split.outcomes

    def values(value_QA: FloatQA) -> Tensor:
        return torch.tensor(np.where(outcomes.observed_QA, value_QA, 0.0), dtype=torch.float32)

    parts = Examples(
        embedding_QE=embedding_QE,
        prior_score_QA=prior_score_QA,
        prior_cost_QA=prior_cost_QA,
        available_QA=torch.tensor(outcomes.observed_QA),
        score_QA=values(outcomes.score_QA),
        cost_QA=values(cost_units(split)),
        dataset_Q=torch.tensor(np.unique(outcomes.task_Q.astype(str), return_inverse=True)[1]),
    )
    return Examples(*(part.to(device) for part in parts))


def cost_units(split: Train) -> FloatQA:
    """Costs in units of `cost_ref`, 0 where the outcomes hold none; NaN where an arm has no outcome."""
    outcomes, cost_ref = split.outcomes, split.objective.cost_ref
    cost_QA = np.zeros_like(outcomes.score_QA) if cost_ref is None else outcomes.cost_QA / cost_ref
    return np.where(outcomes.observed_QA, cost_QA, np.nan)


def best_single_utility(train: Train, validation: Train) -> float:
    """Macro utility on validation of the arm that is best on train, over the queries that have it."""
    arm = best_single(train.utility_QA, train.outcomes.task_Q, mean_over_observed(cost_units(train)))
    utility_Q, task_Q = validation.utility_QA[:, arm], validation.outcomes.task_Q
    there_Q = ~np.isnan(utility_Q)
    return float(macro_mean(utility_Q[there_Q], task_Q[there_Q])) if there_Q.any() else float("nan")
