"""Rewards of the rounds of a trajectory by a learned score, which it cannot exploit. Numpy or torch, `[..., T]`.

A score for every round beside the one for the result invites a policy to collect it: by more rounds, or by repeating
what scores well. `clip_scores` and `score_deltas` bound what a trajectory can collect, `n_step_returns` smooths it.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace


def clip_scores(score_T: Any, threshold: float) -> Any:
    """`min(score_t - threshold, 0)`: a round can only lose, and however many there are they collect 0 at most.

    The Clip mechanism of Gao et al., arXiv 2410.15115. Their score is that of a process reward model.
    """
    xp = array_namespace(score_T)
    return xp.where(score_T < threshold, score_T - threshold, xp.zeros_like(score_T))


def score_deltas(score_T: Any) -> Any:
    """`score_t - score_{t+1}`, of the last round its score: from a round on they add up to that round's score.

    The Delta mechanism of Gao et al., arXiv 2410.15115.
    """
    xp = array_namespace(score_T)
    return score_T - xp.concat([score_T[..., 1:], xp.zeros_like(score_T[..., :1])], axis=-1)


def n_step_returns(reward_T: Any, value_T: Any, steps: int, discount: float = 1.0) -> Any:
    """`sum_{k<n} discount^k reward_{t+k} + discount^n value_{t+n}`, `n = steps`; after the last round both are 0.

    The n-step temporal-difference target: of one step `reward_t + discount * value_{t+1}`, of as many as there are
    rounds the return itself (Monte Carlo). TDRM, arXiv 2509.15110, trains its process reward model towards it.
    """
    xp = array_namespace(reward_T)
    total_T = xp.zeros_like(reward_T)
    for ahead in range(min(steps, reward_T.shape[-1])):
        total_T = total_T + discount**ahead * _later(xp, reward_T, ahead)
    return total_T + discount**steps * _later(xp, value_T, steps)


def _later(xp: Any, value_T: Any, steps: int) -> Any:
    """`value_{t+steps}`, 0 after the end."""
    steps = min(steps, value_T.shape[-1])
    return xp.concat([value_T[..., steps:], xp.zeros_like(value_T[..., :steps])], axis=-1)
