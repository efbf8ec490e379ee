"""What a policy starts from, by name: expected scores and costs of the arms, and those of train queries left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recal_bench.errors import SettingsError
from recal_bench.policies.prior import Memory, prompt_numbers
from recal_bench.policies.settings import Prior
from recal_bench.routers import Train
from recal_bench.toolbox.hierarchy import Hierarchy, fit_hierarchy, packed, unpacked
from recal_bench.toolbox.targets import PRIOR_COUNT, typical_values

if TYPE_CHECKING:
    from recal_bench.arrays import FloatQA


class Fitted(NamedTuple):
    """A prior, and its values for the train queries it was fitted to, each left out, `[Q, 2 A]`."""

    prior: Memory | Hierarchy
    left_out_QX: Tensor


def fit_prior(settings: Prior, train: Train, embedding_QE: Tensor, cost_QA: FloatQA) -> Fitted | None:
    """The prior of some settings; None for `none`. Costs are in units of `cost_ref`, NaN where there is no outcome."""
    outcomes = train.outcomes
    if settings.kind == "none":
        return None
    value_QX = np.concatenate([outcomes.score_QA, cost_QA], axis=1)
    if settings.kind == "knn":
        memory = Memory(embedding_QE, torch.tensor(value_QX, dtype=torch.float32), settings.k)
        return Fitted(memory, memory.values(embedding_QE, prompt_numbers(train.queries.prompt)))
    typical_X = np.concatenate(
        [
            typical_values(outcomes.score_QA, outcomes, np.min, PRIOR_COUNT),
            typical_values(cost_QA, outcomes, np.max, PRIOR_COUNT),
        ]
    )
    hierarchy, left_out_QX = fit_hierarchy(
        embedding_QE.numpy(), value_QX, typical_X, outcomes.task_Q, outcomes.arms, settings.tasks
    )
    return Fitted(hierarchy, torch.tensor(left_out_QX, dtype=torch.float32))


def prior_values(prior: Memory | Hierarchy | None, embedding_QE: Tensor, n_arms: int) -> Tensor:
    """Expected scores, then costs (in units of `cost_ref`), `[Q, 2 A]`; 0 without a prior."""
    if prior is None:
        return embedding_QE.new_zeros((len(embedding_QE), 2 * n_arms))
    if isinstance(prior, Memory):
        return prior.values(embedding_QE)
    return torch.tensor(prior.values(embedding_QE.numpy()), dtype=torch.float32)


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
