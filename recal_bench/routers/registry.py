"""The registry through which the baselines and a user's own routers are found, and made from their settings."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

from recal_bench import plugins
from recal_bench.errors import PluginError, SettingsError, near_miss
from recal_bench.plugins import Registry
from recal_bench.routers.fixed_arm import PREFIX, FixedArm
from recal_bench.routers.flags import check_class
from recal_bench.routers.guarded import GUARDED, Guarded, guarded, refusal


@dataclass(frozen=True)
class Spec:
    """One entry of the registry: a router class under a name, with the settings that the name implies."""

    name: str
    cls: type[Any]
    preset: dict[str, Any]
    summary: str


ROUTERS: Registry[Spec] = Registry("router", "`recal-bench routers` lists them all")
EVERYTHING = "all"
_BETWEEN_NAMES = re.compile(rf",(?=\s*(?:{PREFIX}|[a-z0-9-]+\s*(?:,|$)))")
_Cls = TypeVar("_Cls", bound=type)


def router(name: str, summary: str = "", **preset: Any) -> Callable[[_Cls], _Cls]:
    """Register a router class under a kebab-case name. The summary defaults to the docstring's first line.

    Decorators stack: one class may have several names, each with its own preset of settings (dots in a setting's name
    are written as `__`). Raises PluginError where the name is taken, and on a flag that is mistyped (see `Flags`).
    """

    def register(cls: _Cls) -> _Cls:
        check_class(cls)
        line = summary or (cls.__doc__ or "").strip().partition("\n")[0]
        preset_ = {key.replace("__", "."): value for key, value in preset.items()}
        ROUTERS.add(name, Spec(name, cls, preset_, line), cls)
        return cls

    return register


def discover(include_paths: tuple[Path, ...] = ()) -> dict[str, Spec]:
    """All routers by name: ours, those of installed packages (entry points), those of the given folders."""
    plugins.discover(include_paths)
    return {name: ROUTERS[name] for name in ROUTERS}


class Named(NamedTuple):
    """Routers that were asked for: `names` in their order, and which of them only by the word `all`."""

    names: tuple[str, ...]
    by_all: frozenset[str]


def named(words: Sequence[str]) -> Named:
    """The routers that words name: `a`, `a,b`, `arm:model|strategy`, or `all` for every registered one.

    Raises SettingsError where they name none, and on a name that nothing has.
    """
    split = [word.strip(" ,") for given in words for word in _BETWEEN_NAMES.split(given) if word.strip(" ,")]
    if not split:
        raise SettingsError("no router is named: `recal-bench routers` lists them")
    asked = [word for word in split if word != EVERYTHING]
    for name in asked:
        spec_of(name)
    everything = [*ROUTERS] if EVERYTHING in split else []
    return Named(tuple(dict.fromkeys([*asked, *everything])), frozenset(everything) - frozenset(asked))


def spec_of(name: str) -> Spec:
    """The entry of a name; that of a fixed arm, or of a guarded router, is made.

    Raises SettingsError, with a hint, where nothing has that name, and where the router cannot be guarded.
    """
    if name in ROUTERS or not is_known(name):
        return ROUTERS[name]
    if name.startswith(PREFIX):
        return Spec(name, FixedArm, {}, "One arm for every query.")
    inner = ROUTERS[name.removeprefix(GUARDED)]
    why_not = refusal(inner.cls)
    if why_not:
        raise SettingsError(f"router {inner.name} cannot be guarded: {why_not}")
    return Spec(
        name, guarded(inner.cls), inner.preset, f"{inner.summary}; leaves best-single only where it is sure of a gain"
    )


def is_known(name: str) -> bool:
    """Whether a router can be made from its name alone."""
    return name in ROUTERS or name.startswith(PREFIX) or name.removeprefix(GUARDED) in ROUTERS


def create(name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """An unfitted router with its settings. Dotted keys reach into nested settings. Registered names only.

    Raises SettingsError on an unknown router, an unknown setting or a value of the wrong type.
    """
    spec = spec_of(name)
    if spec.cls is FixedArm and not settings:
        return FixedArm.named(name)
    return build(name, spec.cls, {**spec.preset, **(settings or {})})


def build(name: str, cls: type[Any], settings: Mapping[str, Any]) -> Any:
    """The same of a class that need not be registered; `name` is what errors call it."""
    from pydantic import TypeAdapter, ValidationError

    known = setting_names(cls)
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in known:
            raise SettingsError(
                f"router {name} has no setting {key}{near_miss(key, list(known))}: it has {', '.join(known) or 'none'}"
            )
        *parents, leaf = key.split(".")
        level = nested
        for parent in parents:
            level = level.setdefault(parent, {})
        level[leaf] = value
    try:
        return TypeAdapter(cls).validate_python(nested)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"router {name}, setting {where}={first['input']}: {first['msg']}") from error


def name_of(router: Any) -> str:
    """What a router is called: the name its class is registered under, else its class name in kebab-case.

    Of several names it is the one whose preset the router has, with the most settings. Raises PluginError where that
    name is another class's.
    """
    if isinstance(router, FixedArm):
        return f"{PREFIX}{router.arm}"
    cls, settings = type(router), settings_of(router)
    prefix = ""
    if issubclass(cls, Guarded):
        prefix, cls = GUARDED, cls.__bases__[1]
    presets = {}
    for name in [name for name in ROUTERS if ROUTERS[name].cls is cls]:
        given = settings_of(create(name))
        if all(settings[key] == given[key] for key in ROUTERS[name].preset):
            presets[name] = len(ROUTERS[name].preset)
    if presets:
        return prefix + max(presets, key=lambda name: presets[name])
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", cls.__name__)
    name = "-".join(word.lower() for word in words) or "router"
    if name in ROUTERS and ROUTERS[name].cls is not cls:
        raise PluginError(
            f"a router of class {cls.__name__} would be called {name}, which is another class: rename it, or make the "
            "router again where its class was defined again"
        )
    return name


def require_parts(name: str, router: Any) -> None:
    """Raises PluginError where a router lacks a part that a run needs, before hours go into its fit."""
    lacks = [part for part in ("deterministic", "fit", "save", "load") if not hasattr(router, part)]
    if not (hasattr(router, "route") or hasattr(router, "predict")):
        lacks.append("route or predict")
    if lacks:
        raise PluginError(f"router {name} lacks {', '.join(lacks)}: see recal_bench.routers.Router")


def setting_names(cls: type[Any], prefix: str = "") -> list[str]:
    """The settings of a router class, nested ones dotted."""
    names: list[str] = []
    for each in _setting_fields(cls):
        inner = get_type_hints(cls)[each.name]
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            names += setting_names(inner, f"{prefix}{each.name}.")
        else:
            names.append(prefix + each.name)
    return names


def settings_of(router: Any, prefix: str = "") -> dict[str, Any]:
    """The settings a router runs with, defaults included, nested ones dotted."""
    values: dict[str, Any] = {}
    for each in _setting_fields(type(router)):
        value = getattr(router, each.name)
        if dataclasses.is_dataclass(value):
            values |= settings_of(value, f"{prefix}{each.name}.")
        else:
            values[prefix + each.name] = value
    return values


def _setting_fields(cls: type[Any]) -> list[dataclasses.Field[Any]]:
    return [each for each in dataclasses.fields(cls) if each.init]


def assign_settings(names: Sequence[str], assignments: Sequence[str]) -> dict[str, dict[str, str]]:
    """`[ROUTER:]KEY=VALUE` words as settings by router: KEY=VALUE goes to every named router that has KEY.

    Raises SettingsError on a word of another form, a router that is not named, a setting that no named router has.
    """
    has = {name: setting_names(spec_of(name).cls) for name in names}
    settings: dict[str, dict[str, str]] = {name: {} for name in names}
    for word in assignments:
        key, equals, value = word.partition("=")
        target, colon, bare = key.rpartition(":")
        if not equals or not bare:
            raise SettingsError(f"--set {word}: write KEY=VALUE, or ROUTER:KEY=VALUE for one router")
        if colon and target not in settings:
            raise SettingsError(f"--set {word}: router {target} is not among those to run ({', '.join(names)})")
        takers = [name for name in ([target] if colon else names) if bare in has[name]]
        if not takers:
            every = sorted({setting for name in names for setting in has[name]})
            raise SettingsError(
                f"--set {word}: no named router has a setting {bare}{near_miss(bare, every)}: "
                "`recal-bench routers` lists them"
            )
        for name in takers:
            settings[name][bare] = value
    return settings
