"""Reward components that plug-ins add to format, outcome and cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from recal_bench.errors import PluginError, SettingsError
from recal_bench.plugins import Registry

OWN = ("format", "outcome", "cost")
"""The components of every reward."""


class Drawn(NamedTuple):
    """What drawn actions gave, `[..., Q, G]`: well-formed or not, and the score, the cost (in units of `cost_ref`; 0
    where the outcomes hold none) and the other columns of their arms, NaN where a value of a column is unknown."""

    well_formed_QG: Any
    score_QG: Any
    cost_QG: Any
    column_QG: Mapping[str, Any]


@dataclass(frozen=True)
class Component:
    """One entry of the registry; what `component` was given. `compute` is the function that it decorates."""

    name: str
    compute: Callable[[Drawn], Any]
    reads: tuple[str, ...]
    weight: float


class Weighted(NamedTuple):
    """A component, and what a unit of it is worth in units of score."""

    component: Component
    weight: float


COMPONENTS: Registry[Component] = Registry("component", "none is shipped, docs/estimators.md shows how to write one")
_Function = TypeVar("_Function", bound=Callable[[Drawn], Any])


def component(name: str, *, reads: str | tuple[str, ...] = (), weight: float = 1.0) -> Callable[[_Function], _Function]:
    """Register a function of what actions gave (`Drawn`) to a reward for each of them, `[..., Q, G]`.

    A malformed action gets 0 whatever the function says; NaN says that the reward is missing, so that the action counts
    for nothing. `reads` are numeric columns of the outcomes file; `weight` is what a unit of the reward is worth in
    units of score, unless the setting `components` says otherwise. Raises PluginError where the name is taken.
    """
    if name in OWN:
        raise PluginError(f"component {name}: every reward has one of that name, so choose another")

    def register(compute: _Function) -> _Function:
        columns = (reads,) if isinstance(reads, str) else tuple(reads)
        COMPONENTS.add(name, Component(name, compute, columns, weight), compute)
        return compute

    return register


def parse_components(text: str) -> tuple[Weighted, ...]:
    """The components of a setting like `latency` or `latency:0.3,length`. Raises SettingsError on any other."""
    chosen: dict[str, Weighted] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        name, colon, given = word.partition(":")
        entry = COMPONENTS[name]
        try:
            weight = float(given) if colon else entry.weight
        except ValueError:
            weight = math.nan
        if not math.isfinite(weight):
            raise SettingsError(f"components={text}: the weight of {name} is a number, as in {name}:{entry.weight:g}")
        if name in chosen:
            raise SettingsError(f"components={text} names {name} twice: name it once")
        chosen[name] = Weighted(entry, weight)
    return tuple(chosen.values())


def columns_read(components: tuple[Weighted, ...]) -> tuple[str, ...]:
    """The columns of the outcomes file that components read, each once."""
    return tuple(dict.fromkeys(name for each in components for name in each.component.reads))
