"""Advantage estimators: from the rewards of groups to advantages (Q queries, G rollouts a query, K components).

Each is the formula of its source. `reward_QG` is the summed reward; rollouts that are not valid, or whose reward is
not finite (NaN: a component of it is missing), count for nothing and get 0. Component-wise estimators leave out only
what is missing. Everywhere: population standard deviation (ddof 0) unless said otherwise, so that |z-score| <=
sqrt(G - 1); a group or component without spread, and a group of one, give exactly 0, never the raw reward.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from recal_bench.calibration.datasets import dataset_means
from recal_bench.calibration.moments import EPS, divide, has_spread, moments, weighted_sum
from recal_bench.calibration.running import Running
from recal_bench.calibration.weights import group_spread, variance_weights

_TERMS = 2.0**16
"""Squares that a sum may hold without an overflow."""


def usable(reward: Any, valid: Any) -> Any:
    """Which rewards count: those of valid rollouts that are finite. `[Q, G]` with `[Q, G]`, or `[Q, G, K]`.

    So large that the sum of their squares would not be finite is as good as infinite.
    """
    xp = array_namespace(reward)
    most = float(xp.finfo(reward.dtype).max) ** 0.5 / _TERMS
    return (valid if reward.ndim == valid.ndim else valid[..., None]) & (xp.abs(reward) < most)


def reinforce(reward_QG: Any, valid_QG: Any) -> Any:
    """`A_ij = r_ij - mean r`, the mean over the batch (REINFORCE with a baseline, Williams 1992)."""
    return _over_batch(reward_QG, valid_QG)[0]


def reinforce_pp(reward_QG: Any, valid_QG: Any, eps: float = EPS, ddof: int = 0) -> Any:
    """`A_ij = (r_ij - mean r) / (std r + eps)`, both over the batch (REINFORCE++, arXiv 2501.03262)."""
    return whiten(reward_QG, valid_QG, eps, ddof)


def rloo(reward_QG: Any, valid_QG: Any) -> Any:
    """`A_ij = r_ij - mean_{l != j} r_il = (r_ij - mean_j r_ij) n / (n - 1)`, n valid rollouts (arXiv 2402.14740)."""
    xp = array_namespace(reward_QG)
    count_Q1 = xp.sum(xp.astype(usable(reward_QG, valid_QG), reward_QG.dtype), axis=1, keepdims=True)
    return divide(dr_grpo(reward_QG, valid_QG) * count_Q1, count_Q1 - 1)


def grpo(reward_QG: Any, valid_QG: Any, eps: float = EPS, ddof: int = 0) -> Any:
    """`A_ij = (r_ij - mean_j r_ij) / (std_j r_ij + eps)` (GRPO, arXiv 2402.03300)."""
    return component_advantages(reward_QG[..., None], valid_QG, eps=eps, ddof=ddof)[..., 0]


def dr_grpo(reward_QG: Any, valid_QG: Any) -> Any:
    """`A_ij = r_ij - mean_j r_ij` (Dr. GRPO, arXiv 2503.20783)."""
    return moments(reward_QG, usable(reward_QG, valid_QG), axis=1)[0]


def lite_ppo(reward_QG: Any, valid_QG: Any, eps: float = EPS, ddof: int = 0) -> Any:
    """`A_ij = (r_ij - mean_j r_ij) / (std r + eps)`, the std over the batch (Lite PPO, arXiv 2508.08221)."""
    return divide(dr_grpo(reward_QG, valid_QG), _over_batch(reward_QG, valid_QG, ddof)[1] + eps)


def dapo(reward_QG: Any, outcome_QG: Any, valid_QG: Any, eps: float = EPS) -> Any:
    """GRPO's advantage for the groups whose outcomes vary, 0 for the others (DAPO, arXiv 2503.14476).

    DAPO draws on until a batch holds only groups that are neither all right nor all wrong. Here they are dropped and
    what is left is scaled by `Q / groups left`, which is the mean over the groups that are kept.
    """
    xp = array_namespace(reward_QG)
    kept_Q1 = xp.astype(has_spread(outcome_QG, usable(outcome_QG, valid_QG), axis=1), reward_QG.dtype)
    return divide(grpo(reward_QG, valid_QG, eps) * kept_Q1, xp.mean(kept_Q1))


def gdpo(reward_QGK: Any, weight_K: Any, valid_QG: Any, eps: float = EPS, ddof: int = 0) -> Any:
    """`whiten(sum_k weight_k A_ijk)`: component z-scores, then whitened over the batch (GDPO, arXiv 2601.05242)."""
    advantage_QG = weighted_sum(component_advantages(reward_QGK, valid_QG, eps=eps, ddof=ddof), weight_K)
    return whiten(advantage_QG, array_namespace(reward_QGK).any(usable(reward_QGK, valid_QG), axis=-1), eps, ddof)


def dvao(reward_QGK: Any, weight_K: Any, valid_QG: Any, eps: float = EPS) -> Any:
    """`sum_k (weight_k sigma_ik / sum_l weight_l sigma_il) A_ijk`, sigma the group's std (DVAO, arXiv 2605.25604)."""
    xp = array_namespace(reward_QGK)
    weight_Q1K = weight_K * moments(reward_QGK, usable(reward_QGK, valid_QG), axis=1)[1]
    weight_Q1K = divide(weight_Q1K, xp.sum(weight_Q1K, axis=-1, keepdims=True))
    return weighted_sum(component_advantages(reward_QGK, valid_QG, eps=eps), weight_Q1K)


