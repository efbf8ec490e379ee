"""What a policy starts from, by name: expected scores and costs of the arms, and those of train queries left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recal_bench.arrays import FloatQA
from recal_bench.errors import SettingsError
from recal_bench.policies.prior import Memory, prompt_numbers
from recal_bench.policies.settings import Prior
from recal_bench.remembered import Remembered, digest
from recal_bench.routers import Train
from recal_bench.toolbox.hierarchy import Hierarchy, fit_hierarchy, packed, unpacked
from recal_bench.toolbox.targets import PRIOR_COUNT, typical_values


class Expected(NamedTuple):
    """What a prior says of queries: scores of the arms, then costs (in units of `cost_ref`), `[Q, 2 A]`.

    `familiar_Q1`: how far a query is like those of train, 0 to 1, and so how far what was learnt there counts.
    """

    value_QX: Tensor
    familiar_Q1: Tensor


class Fitted(NamedTuple):
    """A prior, and what it says of each train query without that query."""

    prior: Memory | Hierarchy
    left_out: Expected


# Seeds, estimators and trials of a search start from the same hierarchy, which takes as long to fit as they to train.
_HIERARCHIES: Remembered[Fitted] = Remembered(8)


def fit_prior(settings: Prior, train: Train, embedding_QE: Tensor, cost_QA: FloatQA, fresh_QE: Tensor) -> Fitted | None:
    """The prior of some settings; None for `none`. Costs are in units of `cost_ref`, NaN where there is no outcome.

    `fresh_QE` are texts of the tasks of train that the encoder was not fitted to.
    """
    outcomes = train.outcomes
    if settings.kind == "none":
        return None
    value_QX = np.concatenate([outcomes.score_QA, cost_QA], axis=1)
    if settings.kind == "knn":
        memory = Memory(embedding_QE, torch.tensor(value_QX, dtype=torch.float32), settings.k)
        return Fitted(memory, _of_train(memory.values(embedding_QE, prompt_numbers(train.queries.prompt))))
    typical_X = np.concatenate(
        [
            typical_values(outcomes.score_QA, outcomes, np.min, PRIOR_COUNT),
            typical_values(cost_QA, outcomes, np.max, PRIOR_COUNT),
        ]
    )
    known_QE, new_QE = embedding_QE.numpy(), fresh_QE.numpy()
    task_Q, arms, alpha = outcomes.task_Q, outcomes.arms, train.objective.alpha

    def fit() -> Fitted:
        fitted = fit_hierarchy(known_QE, value_QX, typical_X, task_Q, arms, settings.tasks, alpha, new_QE)
        return Fitted(fitted[0], _of_train(torch.tensor(fitted[1], dtype=torch.float32)))

    about = json.dumps([task_Q.tolist(), arms, settings.tasks, alpha])
    return _HIERARCHIES.get(digest(known_QE, value_QX, typical_X, new_QE, about), fit)


def _of_train(left_out_QX: Tensor) -> Expected:
    return Expected(left_out_QX, torch.ones(len(left_out_QX), 1))


def expected_by(prior: Memory | Hierarchy | None, embedding_QE: Tensor, n_arms: int) -> Expected:
    """Without a prior all is worth 0. Only the hierarchy takes a query for foreign."""
    familiar_Q1 = embedding_QE.new_ones((len(embedding_QE), 1))
    if prior is None:
        return Expected(embedding_QE.new_zeros((len(embedding_QE), 2 * n_arms)), familiar_Q1)
    if isinstance(prior, Memory):
        return Expected(prior.values(embedding_QE), familiar_Q1)
    shares = prior.shares(embedding_QE.numpy())
    value_QX = torch.tensor(prior.values(embedding_QE.numpy(), shares.foreign_Q), dtype=torch.float32)
    return Expected(value_QX, torch.tensor(shares.familiar_Q, dtype=torch.float32)[:, None])


def tensors_of(prior: Memory | Hierarchy | None) -> dict[str, Tensor]:
    """What a file has to hold of a prior."""
    if prior is None:
        return {}
    if isinstance(prior, Memory):
        return {"embedding_NE": prior.embedding_NE, "value_NA": prior.value_NA}
    return {name: torch.tensor(value) for name, value in packed(prior).items()}


def prior_of(settings: Prior, tensors: Mapping[str, Tensor]) -> Memory | Hierarchy | None:
    """The prior that `tensors_of` took apart. Raises SettingsError where something of it is missing."""
    if settings.kind == "none":
        return None
    try:
        if settings.kind == "knn":
            return Memory(tensors["embedding_NE"], tensors["value_NA"], settings.k)
        return unpacked({name: value.numpy() for name, value in tensors.items()})
    except KeyError as error:
        raise SettingsError(f"the saved policy lacks {error} of its prior: run the router again with --fresh") from None
