"""What a training step tells of itself, for every seed: tensors `[S, N]` by the N names under which they are logged."""

from __future__ import annotations

from typing import NamedTuple

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


class Asked(NamedTuple):
    """The queries of a batch: the dataset of each, `[S, Q]`, and its arms with an outcome, `[S, Q, A]`."""

    dataset_Q: Tensor
    available_QA: Tensor


def step_metrics(
    actions: Actions,
    judged: Judged,
    batch: Asked,
    reward: Reward,
    tasks: tuple[str, ...],
    cost_rank_A: Tensor,
) -> dict[tuple[str, ...], Tensor]:
    """Rewards, spreads, shares. An action counts by its share of its query; a reward that is missing does not."""
    reward_SQGK, weight, valid_SQG, advantage_SQG = judged
    share_SQG = actions.share_QG / actions.share_QG.shape[1]
    # Few large operations: each costs more than its sums. X: the components' squares, they, their weighted sum.
    reward_SKQG, n_components = reward_SQGK.movedim(-1, 1), len(reward.names)
    reward_SXQG = torch.cat([reward_SKQG.square(), reward_SKQG, weighted_sum(reward_SQGK, weight)[:, None]], dim=1)
    parts = [*2 * [n_components], 1]
    square_SK, mean_SK, total_S1 = torch.split(_share_mean(reward_SXQG, share_SQG), parts, dim=-1)
    std_SK = (square_SK - mean_SK.square()).clamp(min=0).sqrt()
    spread_SXQ = _spread(reward_SXQG[:, n_components:], valid_SQG)
    spread_SK = spread_SXQ[:, :-1].float().mean(dim=-1)
    of_component = "component_mean", "component_std", "spread_share"

    size_SQ = advantage_SQG.abs().sum(dim=-1)
    size_S = size_SQ.sum(dim=1).clamp(min=torch.finfo(size_SQ.dtype).tiny)
    member_SQD = (batch.dataset_Q[..., None] == torch.arange(len(tasks), device=size_SQ.device)).to(size_SQ.dtype)
    batch_SD = member_SQD.mean(dim=1)
    update_SD = (size_SQ[:, None] @ member_SQD)[:, 0] / size_S[:, None]

    well_SQG = share_SQG * actions.well_formed_QG
    well_S = well_SQG.sum(dim=(1, 2)).clamp(min=torch.finfo(well_SQG.dtype).tiny)
    count_SA = torch.zeros(len(well_SQG), batch.available_QA.shape[-1], device=well_SQG.device)
    count_SA.scatter_add_(1, actions.arm_QG.flatten(1), well_SQG.flatten(1))
    overall = {
        "groups_without_spread": (~spread_SXQ[:, -1]).float().mean(dim=-1),
        "malformed_share": (share_SQG * ~actions.well_formed_QG).sum(dim=(1, 2)),
        "top_arm_share": count_SA.amax(dim=1) / well_S,
    }
    if reward.terms.has_cost:
        cheapest_SQ1 = cheapest_arms(cost_rank_A, batch.available_QA)[..., None]
        overall["cheapest_share"] = (well_SQG * (actions.arm_QG == cheapest_SQ1)).sum(dim=(1, 2)) / well_S
    return {
        ("reward",): total_S1,
        tuple(f"{name}/{of}" for of in reward.names for name in of_component): torch.stack(
            [mean_SK, std_SK, spread_SK], dim=-1
        ).flatten(1),
        tuple(f"{name}/{task}" for task in tasks for name in ("batch_share", "update_share")): torch.stack(
            [batch_SD, update_SD], dim=-1
        ).flatten(1),
        tuple(overall): torch.stack(list(overall.values()), dim=-1),
    }


def _spread(value_SXQG: Tensor, valid_SQG: Tensor) -> Tensor:
    """Whether two usable values of a query differ, `[S, X, Q]`."""
    usable_SXQG = usable(value_SXQG, valid_SQG[:, None])
    if usable_SXQG.all():
        return (value_SXQG != value_SXQG[..., :1]).any(dim=-1)
    return torch.as_tensor(has_spread(value_SXQG, usable_SXQG, axis=-1))[..., 0]


def _share_mean(value_SXQG: Tensor, share_SQG: Tensor) -> Tensor:
    """The mean of what is not NaN, `[S, X]`, each action with its share; 0 where all is NaN."""
    value_SXN, share_SN1 = value_SXQG.flatten(2), share_SQG.flatten(1)[..., None]
    mean_SX = (value_SXN @ share_SN1)[..., 0]
    if not mean_SX.isnan().any():
        return mean_SX
    known_SXN = ~value_SXN.isnan()
    total_SX = (torch.where(known_SXN, value_SXN, 0.0) @ share_SN1)[..., 0]
    share_SX = (known_SXN.to(share_SN1.dtype) @ share_SN1)[..., 0].clamp(min=torch.finfo(share_SN1.dtype).tiny)
    # Where nothing is missing the shares add up to 1, which rounding would blur.
    return torch.where(known_SXN.all(dim=-1), total_SX, total_SX / share_SX)


def cheapest_arms(cost_rank_A: Tensor, available_QA: Tensor) -> Tensor:
    """The available arm that was cheapest on train, `[..., Q]`."""
    return torch.where(available_QA, cost_rank_A, len(cost_rank_A)).argmin(dim=-1)