def hero(reward_QG: Any, outcome_QG: Any, mean_spread: Any, valid_QG: Any, eps: float = EPS) -> Any:
    """`w_i A_ij`: GRPO's advantage with HERO's variance-aware weight (arXiv 2510.07242; see `variance_weights`).

    HERO multiplies the reward, which the division by the group's std would cancel: here the advantage is weighted.
    """
    weight_Q = variance_weights(group_spread(outcome_QG, usable(outcome_QG, valid_QG)), mean_spread)
    return grpo(reward_QG, valid_QG, eps) * weight_Q[:, None]


def popart(reward_QG: Any, dataset_Q: Any, mean_D: Running, square_D: Running, valid_QG: Any, eps: float = EPS) -> Any:
    """`A_ij = (r_ij - mu_d) / (sigma_d + eps)`, running mean and std of the query's dataset (arXiv 1809.04474).

    What is below the rounding of mu_d is 0, and sigma_d is at least the root of the rounding of mu_d^2: the differences
    hold no more.
    """
    xp = array_namespace(reward_QG)
    rounding = 16 * float(xp.finfo(reward_QG.dtype).eps)
    square_mean_D = mean_D.value_N**2
    sigma_D = xp.sqrt(xp.maximum(square_D.value_N - square_mean_D, rounding * square_mean_D))
    mean_Q1 = mean_D.value_N[dataset_Q][:, None]
    centred_QG = reward_QG - mean_Q1
    told_QG = usable(reward_QG, valid_QG) & (xp.abs(centred_QG) > rounding * xp.abs(mean_Q1))
    return xp.where(told_QG, centred_QG / (sigma_D[dataset_Q][:, None] + eps), xp.zeros_like(reward_QG))


