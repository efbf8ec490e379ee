"""Which runs are to be done: routers given by name or as instances, and the standard rows of every comparison."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recal_bench import plugins, provenance, routers
from recal_bench.defaults import COST_FLOOR, STANDARD_ROUTERS
from recal_bench.errors import PluginError, SettingsError
from recal_bench.experiments.bench import Bench
from recal_bench.experiments.fitness import require_fit_for
from recal_bench.experiments.points import Constraint
from recal_bench.experiments.tuning import Tuned
from recal_bench.routers import Router, is_known


@dataclass(frozen=True)
class RunPlan:
    """A router with its seeds, and the name it is recorded under. Each seed is fitted on a copy of `router`.

    `command` reproduces the row; `tuned` says how the settings were chosen. An `optional` router may refuse the
    outcomes. With a `constraint` the router is asked at the price of cost that meets it on validation. `max_usd` is
    what the calls of a fit may cost.
    """

    name: str
    router: Router
    seeds: tuple[int, ...] = (0,)
    device: str = "auto"
    command: str = ""
    tuned: str | None = None
    optional: bool = False
    constraint: Constraint | None = None
    max_usd: float | None = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        """In another process the router is made again by its name, when the plug-ins are found there."""
        if class_of(self):
            return super().__reduce_ex__(protocol)
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "router"}
        return _made_again, (plugins.loaded_folders(), routers.settings_of(self.router), values)


def _made_again(folders: tuple[Path, ...], settings: dict[str, Any], values: dict[str, Any]) -> RunPlan:
    plugins.discover(folders)
    return RunPlan(router=routers.create(values["name"], settings), **values)


def plan(
    bench: Bench,
    wanted: Sequence[str | Router],
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    tuned: Mapping[str, Tuned] | None = None,
    tuned_path: Path | None = None,
    seeds: int = 1,
    device: str = "auto",
    words: Sequence[str | Path] = (),
    optional: Collection[str] = (),
    constraint: Constraint | None = None,
) -> list[RunPlan]:
    """The wanted routers, then the standard rows that are not among them. A deterministic router has one run.

    `settings` and `tuned` go to the routers that are named; an instance has its own. `tuned_path` is the file that
    `tuned` was read from, `words` are options of the command line beside those of the bench and the device. A
    `constraint` is for the wanted routers; the standard rows stay without.
    Raises RecalBenchError on a router that cannot run on such outcomes, but for the `optional` names.
    """
    settings, tuned = settings or {}, tuned or {}
    if seeds < 1:
        raise SettingsError(f"{seeds} seeds: give 1 or more")
    provenance.require_device(device)
    shared = [*bench.options, *(["--device", device] if device != "auto" else []), *words]
    plans: dict[str, RunPlan] = {}

    def add(
        name: str, router: Router, command: str, chosen: str | None = None, held_to: Constraint | None = None
    ) -> None:
        routers.require_parts(name, router)
        if name not in optional:
            require_fit_for(bench, name, router)
        numbers = tuple(range(1 if router.deterministic else seeds))
        made = RunPlan(name, router, numbers, device, command, chosen, name in optional, held_to)
        row = [name, routers.settings_of(router), chosen, held_to is not None]
        plans[json.dumps(row, sort_keys=True, default=str)] = made

    for each in wanted:
        if not isinstance(each, str):
            name = _name_of_instance(each)
            add(name, each, _command_of_instance(name, each, shared), held_to=constraint)
            continue
        given, found = settings.get(each, {}), tuned.get(each)
        router = routers.create(each, {**(found.settings if found else {}), **given})
        chosen: Mapping[str, Any] = found.settings if found and not tuned_path else {}
        own: list[str | Path] = ["--tuned", tuned_path] if found and tuned_path else []
        own += _set_words({**chosen, **given})
        trials = _trials(found, bench) if found and not given else None
        own += [constraint.option, repr(constraint.target)] if constraint else []
        add(each, router, _command(each, [*shared, *own]), trials, constraint)
    named = {each.name for each in plans.values() if each.constraint is None}
    for name in STANDARD_ROUTERS:
        if name not in named and (name != COST_FLOOR or bench.objective.has_cost):
            add(name, routers.create(name), _command(name, shared))
    return list(plans.values())


def _trials(tuned: Tuned, bench: Bench) -> str:
    """How settings were chosen: in how many trials, and on what if not on validation of these outcomes."""
    count = f"{len(tuned.trials)} trials"
    return count if tuned.data_hash == bench.data.hash else f"{count} on {tuned.outcomes.replace(' ', ', ')}"


def class_of(plan: RunPlan) -> str | None:
    """`module:Class` of a router that its name alone does not find."""
    cls = type(plan.router)
    return None if is_known(plan.name) else f"{cls.__module__}:{cls.__qualname__}"


def _command(name: str, words: Sequence[str | Path]) -> str:
    return provenance.command_line("recal-bench", "run", "--router", name, *words)


def _set_words(settings: Mapping[str, Any]) -> list[str | Path]:
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def _name_of_instance(router: Any) -> str:
    """Raises PluginError on what is not a router, SettingsError on a setting that a record could not hold."""
    cls = type(router)
    if isinstance(router, type):
        raise PluginError(f"{router.__name__} is a class: give an instance of it, {router.__name__}()")
    if not dataclasses.is_dataclass(router):
        raise PluginError(
            f"{cls.__name__} is not a dataclass, whose fields are its settings: decorate it with @dataclass"
        )
    for key, value in routers.settings_of(router).items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise SettingsError(
                f"router class {cls.__name__}, setting {key}: a record holds numbers, texts, lists and None, not a "
                f"{type(value).__name__}; make it of those in fit"
            ) from None
    return routers.name_of(router)


def _command_of_instance(name: str, router: Any, shared: Sequence[str | Path]) -> str:
    """The command that runs the same by name; of a class that is not registered the call in Python."""
    settings = routers.settings_of(router)
    if is_known(name):
        defaults = routers.settings_of(routers.create(name))
        changed = {key: value for key, value in settings.items() if value != defaults[key]}
        return _command(name, [*shared, *_set_words(changed)])
    cls = type(router)
    written = ", ".join(f"{each.name}={getattr(router, each.name)!r}" for each in dataclasses.fields(cls) if each.init)
    module = "" if cls.__module__ == "__main__" else f"{cls.__module__}."
    options = provenance.command_line(*shared)
    return f"recal_bench.run(bench, [{module}{cls.__qualname__}({written})]) # bench: {options}".rstrip(": ")
