"""The encoder policy: a text's embedding, a small network, a structured action. Several seeds at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recal_bench.outcomes import Arm
from recal_bench.policies.actions import ActionDistribution


class EncoderPolicy(nn.Module):
    """`logit_a = prior_a + model_logit[model of a] + strategy_logit[strategy of a] + pair_logit[a]`, for any arms.

    What is not the prior counts only as far as a query is familiar: of others the training has said nothing.
    One more output says how likely the action is well-formed. The last layer starts at zero: the untrained policy is
    the prior (uniform without one), and malformed with probability `malformed`, which training has to bring down.
    Every parameter has the seeds as its first axis; each seed is drawn from a generator of its own, so that it starts
    as it would alone.
    """

    model_A: Tensor
    strategy_A: Tensor

    def __init__(
        self, arms: Sequence[Arm], size: int, hidden: int, malformed: float, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        models = sorted({arm.model for arm in arms})
        strategies = sorted({arm.strategy for arm in arms})
        self.register_buffer("model_A", torch.tensor([models.index(arm.model) for arm in arms]), persistent=False)
        strategy_A = torch.tensor([strategies.index(arm.strategy) for arm in arms])
        self.register_buffer("strategy_A", strategy_A, persistent=False)
        self.sizes = [len(models), len(strategies), len(arms), 1]
        self.untrained_format_logit = math.log(1 - malformed) - math.log(malformed)
        n_seeds, bound = len(generators), 1 / math.sqrt(size)
        self.first_weight = nn.Parameter(torch.empty(n_seeds, size, hidden))
        self.first_bias = nn.Parameter(torch.empty(n_seeds, 1, hidden))
        self.last_weight = nn.Parameter(torch.zeros(n_seeds, hidden, sum(self.sizes)))
        self.last_bias = nn.Parameter(torch.zeros(n_seeds, 1, sum(self.sizes)))
        with torch.no_grad():
            for seed, generator in enumerate(generators):
                for parameter in (self.first_weight, self.first_bias):
                    parameter[seed].uniform_(-bound, bound, generator=generator)
            self.last_bias[..., -1] = self.untrained_format_logit

    @property
    def device(self) -> torch.device:
        return self.first_weight.device

    def forward(
        self, embedding_QE: Tensor, prior_QA: Tensor, available_QA: Tensor, familiar_Q1: Tensor
    ) -> ActionDistribution:
        """Distributions over actions, `[S, Q, ...]`; inputs `[S, Q, ...]`, or `[Q, ...]` that all seeds share.

        Embeddings have unit length; the network sees entries of about unit size.
        """
        hidden_SQH = torch.relu(embedding_QE * math.sqrt(embedding_QE.shape[-1]) @ self.first_weight + self.first_bias)
        logit_SQX = hidden_SQH @ self.last_weight + self.last_bias
        model_SQM, strategy_SQS, pair_SQA, format_SQ1 = torch.split(logit_SQX, self.sizes, dim=-1)
        of_model_SQA, of_strategy_SQA = (
            part.index_select(-1, number_A)
            for part, number_A in ((model_SQM, self.model_A), (strategy_SQS, self.strategy_A))
        )
        learnt_SQA = of_model_SQA + of_strategy_SQA + pair_SQA
        return ActionDistribution.of(format_SQ1[..., 0], prior_QA + familiar_Q1 * learnt_SQA, available_QA)

    def untrained(self, prior_QA: Tensor, available_QA: Tensor) -> ActionDistribution:
        """The distribution before the first step."""
        format_logit_Q = torch.full_like(prior_QA[..., 0], self.untrained_format_logit)
        return ActionDistribution.of(format_logit_Q, prior_QA, available_QA)
