"""What a policy is trained on and judged by: tensors of one split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recal_bench.arrays import FloatQA
from recal_bench.errors import OutcomesError, SettingsError
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.evaluation.references import best_single
from recal_bench.outcomes import mean_over_observed
from recal_bench.routers import Train
from recal_bench.toolbox.targets import in_fixed_order


class Examples(NamedTuple):
    """Queries of one split, `[Q, ...]`; taken by rows `[S, B]` they become `[S, B, ...]`.

    Scores and costs (in units of `cost_ref`; 0 where the outcomes hold none) are 0 where an arm is not available. The
    prior logits at a price alpha are `prior_score - alpha * prior_cost`; `familiar_Q1` is how far the policy may differ
    from them. `column_QAC` holds the C other columns of the
    outcomes file that the reward reads; NaN where a value is unknown.
    """

    embedding_QE: Tensor
    prior_score_QA: Tensor
    prior_cost_QA: Tensor
    familiar_Q1: Tensor
    available_QA: Tensor
    score_QA: Tensor
    cost_QA: Tensor
    column_QAC: Tensor
    dataset_Q: Tensor

    def take(self, rows: Tensor) -> Examples:
        flat = rows.flatten()
        # Copies whole rows, where indexing goes entry by entry.
        return Examples(*(part.index_select(0, flat).reshape(*rows.shape, *part.shape[1:]) for part in self))


def reach_of(dataset_Q: Tensor, balance: bool) -> Tensor:
    """Where each row ends on a line of the chances to be drawn, `[Q]`: all rows alike, or all datasets. On the CPU."""
    dataset_Q = dataset_Q.cpu()
    weight_Q = 1 / torch.bincount(dataset_Q).double()[dataset_Q] if balance else torch.ones(len(dataset_Q)).double()
    return weight_Q.cumsum(dim=0)


def draw_rows(reach_Q: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Rows by their chances, with replacement, `[count]`."""
    place = torch.rand(count, generator=generator, dtype=torch.float64) * reach_Q[-1]
    return torch.searchsorted(reach_Q, place, right=True).clamp(max=len(reach_Q) - 1)


def examples_of(
    split: Train,
    embedding_QE: Tensor,
    prior_score_QA: Tensor,
    prior_cost_QA: Tensor,
    familiar_Q1: Tensor,
    columns: Sequence[str],
    device: str,
) -> Examples:
    """The outcomes of a split, with its embeddings, prior logits and the named columns.

    Raises OutcomesError where the outcomes lack one of these.
    """
    outcomes = split.outcomes
    absent = [name for name in columns if name not in outcomes.column_QA]
    if absent:
        raise OutcomesError(f"the outcomes hold no column {', '.join(absent)}: load them with columns={list(columns)}")

    def values(value_QA: FloatQA) -> Tensor:
        return torch.tensor(np.where(outcomes.observed_QA, value_QA, 0.0), dtype=torch.float32)

    column_CQA = np.array([outcomes.column_QA[name] for name in columns]).reshape(
        len(columns), *outcomes.score_QA.shape
    )
    parts = Examples(
        embedding_QE=embedding_QE,
        prior_score_QA=prior_score_QA,
        prior_cost_QA=prior_cost_QA,
        familiar_Q1=familiar_Q1,
        available_QA=torch.tensor(outcomes.observed_QA),
        score_QA=values(outcomes.score_QA),
        cost_QA=values(cost_units(split)),
        column_QAC=torch.tensor(column_CQA, dtype=torch.float32).movedim(0, -1),
        dataset_Q=torch.tensor(np.unique(outcomes.task_Q.astype(str), return_inverse=True)[1]),
    )
    return Examples(*(part.to(device) for part in parts))


def shrunk(examples: Examples, expected_QX: Tensor, trust: float) -> Examples:
    """Examples whose scores and costs are `trust` outcome and, for the rest, what is expected without it, `[Q, 2 A]`.

    Empirical Bayes: an outcome says little of an arm's expectation. What is not available stays 0.
    """
    values = [
        torch.where(examples.available_QA, trust * value_QA + (1 - trust) * expected_QA, 0.0)
        for value_QA, expected_QA in zip(
            (examples.score_QA, examples.cost_QA), expected_QX.tensor_split(2, dim=1), strict=True
        )
    ]
    return examples._replace(score_QA=values[0], cost_QA=values[1])


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


def learnable(split: Train) -> Train:
    """The queries that have an outcome at all, in an order that does not depend on the file's."""
    rows = np.flatnonzero(split.outcomes.observed_QA.any(axis=1))
    if not len(rows):
        raise SettingsError("train or validation holds no outcome to learn from: give outcomes with scores")
    queries = split.queries.take(rows)
    return in_fixed_order(Train(queries, split.outcomes.take(rows), split.objective))
