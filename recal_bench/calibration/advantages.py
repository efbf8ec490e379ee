"""From rewards to advantages within a group (Q queries, G rollouts a query, K reward components).

Everywhere: population standard deviation (ddof 0), so that |z-score| <= sqrt(G - 1); a group or component without
spread, and a group of one, give exactly 0, never the raw reward; rollouts that are not valid give 0.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from recal_bench.calibration.moments import EPS, centre, divide, has_spread, moments
from recal_bench.calibration.running import Running, observe


def component_advantages(reward_QGK: Any, valid_QG: Any, least_spread_K: Any = None, eps: float = EPS) -> Any:
    """`A_ijk = (r_ijk - mean_j r_ijk) / (max(std_j r_ijk, least_spread_k) + eps)`, `[Q, G, K]`.

    Component-wise advantage estimation as reconstructed for ReCal (arXiv 2606.12479; docs/recal.md). `least_spread_K`
    keeps a group in which a component hardly varies from having its tiny differences blown up to +-1.
    """
    xp = array_namespace(reward_QGK)
    valid_QG1 = valid_QG[..., None]
    _, std_Q1K = moments(reward_QGK, valid_QG1, axis=1)
    if least_spread_K is not None:
        std_Q1K = xp.maximum(std_Q1K, xp.broadcast_to(least_spread_K, std_Q1K.shape))
    return divide(centre(reward_QGK, valid_QG1, axis=1), std_Q1K + eps)


def grpo(reward_QG: Any, valid_QG: Any, eps: float = EPS) -> Any:
    """`A_ij = (r_ij - mean_j r_ij) / (std_j r_ij + eps)`, `[Q, G]` (GRPO, arXiv 2402.03300)."""
    return component_advantages(reward_QG[..., None], valid_QG, eps=eps)[..., 0]


def dr_grpo(reward_QG: Any, valid_QG: Any) -> Any:
    """`A_ij = r_ij - mean_j r_ij`, `[Q, G]` (Dr. GRPO, arXiv 2503.20783)."""
    return centre(reward_QG, valid_QG, axis=1)


def gdpo(reward_QGK: Any, weight_K: Any, valid_QG: Any, eps: float = EPS) -> Any:
    """`whiten(sum_k weight_k A_ijk)`, `[Q, G]`: component z-scores, then whitened over the batch (arXiv 2601.05242)."""
    advantage_QG = weighted_sum(component_advantages(reward_QGK, valid_QG, eps=eps), weight_K)
    return whiten(advantage_QG, valid_QG, eps)


def weighted_sum(value_QGK: Any, weight_K: Any) -> Any:
    """`sum_k weight_k value_ijk`: `[Q, G, K]` to `[Q, G]`."""
    return array_namespace(value_QGK).sum(value_QGK * weight_K, axis=-1)


def whiten(advantage_QG: Any, valid_QG: Any, eps: float = EPS) -> Any:
    """`(A - mean) / (std + eps)` over all valid rollouts of the batch."""
    xp = array_namespace(advantage_QG)
    flat_N, valid_N = xp.reshape(advantage_QG, (-1,)), xp.reshape(valid_QG, (-1,))
    _, std_1 = moments(flat_N, valid_N, axis=0)
    return xp.reshape(divide(centre(flat_N, valid_N, axis=0), std_1 + eps), advantage_QG.shape)


def observe_spread(running_K: Running, reward_QGK: Any, valid_QG: Any, decay: float) -> Running:
    """Follow each component's typical spread: the EMA of its mean standard deviation over the groups that have any."""
    xp = array_namespace(reward_QGK)
    valid_QG1 = valid_QG[..., None]
    _, std_Q1K = moments(reward_QGK, valid_QG1, axis=1)
    count_K = xp.sum(xp.astype(has_spread(reward_QGK, valid_QG1, axis=1), reward_QGK.dtype), axis=(0, 1))
    return observe(running_K, divide(xp.sum(std_Q1K, axis=(0, 1)), count_K), count_K, decay)
