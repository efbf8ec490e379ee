"""A structured action: is the response well-formed, and which arm does it name."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

NEVER = -1e9


class Actions(NamedTuple):
    """Drawn actions, `[Q, G]`. The arm counts only where the action is well-formed."""

    well_formed_QG: Tensor
    arm_QG: Tensor


class ActionDistribution(NamedTuple):
    """A Bernoulli for well-formed or not and, given that it is, a categorical over the available arms."""

    format_logit_Q: Tensor
    log_arm_QA: Tensor

    @classmethod
    def of(cls, format_logit_Q: Tensor, arm_logit_QA: Tensor, available_QA: Tensor) -> ActionDistribution:
        """From logits. Arms that are not available have probability exactly 0."""
        return cls(format_logit_Q, torch.log_softmax(arm_logit_QA.masked_fill(~available_QA, NEVER), dim=-1))

    def sample(self, group_size: int, generator: torch.Generator) -> Actions:
        """A group of independent draws for every query.

        Draws come from the generator's device (the CPU) whatever the policy's, so that both see the same numbers.
        """
        uniform_QG2 = torch.rand((len(self.log_arm_QA), group_size, 2), generator=generator).to(self.log_arm_QA.device)
        cumulative_QA = self.log_arm_QA.exp().cumsum(dim=-1)
        # Scaled by the last sum, which rounding keeps from being 1, a draw can never reach an arm of probability 0.
        threshold_QG = (uniform_QG2[..., 0] * cumulative_QA[:, -1:]).contiguous()
        arm_QG = torch.searchsorted(cumulative_QA, threshold_QG, right=True)
        return Actions(uniform_QG2[..., 1] < torch.sigmoid(self.format_logit_Q)[:, None], arm_QG)

    def log_prob(self, actions: Actions) -> Tensor:
        """Log-probability of each action, `[Q, G]`. A malformed action has no arm to account for."""
        log_format_QG = torch.where(
            actions.well_formed_QG, logsigmoid(self.format_logit_Q)[:, None], logsigmoid(-self.format_logit_Q)[:, None]
        )
        return log_format_QG + actions.well_formed_QG * self.log_arm_QA.gather(1, actions.arm_QG)

    def kl(self, other: ActionDistribution) -> Tensor:
        """KL(self || other) of each query, exact, `[Q]`."""
        p_Q, q_Q = self.format_logit_Q, other.format_logit_Q
        well_Q = torch.sigmoid(p_Q)
        format_Q = well_Q * (logsigmoid(p_Q) - logsigmoid(q_Q)) + (1 - well_Q) * (logsigmoid(-p_Q) - logsigmoid(-q_Q))
        return format_Q + well_Q * (self.log_arm_QA.exp() * (self.log_arm_QA - other.log_arm_QA)).sum(dim=-1)

    def entropy(self) -> Tensor:
        """Entropy of each query's actions in nats, `[Q]`."""
        well_Q = torch.sigmoid(self.format_logit_Q)
        format_Q = -well_Q * logsigmoid(self.format_logit_Q) - (1 - well_Q) * logsigmoid(-self.format_logit_Q)
        return format_Q - well_Q * (self.log_arm_QA.exp() * self.log_arm_QA).sum(dim=-1)
