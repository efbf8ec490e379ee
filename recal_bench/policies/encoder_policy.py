"""The encoder policy: a text's embedding, a small network, a structured action."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from recal_bench.outcomes import Arm
from recal_bench.policies.actions import ActionDistribution


class EncoderPolicy(nn.Module):
    """`logit_a = prior_a + model_logit[model of a] + strategy_logit[strategy of a] + pair_logit[a]`, for any arms.

    One more output says how likely the action is well-formed. The last layer starts at zero: the untrained policy is
    the prior (uniform without one), and malformed with probability `malformed`, which training has to bring down.
    """

    model_A: Tensor
    strategy_A: Tensor

    def __init__(
        self, arms: Sequence[Arm], size: int, hidden: int, malformed: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        models = sorted({arm.model for arm in arms})
        strategies = sorted({arm.strategy for arm in arms})
        self.register_buffer("model_A", torch.tensor([models.index(arm.model) for arm in arms]), persistent=False)
        strategy_A = torch.tensor([strategies.index(arm.strategy) for arm in arms])
        self.register_buffer("strategy_A", strategy_A, persistent=False)
        self.sizes = [len(models), len(strategies), len(arms), 1]
        self.untrained_format_logit = math.log(1 - malformed) - math.log(malformed)
        # Made without torch's own initialisation, which would draw from the global generator.
        linear: Any = partial(skip_init, nn.Linear)
        self.first: nn.Linear = linear(size, hidden)
        self.last: nn.Linear = linear(hidden, sum(self.sizes))
        with torch.no_grad():
            bound = 1 / math.sqrt(size)
            for parameter in self.first.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
            self.last.weight.zero_()
            self.last.bias.zero_()
            self.last.bias[-1] = self.untrained_format_logit

    @property
    def device(self) -> torch.device:
        return self.first.weight.device

    def forward(self, embedding_QE: Tensor, prior_QA: Tensor, available_QA: Tensor) -> ActionDistribution:
        """The distribution over actions. Embeddings have unit length; the network sees entries of about unit size."""
        hidden_QH = torch.relu(self.first(embedding_QE * math.sqrt(embedding_QE.shape[1])))
        model_QM, strategy_QS, pair_QA, format_Q1 = self.last(hidden_QH).split(self.sizes, dim=-1)
        logit_QA = prior_QA + model_QM[:, self.model_A] + strategy_QS[:, self.strategy_A] + pair_QA
        return ActionDistribution.of(format_Q1[:, 0], logit_QA, available_QA)

    def untrained(self, prior_QA: Tensor, available_QA: Tensor) -> ActionDistribution:
        """The distribution before the first step."""
        format_logit_Q = prior_QA.new_full((len(prior_QA),), self.untrained_format_logit)
        return ActionDistribution.of(format_logit_Q, prior_QA, available_QA)
