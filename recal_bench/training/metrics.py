"""What a training step tells of itself, for every seed: tensors `[S]` by the name under which they are logged."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from recal_bench.calibration import has_spread, usable, weighted_sum
from recal_bench.calibration.rewards import Reward
from recal_bench.policies.actions import Actions


class Judged(NamedTuple):
    """Component rewards of actions, what a unit of each is worth, whether an action counts, and its advantage."""

    reward_SQGK: Tensor
    weight: Tensor
    valid_SQG: Tensor
    advantage_SQG: Tensor


class Asked(Protocol):
    """The queries of a batch: the dataset of each, `[S, Q]`, and its arms with an outcome, `[S, Q, A]`."""

    @property
    def dataset_Q(self) -> Tensor: ...
    @property
    def available_QA(self) -> Tensor: ...


def step_metrics(
    actions: Actions,
    judged: Judged,
    batch: Asked,
    reward: Reward,
    tasks: tuple[str, ...],
    cost_rank_A: Tensor,
) -> dict[str, Tensor]:
    """Rewards, spreads, shares. An action counts by its share of its query; a reward that is missing does not."""
    reward_SQGK, weight, valid_SQG, advantage_SQG = judged
    share_SQG = actions.share_QG / actions.share_QG.shape[1]
    total_SQG = weighted_sum(reward_SQGK, weight)
    averaged = torch.cat([reward_SQGK, reward_SQGK**2, total_SQG[..., None]], dim=-1)
    parts = [*2 * [len(reward.names)], 1]
    mean_SK, square_SK, total_S1 = torch.split(_share_mean(averaged, share_SQG), parts, dim=-1)
    std_SK = (square_SK - mean_SK**2).clamp(min=0).sqrt()
    spread_SK = has_spread(reward_SQGK, usable(reward_SQGK, valid_SQG), axis=-2)[..., 0, :].float().mean(dim=1)
    metrics = {"reward": total_S1[:, 0]}
    for k, name in enumerate(reward.names):
        metrics[f"component_mean/{name}"] = mean_SK[:, k]
        metrics[f"component_std/{name}"] = std_SK[:, k]
        metrics[f"spread_share/{name}"] = spread_SK[:, k]
    metrics["groups_without_spread"] = (
        (~has_spread(total_SQG, usable(total_SQG, valid_SQG), axis=-1)).float().mean(dim=(1, 2))
    )

    size_SQ = advantage_SQG.abs().sum(dim=-1)
    size_S = size_SQ.sum(dim=1).clamp(min=torch.finfo(size_SQ.dtype).tiny)
    member_SQD = (batch.dataset_Q[..., None] == torch.arange(len(tasks), device=size_SQ.device)).to(size_SQ.dtype)
    batch_SD = member_SQD.mean(dim=1)
    update_SD = (size_SQ[:, None] @ member_SQD)[:, 0] / size_S[:, None]
    for d, task in enumerate(tasks):
        metrics[f"batch_share/{task}"] = batch_SD[:, d]
        metrics[f"update_share/{task}"] = update_SD[:, d]

    well_SQG = share_SQG * actions.well_formed_QG
    well_S = well_SQG.sum(dim=(1, 2)).clamp(min=torch.finfo(well_SQG.dtype).tiny)
    count_SA = torch.zeros(len(well_SQG), batch.available_QA.shape[-1], device=well_SQG.device)
    count_SA.scatter_add_(1, actions.arm_QG.flatten(1), well_SQG.flatten(1))
    metrics["malformed_share"] = (share_SQG * ~actions.well_formed_QG).sum(dim=(1, 2))
    metrics["top_arm_share"] = count_SA.amax(dim=1) / well_S
    if reward.terms.has_cost:
        cheapest_SQ1 = cheapest_arms(cost_rank_A, batch.available_QA)[..., None]
        metrics["cheapest_share"] = (well_SQG * (actions.arm_QG == cheapest_SQ1)).sum(dim=(1, 2)) / well_S
    return metrics


def _share_mean(value_SQGK: Tensor, share_SQG: Tensor) -> Tensor:
    """The mean of what is not NaN, `[S, K]`, each action with its share; 0 where all is NaN."""
    known_SQGK = ~value_SQGK.isnan()
    if known_SQGK.all():
        return (share_SQG[..., None] * value_SQGK).sum(dim=(1, 2))
    total_SK = (share_SQG[..., None] * torch.where(known_SQGK, value_SQGK, 0.0)).sum(dim=(1, 2))
    share_SK = (share_SQG[..., None] * known_SQGK).sum(dim=(1, 2)).clamp(min=torch.finfo(share_SQG.dtype).tiny)
    # Where nothing is missing the shares add up to 1, which rounding would blur.
    return torch.where(known_SQGK.all(dim=2).all(dim=1), total_SK, total_SK / share_SK)


def cheapest_arms(cost_rank_A: Tensor, available_QA: Tensor) -> Tensor:
    """The available arm that was cheapest on train, `[..., Q]`."""
    return torch.where(available_QA, cost_rank_A, len(cost_rank_A)).argmin(dim=-1)
