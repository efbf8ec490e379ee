"""The registry through which the baselines and a user's own routers are found, and made from their settings."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from recal_bench.errors import RecalBenchError, near_miss
from recal_bench.folders import shipped

ENTRY_POINT_GROUP = "recal_bench.routers"


@dataclass(frozen=True)
class Spec:
    """One entry of the registry: a router class under a name, with the settings the name stands for."""

    name: str
    cls: type[Any]
    preset: dict[str, Any]
    summary: str


_REGISTRY: dict[str, Spec] = {}
_Cls = TypeVar("_Cls", bound=type)


def router(name: str, summary: str = "", **preset: Any) -> Callable[[_Cls], _Cls]:
    """Register a router class under a kebab-case name. The summary defaults to the docstring's first line.

    Decorators stack: one class may stand under several names, each with its own preset of settings
    (dots in a setting's name are written as `__`). Raises RecalBenchError where the name is taken.
    """

    def register(cls: _Cls) -> _Cls:
        taken = _REGISTRY.get(name)
        if taken and taken.cls.__module__ != cls.__module__:
            files = [inspect.getfile(each) for each in (taken.cls, cls)]
            raise RecalBenchError(f"two routers are called {name}, in {' and in '.join(files)}: rename one of them")
        line = summary or (cls.__doc__ or "").strip().partition("\n")[0]
        _REGISTRY[name] = Spec(name, cls, {key.replace("__", "."): value for key, value in preset.items()}, line)
        return cls

    return register


def load_folder(folder: Path) -> None:
    """Import every Python file of a folder, so that its routers register themselves."""
    if not folder.is_dir():
        raise RecalBenchError(f"{folder} is not a folder: --include-path takes a folder of Python files with routers")
    for path in sorted(folder.glob("[!_]*.py")):
        module_name = f"recal_bench_plugin_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}_{path.stem}"
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except RecalBenchError:
            raise
        except Exception as error:
            raise RecalBenchError(f"{path} cannot be imported as a router: {type(error).__name__}: {error}") from error


def discover(include_paths: tuple[Path, ...] = ()) -> dict[str, Spec]:
    """All routers by name: ours, those of installed packages (entry points), those of the given folders."""
    load_folder(shipped("baselines"))
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP):
        entry.load()
    for folder in include_paths:
        load_folder(folder)
    return dict(sorted(_REGISTRY.items()))


def create(name: str, settings: dict[str, Any] | None = None) -> Any:
    """An unfitted router with its settings. Dotted keys reach into nested settings. Registered names only.

    Raises RecalBenchError on an unknown router, an unknown setting or a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    spec = _spec(name)
    known = setting_names(spec.cls)
    nested: dict[str, Any] = {}
    for key, value in {**spec.preset, **(settings or {})}.items():
        if key not in known:
            raise RecalBenchError(
                f"router {name} has no setting {key}{near_miss(key, list(known))}: it has {', '.join(known) or 'none'}"
            )
        *parents, leaf = key.split(".")
        level = nested
        for parent in parents:
            level = level.setdefault(parent, {})
        level[leaf] = value
    try:
        return TypeAdapter(spec.cls).validate_python(nested)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecalBenchError(f"router {name}, setting {where}={first['input']}: {first['msg']}") from error


def require_parts(name: str, router: Any) -> None:
    """Raises RecalBenchError where a router lacks a part that a run needs, before hours go into its fit."""
    lacks = [part for part in ("deterministic", "fit", "save", "load") if not hasattr(router, part)]
    if not (hasattr(router, "route") or hasattr(router, "predict")):
        lacks.append("route or predict")
    if lacks:
        raise RecalBenchError(f"router {name} lacks {', '.join(lacks)}: see recal_bench.routers.Router")


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

    Raises RecalBenchError on a word of another form, a router that is not named, a setting that no named router has.
    """
    has = {name: setting_names(_spec(name).cls) for name in names}
    settings: dict[str, dict[str, str]] = {name: {} for name in names}
    for word in assignments:
        key, equals, value = word.partition("=")
        target, colon, bare = key.rpartition(":")
        if not equals or not bare:
            raise RecalBenchError(f"--set {word}: write KEY=VALUE, or ROUTER:KEY=VALUE for one router")
        if colon and target not in settings:
            raise RecalBenchError(f"--set {word}: router {target} is not among those to run ({', '.join(names)})")
        takers = [name for name in ([target] if colon else names) if bare in has[name]]
        if not takers:
            every = sorted({setting for name in names for setting in has[name]})
            raise RecalBenchError(
                f"--set {word}: no named router has a setting {bare}{near_miss(bare, every)}: "
                "`recal-bench routers` lists them"
            )
        for name in takers:
            settings[name][bare] = value
    return settings


def _spec(name: str) -> Spec:
    if name not in _REGISTRY:
        raise RecalBenchError(
            f"no router is called {name}{near_miss(name, list(_REGISTRY))}: `recal-bench routers` lists them all, "
            "and --include-path FOLDER adds your own"
        )
    return _REGISTRY[name]