def disco(reward_QG: Any, outcome_QG: Any, dataset_Q: Any, n_datasets: int, valid_QG: Any, eps: float = 0.1) -> Any:
    """`A_ij = r'_ij - mean_j r'_ij`, `r' = r log(1 + 1 / p_d) / (mean_j outcome_ij + eps)` (DISCO, arXiv 2505.15074).

    `p_d` is the dataset's share of the batch, the group's mean outcome its self-consistency. The group's std is not
    divided by, since that would cancel both weights; `eps` is ours: it bounds what an all-wrong group can weigh.
    """
    xp = array_namespace(reward_QG)
    counted_QG = usable(outcome_QG, valid_QG)
    total_Q1 = xp.sum(xp.where(counted_QG, outcome_QG, xp.zeros_like(outcome_QG)), axis=1, keepdims=True)
    consistency_Q1 = divide(total_Q1, xp.sum(xp.astype(counted_QG, reward_QG.dtype), axis=1, keepdims=True))
    share_D = dataset_means(xp.ones_like(reward_QG[:, 0]), dataset_Q, n_datasets)[1] / reward_QG.shape[0]
    weight_D = xp.log1p(divide(xp.ones_like(share_D), share_D))
    return dr_grpo(reward_QG, valid_QG) * weight_D[dataset_Q][:, None] / (consistency_Q1 + eps)


def expected(reward_QG: Any, share_QG: Any, valid_QG: Any) -> Any:
    """`A_ij = G p_ij (r_ij - sum_j p_ij r_ij)`: with all actions of a query as its group, the exact gradient.

    `share_QG` are the probabilities of the actions, which sum to 1. The mean over the group of `A_ij grad log p_ij` is
    then the gradient of the expected reward itself. With shares of 1 / G it is Dr. GRPO.
    """
    xp = array_namespace(reward_QG)
    counted_QG = usable(reward_QG, valid_QG)
    zero_QG = xp.zeros_like(reward_QG)
    share_QG = xp.where(counted_QG, share_QG, zero_QG)
    share_QG = divide(share_QG, xp.sum(share_QG, axis=1, keepdims=True))
    reward_QG = xp.where(counted_QG, reward_QG, zero_QG)
    mean_Q1 = xp.sum(share_QG * reward_QG, axis=1, keepdims=True)
    return reward_QG.shape[1] * share_QG * (reward_QG - mean_Q1)


def component_advantages(
    reward_QGK: Any, valid_QG: Any, least_spread_K: Any = None, eps: float = EPS, ddof: int = 0
) -> Any:
    """`A_ijk = (r_ijk - mean_j r_ijk) / (max(std_j r_ijk, least_spread_k) + eps)`, `[Q, G, K]`.

    Component-wise advantage estimation as reconstructed for ReCal (arXiv 2606.12479; docs/recal.md). `least_spread_K`
    keeps a group in which a component hardly varies from having its tiny differences blown up to +-1.
    """
    return standardised(*moments(reward_QGK, usable(reward_QGK, valid_QG), axis=1, ddof=ddof), least_spread_K, eps)


def standardised(centred_QGK: Any, std_Q1K: Any, least_spread_K: Any = None, eps: float = EPS) -> Any:
    """`component_advantages`, where the moments of the groups are at hand."""
    if least_spread_K is not None:
        xp = array_namespace(std_Q1K)
        std_Q1K = xp.maximum(std_Q1K, xp.broadcast_to(least_spread_K, std_Q1K.shape))
    return divide(centred_QGK, std_Q1K + eps)


def whiten(advantage_QG: Any, valid_QG: Any, eps: float = EPS, ddof: int = 0) -> Any:
    """`(A - mean) / (std + eps)` over all valid rollouts of the batch."""
    centred_QG, std_1 = _over_batch(advantage_QG, valid_QG, ddof)
    return divide(centred_QG, std_1 + eps)


def _over_batch(value_QG: Any, valid_QG: Any, ddof: int = 0) -> tuple[Any, Any]:
    """`value - mean`, `[Q, G]`, and the standard deviation, `[1]`, over all valid rollouts of the batch."""
    xp = array_namespace(value_QG)
    valid_N = xp.reshape(usable(value_QG, valid_QG), (-1,))
    centred_N, std_1 = moments(xp.reshape(value_QG, (-1,)), valid_N, axis=0, ddof=ddof)
    return xp.reshape(centred_N, value_QG.shape), std_1
