"""Estimators under their names: what turns a batch of rewards into advantages. Plug-ins register here as ours do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, make_dataclass
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import Field, NonNegativeFloat

from recal_bench.calibration.moments import EPS
from recal_bench.calibration.state import Batch
from recal_bench.errors import SettingsError
from recal_bench.plugins import Registry

Compute: TypeAlias = Callable[[Batch, Any, Any], tuple[Any, Any]]
_Function = TypeVar("_Function", bound=Compute)


@dataclass
class NoSettings:
    """The settings of an estimator that has none."""


@dataclass
class Spread:
    """The settings of an estimator that divides by a standard deviation: it divides by `std + eps`.

    ddof  0: of the population, so that a z-score is at most sqrt(G - 1); 1: of a sample, as TRL and verl have it
    eps   TRL has 1e-4
    """

    ddof: Annotated[int, Field(ge=0, le=1)] = 0
    eps: NonNegativeFloat = EPS


@dataclass(frozen=True)
class Estimator:
    """One entry of the registry; what `estimator` was given. `compute` is the function that it decorates."""

    name: str
    summary: str
    compute: Compute
    start: Callable[[Any, Any, Any], Any]
    settings: type[Any]
    all_actions: bool
    watch: Callable[[Any], Mapping[str, Any]] | None
    preset: Mapping[str, Any]

    @property
    def shipped(self) -> bool:
        """Whether it is one of this package."""
        return self.compute.__module__.startswith("recal_bench.")

    def settings_from(self, given: Any) -> Any:
        """`given` where it is this estimator's own settings, else its defaults.

        A router whose `calibration` is another estimator's may be told to use this one. Raises SettingsError where
        something was set in settings that only one other estimator has.
        """
        if isinstance(given, self.settings):
            return given
        if isinstance(given, Spread) and given != type(given)():
            raise SettingsError(
                f"calibration.ddof and calibration.eps are not settings of estimator {self.name}: leave them out"
            )
        return self.settings()


ESTIMATORS: Registry[Estimator] = Registry("estimator", "`recal-bench routers` lists the router of each")


def stateless(like_K: Any, like_D: Any, settings: Any) -> tuple[()]:
    """The state of an estimator that remembers nothing."""
    return ()


def estimator(
    name: str,
    summary: str = "",
    *,
    state: Callable[[Any, Any, Any], Any] = stateless,
    settings: type[Any] = NoSettings,
    all_actions: bool = False,
    watch: Callable[[Any], Mapping[str, Any]] | None = None,
    preset: Mapping[str, Any] = MappingProxyType({}),
) -> Callable[[_Function], _Function]:
    """Register `(batch, state, settings) -> (advantage_QG, state)`, which makes a router of that name too.

    The function sees one seed's batch as torch tensors and runs under `torch.vmap`: it changes nothing in place and
    takes no branch on a value. Given numpy arrays by `evaluation.bias`, it must be written with `array_namespace`.

    summary      one line on what it does; else the docstring's first line
    state        `(like_K, like_D, settings)` to the state before the first batch: (named) tuples, lists or dictionaries
                 of arrays that are made from zeros `[K]` (components) and `[D]` (datasets)
    settings     a dataclass; its fields are the router's settings `calibration.*`
    all_actions  the group of a query is not drawn: it holds every action, with its probability in `share_QG`
    watch        what of a state is logged after each step: `[D]` arrays by name
    preset       other settings of the router
    """

    def register(compute: _Function) -> _Function:
        line = summary or (compute.__doc__ or "").strip().partition("\n")[0]
        entry = Estimator(name, line, compute, state, settings, all_actions, watch, preset)
        ESTIMATORS.add(name, entry, compute)
        return compute

    return register


def with_settings_of(entry: Estimator, cls: type[Any], name: str) -> type[Any]:
    """A router class under a name for one estimator alone: its `calibration` are that estimator's settings."""
    of_plug_in = {"__module__": entry.compute.__module__, "__wrapped__": entry.compute}
    return make_dataclass(
        "".join(word.capitalize() for word in name.split("-")),
        [("estimator", str, entry.name), ("calibration", entry.settings, field(default_factory=entry.settings))],
        bases=(cls,),
        # Whose source it is.
        namespace={"__module__": cls.__module__} if entry.shipped else of_plug_in,
    )
