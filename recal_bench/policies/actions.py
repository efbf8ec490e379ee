"""A structured action: is the response well-formed, and which arm does it name. Axes before Q are kept (e.g. seeds)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

NEVER = -1e9


class Actions(NamedTuple):
    """Actions, `[..., Q, G]`. The arm counts only where the action is well-formed.

    `share_QG` is how much of the query an action accounts for; the shares of a query add up to 1.
    """

    well_formed_QG: Tensor
    arm_QG: Tensor
    share_QG: Tensor


class ActionDistribution(NamedTuple):
    """A Bernoulli for well-formed or not and, given that it is, a categorical over the available arms."""

    format_logit_Q: Tensor
    log_arm_QA: Tensor

    @classmethod
    def of(cls, format_logit_Q: Tensor, arm_logit_QA: Tensor, available_QA: Tensor) -> ActionDistribution:
        """From logits. Arms that are not available have probability exactly 0."""
        return cls(format_logit_Q, torch.log_softmax(arm_logit_QA.masked_fill(~available_QA, NEVER), dim=-1))

    def sample(self, group_size: int, generators: Sequence[torch.Generator]) -> Actions:
        """A group of independent draws for every query, `[S, Q, G]`; each seed draws from a generator of its own.

        Draws come from the generators' device (the CPU) whatever the policy's, so that both see the same numbers.
        """
        shape = (self.log_arm_QA.shape[-2], group_size, 2)
        uniform_SQG2 = torch.stack([torch.rand(shape, generator=generator) for generator in generators])
        uniform_SQG2 = uniform_SQG2.to(self.log_arm_QA.device)
        cumulative_QA = self.log_arm_QA.exp().cumsum(dim=-1)
        # Scaled by the last sum, which rounding keeps from being 1, a draw can never reach an arm of probability 0.
        threshold_QG = (uniform_SQG2[..., 0] * cumulative_QA[..., -1:]).contiguous()
        arm_QG = torch.searchsorted(cumulative_QA, threshold_QG, right=True)
        well_formed_QG = uniform_SQG2[..., 1] < torch.sigmoid(self.format_logit_Q)[..., None]
        return Actions(well_formed_QG, arm_QG, torch.full_like(threshold_QG, 1 / group_size))

    def everything(self) -> Actions:
        """All actions of every query, `[..., Q, A + 1]`: the arms, then the malformed one, shared by probability."""
        n_arms = self.log_arm_QA.shape[-1]
        arm_QG = torch.arange(n_arms + 1, device=self.log_arm_QA.device).clamp(max=n_arms - 1)
        well_Q1 = torch.sigmoid(self.format_logit_Q)[..., None]
        share_QG = torch.cat([well_Q1 * self.log_arm_QA.exp(), 1 - well_Q1], dim=-1)
        arm_QG = arm_QG.expand(share_QG.shape)
        well_formed_QG = (torch.arange(n_arms + 1, device=arm_QG.device) < n_arms).expand(share_QG.shape)
        return Actions(well_formed_QG, arm_QG, share_QG)

    def log_prob(self, actions: Actions) -> Tensor:
        """Log-probability of each action, `[..., Q, G]`. A malformed action has no arm to account for."""
        format_logit_Q1 = self.format_logit_Q[..., None]
        log_format_QG = torch.where(actions.well_formed_QG, logsigmoid(format_logit_Q1), logsigmoid(-format_logit_Q1))
        return log_format_QG + actions.well_formed_QG * self.log_arm_QA.gather(-1, actions.arm_QG)

    def kl(self, other: ActionDistribution) -> Tensor:
        """KL(self || other) of each query, exact, `[..., Q]`."""
        p_Q, q_Q = self.format_logit_Q, other.format_logit_Q
        well_Q = torch.sigmoid(p_Q)
        format_Q = well_Q * (logsigmoid(p_Q) - logsigmoid(q_Q)) + (1 - well_Q) * (logsigmoid(-p_Q) - logsigmoid(-q_Q))
        return format_Q + well_Q * (self.log_arm_QA.exp() * (self.log_arm_QA - other.log_arm_QA)).sum(dim=-1)

    def entropy(self) -> Tensor:
        """Entropy of each query's actions in nats, `[..., Q]`."""
        well_Q = torch.sigmoid(self.format_logit_Q)
        format_Q = -well_Q * logsigmoid(self.format_logit_Q) - (1 - well_Q) * logsigmoid(-self.format_logit_Q)
        return format_Q - well_Q * (self.log_arm_QA.exp() * self.log_arm_QA).sum(dim=-1)
