"""Rewards: components and their hierarchy, and Router-R1's scalar reward. Numpy or torch arrays alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol

from array_api_compat import array_namespace

from recal_bench.calibration.components import OWN, Drawn, Weighted
from recal_bench.errors import PluginError

BUFFER = 1000


class Terms(NamedTuple):
    """What a run says of its reward: the price of cost, whether there are costs, whether the cost counts only where the
    answer is right, and the components besides format, outcome and cost."""

    alpha: float
    has_cost: bool
    gate_cost: bool = False
    added: tuple[Weighted, ...] = ()


class Reward(Protocol):
    """What an action is rewarded with: K components with names and weights.

    needs_cost  it is not defined for outcomes without cost
    extensible  it takes further components
    outcome     the number of the component whose spread tells how uncertain a query is
    priced      the number of the component that is weighted by alpha; None where it has a price of its own, or no cost
    """

    needs_cost: ClassVar[bool]
    extensible: ClassVar[bool]
    outcome: ClassVar[int]

    @property
    def terms(self) -> Terms: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def weights(self) -> tuple[float, ...]: ...
    @property
    def priced(self) -> int | None: ...

    def __call__(self, drawn: Drawn, buffers: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Rewards `[S, Q, G, K]` of S seeds, and each seed's buffer of what it keeps between steps."""


@dataclass(frozen=True)
class Components:
    """Format, outcome and cost, and then what plug-ins add, for the calibration to weigh. Nothing is kept."""

    terms: Terms
    needs_cost: ClassVar[bool] = False
    extensible: ClassVar[bool] = True
    outcome: ClassVar[int] = 1

    @property
    def names(self) -> tuple[str, ...]:
        return (*component_names(self.terms.has_cost), *(each.component.name for each in self.terms.added))

    @property
    def weights(self) -> tuple[float, ...]:
        own = component_weights(self.terms.alpha, self.terms.has_cost)
        return (*own, *(each.weight for each in self.terms.added))

    @property
    def priced(self) -> int | None:
        return OWN.index("cost") if self.terms.has_cost else None

    def __call__(self, drawn: Drawn, buffers: Sequence[Any]) -> tuple[Any, list[Any]]:
        cost_QG = drawn.cost_QG if self.terms.has_cost else None
        reward_QGK = component_rewards(drawn.well_formed_QG, drawn.score_QG, cost_QG, self.terms.gate_cost)
        if self.terms.added:
            xp = array_namespace(reward_QGK)
            added = [_added_reward(each, drawn)[..., None] for each in self.terms.added]
            reward_QGK = xp.concat([reward_QGK, *added], axis=-1)
        return reward_QGK, list(buffers)


def _added_reward(added: Weighted, drawn: Drawn) -> Any:
    xp = array_namespace(drawn.score_QG)
    reward_QG = added.component.compute(drawn)
    if getattr(reward_QG, "shape", None) != drawn.score_QG.shape:
        raise PluginError(
            f"component {added.component.name} must give one reward an action, of the shape of drawn.score_QG"
        )
    return xp.where(drawn.well_formed_QG, xp.astype(reward_QG, drawn.score_QG.dtype), xp.zeros_like(drawn.score_QG))


@dataclass(frozen=True)
class RouterR1:
    """Router-R1's scalar (training only), one component; a seed keeps its recent costs."""

    terms: Terms
    needs_cost: ClassVar[bool] = True
    extensible: ClassVar[bool] = False
    outcome: ClassVar[int] = 0
    names: ClassVar[tuple[str, ...]] = ("router-r1",)
    weights: ClassVar[tuple[float, ...]] = (1.0,)
    priced: ClassVar[int | None] = None

    def __call__(self, drawn: Drawn, buffers: Sequence[Any]) -> tuple[Any, list[Any]]:
        seeds = zip(drawn.well_formed_QG, drawn.score_QG, drawn.cost_QG, buffers, strict=True)
        rewards, kept = zip(*(router_r1_reward(*each, self.terms.alpha) for each in seeds), strict=True)
        return array_namespace(drawn.score_QG).stack(rewards)[..., None], list(kept)


REWARDS: Mapping[str, type[Components] | type[RouterR1]] = MappingProxyType(
    {"components": Components, "router-r1": RouterR1}
)


def component_names(has_cost: bool) -> tuple[str, ...]:
    """format, outcome, cost; without cost in the data there is no cost component."""
    return OWN if has_cost else OWN[:-1]


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
    return xp.moveaxis(xp.stack(components, axis=-3), -3, -1)


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
