"""Rewards: components and their hierarchy, and Router-R1's scalar reward. Numpy or torch arrays alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from array_api_compat import array_namespace

BUFFER = 1000


@dataclass(frozen=True)
class Reward:
    """What an action is rewarded with: components for the calibration, or Router-R1's scalar (training only)."""

    kind: Literal["components", "router-r1"]
    alpha: float
    has_cost: bool
    gate_cost: bool

    @property
    def names(self) -> tuple[str, ...]:
        return component_names(self.has_cost) if self.kind == "components" else ("router-r1",)

    @property
    def weights(self) -> tuple[float, ...]:
        return component_weights(self.alpha, self.has_cost) if self.kind == "components" else (1.0,)

    @property
    def outcome(self) -> int:
        """The component whose spread tells how uncertain a query is."""
        return 1 if self.kind == "components" else 0

    def __call__(
        self, well_formed_SQG: Any, score_SQG: Any, cost_SQG: Any, buffers: Sequence[Any]
    ) -> tuple[Any, list[Any]]:
        """Rewards `[S, Q, G, K]` of S seeds, and each seed's buffer of recent costs (Router-R1's; else left alone)."""
        if self.kind == "components":
            cost = cost_SQG if self.has_cost else None
            return component_rewards(well_formed_SQG, score_SQG, cost, self.gate_cost), list(buffers)
        seeds = zip(well_formed_SQG, score_SQG, cost_SQG, buffers, strict=True)
        rewards, kept = zip(*(router_r1_reward(*each, self.alpha) for each in seeds), strict=True)
        return array_namespace(score_SQG).stack(rewards)[..., None], list(kept)


def component_names(has_cost: bool) -> tuple[str, ...]:
    """format, outcome, cost; without cost in the data there is no cost component."""
    return ("format", "outcome", "cost") if has_cost else ("format", "outcome")


def component_weights(alpha: float, has_cost: bool) -> tuple[float, ...]:
    """(1, 1, alpha): the components of a well-formed action add up to 1 + its utility, a malformed one's to 0."""
    return (1.0, 1.0, alpha) if has_cost else (1.0, 1.0)


def component_rewards(well_formed_QG: Any, score_QG: Any, cost_QG: Any | None, gate_cost: bool = False) -> Any:
    """The hierarchy, `[Q, G, K]`: each level counts only where the one above it holds (gated out: 0).

    `format = 1[well-formed]`, `outcome = format * score`, `cost = -format * cost`, the cost in units of `cost_ref`
    (None: no cost in the data). With `gate_cost` the cost counts only where the score is above 0, as in Router-R1.
    """
    xp = array_namespace(score_QG)
    format_QG = xp.astype(well_formed_QG, score_QG.dtype)
    components = [format_QG, format_QG * score_QG]
    if cost_QG is not None:
        gate_QG = format_QG * xp.astype(score_QG > 0, score_QG.dtype) if gate_cost else format_QG
        components.append(-gate_QG * cost_QG)
    return xp.stack(components, axis=-1)


def router_r1_reward(well_formed_QG: Any, score_QG: Any, cost_QG: Any, buffer_N: Any, alpha: float) -> tuple[Any, Any]:
    """Router-R1's own reward (arXiv 2506.09033), `[Q, G]`, and the buffer with the batch's costs in it.

    Malformed -1; well-formed and wrong 0; else `(1 - alpha) * score + alpha * c`, with the cheapness
    `c = 1 - clip((x - q05) / (q95 - q05), 0, 1)`, `x` the square root of the cost and the quantiles over the last 1,000
    `x` of well-formed actions; c = 0.5 where the range vanishes. The whole batch enters the buffer before it is used.
    """
    xp = array_namespace(score_QG)
    root_QG = xp.sqrt(cost_QG)
    buffer_N = xp.concat([buffer_N, root_QG[well_formed_QG]])[-BUFFER:]
    cheapness_QG = xp.full_like(root_QG, 0.5)
    if buffer_N.shape[0]:
        low, high = (quantile(buffer_N, level) for level in (0.05, 0.95))
        if high > low:
            cheapness_QG = 1 - xp.clip((root_QG - low) / (high - low), 0.0, 1.0)
    right_QG = (1 - alpha) * score_QG + alpha * cheapness_QG
    reward_QG = xp.where(score_QG > 0, right_QG, xp.zeros_like(score_QG))
    return xp.where(well_formed_QG, reward_QG, xp.full_like(score_QG, -1.0)), buffer_N


def quantile(value_N: Any, level: float) -> Any:
    """The quantile with linear interpolation, as numpy's default."""
    xp = array_namespace(value_N)
    ordered_N = xp.sort(value_N)
    position = level * (ordered_N.shape[0] - 1)
    below = int(position)
    above = min(below + 1, ordered_N.shape[0] - 1)
    return ordered_N[below] + (position - below) * (ordered_N[above] - ordered_N[below])
