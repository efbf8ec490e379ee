"""Settings chosen on validation, with the same small budget for every router."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from recal_bench import provenance, routers
from recal_bench.errors import SettingsError
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.experiments.bench import Bench
from recal_bench.experiments.fitness import require_fit_for
from recal_bench.experiments.replay import validation_utility
from recal_bench.folders import written_whole
from recal_bench.routers import Context

TUNING_SEEDS = (1000, 1001, 1002)


class Trial(BaseModel):
    """One setting tried: macro utility on validation (macro score where no utility may be reported)."""

    settings: dict[str, Any]
    validation_utility: float


class Tuned(BaseModel):
    """All trials of one router, the best one first in `settings`. The outcomes are named by their hash.

    `simulated`: what was chosen on some worlds of the embedded pool may be used on others.
    """

    router: str
    outcomes: str
    data_hash: str
    tasks: tuple[str, ...]
    missing: str
    cost_rule: str = "error"
    alpha: float
    latency_price: float = 0.0
    simulated: bool = False
    seeds: tuple[int, ...]
    trials: Annotated[list[Trial], Field(min_length=1)]

    @property
    def settings(self) -> dict[str, Any]:
        return max(self.trials, key=lambda trial: trial.validation_utility).settings


def tune(
    benches: Bench | Sequence[Bench],
    name: str,
    trials: int,
    device: str = "auto",
    fixed: dict[str, Any] | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Tuned:
    """Random search without repetition over the router's declared `space`, the defaults first.

    Every trial is fitted on train with seeds that no final run uses (one seed where the router is deterministic) and
    judged by their mean on validation; test is not touched. Of several benches (worlds of the embedded pool) each has
    one of these seeds, and the mean over them decides: a world's luck averages out with the seed's.
    A router without a `space` has the one trial of its defaults. `fixed` settings are part of every trial. Ties go to
    the earlier trial.
    """
    fixed = fixed or {}
    provenance.require_device(device)
    router = routers.create(name, fixed)
    benches = [benches] if isinstance(benches, Bench) else benches
    for bench in benches:
        require_fit_for(bench, name, router)
    space = {key: values for key, values in routers.flags_of(router).space.items() if key not in fixed}
    everything = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    defaults = routers.settings_of(router)
    others = [settings for settings in everything if settings != {key: defaults[key] for key in settings}]
    order = np.random.default_rng(TUNING_SEEDS[0]).permutation(len(others))
    seeds_of_benches = _seeds_of(len(benches), router.deterministic)
    done = []
    for settings in [{}, *(others[index] for index in order)][:trials]:
        settings = {**fixed, **settings}
        utilities = [
            _validation_utility(bench, name, settings, device, seeds)
            for bench, seeds in zip(benches, seeds_of_benches, strict=True)
        ]
        trial = Trial(settings=settings, validation_utility=float(np.mean(utilities)))
        on_trial(trial)
        done.append(trial)
    data = benches[0].data
    return Tuned(
        router=name,
        outcomes=" ".join(bench.data.name for bench in benches),
        data_hash=" ".join(bench.data.hash for bench in benches),
        simulated=data.simulated,
        tasks=data.tasks,
        missing=data.missing,
        cost_rule=data.cost_rule,
        alpha=data.alpha,
        latency_price=data.latency_price,
        seeds=tuple(sorted({seed for seeds in seeds_of_benches for seed in seeds})),
        trials=done,
    )


def _seeds_of(n_benches: int, deterministic: bool) -> list[tuple[int, ...]]:
    """The seeds of a trial on each bench."""
    if n_benches == 1:
        return [TUNING_SEEDS[:1] if deterministic else TUNING_SEEDS]
    return [(TUNING_SEEDS[0 if deterministic else number % len(TUNING_SEEDS)],) for number in range(n_benches)]


def _validation_utility(
    bench: Bench, name: str, settings: dict[str, Any], device: str, seeds: tuple[int, ...]
) -> float:
    made = [routers.create(name, settings) for _ in seeds]
    resolved = provenance.resolve_device(device) if routers.flags_of(made[0]).accelerated else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        contexts = []
        for seed in seeds:
            (own := Path(folder) / str(seed)).mkdir()
            contexts.append(Context(seed, resolved, own, lambda line: None))
        routers.fit_seeds(made, bench.train, bench.validation, contexts)
    task_Q = bench.splits.validation.task_Q
    return float(np.mean([macro_mean(validation_utility(bench, each), task_Q) for each in made]))


def write_tuned(tuned: list[Tuned], path: Path) -> None:
    """Write the trials of several routers as one JSON file, for `run --tuned FILE`, whole or not at all."""
    with written_whole(path) as draft:
        draft.write_text(json.dumps([each.model_dump() for each in tuned], indent=1) + "\n", encoding="utf-8")


def keep_tuned(tuned: Tuned, bench: Bench, path: Path) -> None:
    """Put a router's trials into such a file, beside those of other routers that it holds for the same outcomes.

    Several processes may do so at once. Raises SettingsError as `read_tuned` does, and leaves the file as it was.
    """
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        kept = read_tuned(path, bench) if path.exists() else {}
        kept[tuned.router] = tuned
        write_tuned([kept[name] for name in sorted(kept)], path)


def read_tuned(path: Path, bench: Bench) -> dict[str, Tuned]:
    """Tuned settings by router. Raises SettingsError where the file holds none, or was made on other outcomes."""
    try:
        parsed = [Tuned.model_validate(each) for each in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, RecursionError, ValidationError) as error:
        raise SettingsError(
            f"{path} holds no tuned settings: write them with `recal-bench tune --out {path}`"
        ) from error
    return {each.router: check_tuned(each, bench, str(path)) for each in parsed}


def check_tuned(tuned: Tuned, bench: Bench, where: str) -> Tuned:
    """Raises SettingsError where settings were tuned on other outcomes than those of a bench."""
    data = bench.data
    same_hash = data.hash in tuned.data_hash.split() or (tuned.simulated and data.simulated)
    judged_by = tuned.missing, tuned.cost_rule, tuned.alpha, tuned.latency_price
    made_on = (data.hash if same_hash else tuned.data_hash, tuned.tasks, *judged_by)
    if made_on != (data.hash, data.tasks, data.missing, data.cost_rule, data.alpha, data.latency_price):
        raise SettingsError(
            f"{where}: {tuned.router} was tuned on {tuned.outcomes} ({tuned.data_hash}, {len(tuned.tasks)} tasks, "
            f"missing {tuned.missing}, unknown costs {tuned.cost_rule}, alpha {tuned.alpha:g}, "
            f"latency price {tuned.latency_price:g}); this run has "
            f"{data.name} ({data.hash}, {len(data.tasks)} tasks, missing {data.missing}, unknown costs "
            f"{data.cost_rule}, alpha {data.alpha:g}, latency price {data.latency_price:g}): tune again on it"
        )
    return tuned
