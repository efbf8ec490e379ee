"""Settings are chosen on validation, with the same small budget for every router."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recal_bench import provenance, routers
from recal_bench.errors import RecalBenchError
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.experiments.bench import Bench
from recal_bench.experiments.fitness import require_fit_for
from recal_bench.experiments.fits import configurations_of
from recal_bench.experiments.jobs import Jobs, work_ahead
from recal_bench.experiments.plans import RunPlan
from recal_bench.experiments.replay import validation_utility
from recal_bench.experiments.tuning import Trial, Tuned
from recal_bench.folders import slug, written_whole
from recal_bench.routers import Context
from recal_bench.routers.registry import spec_of
from recal_bench.toolbox.threads import one_blas_thread

TUNING_SEEDS = (1000, 1001, 1002)


class Search(NamedTuple):
    """Random search without repetition over a router's declared `space`, the defaults first.

    Every trial is fitted on train with seeds that no final run uses (one seed where the router is deterministic) and
    judged by their mean on validation; test is not touched. Of several benches (worlds of the embedded pool) each has
    one of these seeds, and the mean over them decides: a world's luck averages out with the seed's. Simulated outcomes
    are judged as in tables, by the truth behind them.
    A router without a `space` has the one trial of its defaults. `fixed` settings are part of every trial. Ties go to
    the earlier trial.
    """

    benches: Sequence[Bench]
    name: str
    n_trials: int
    device: str
    fixed: dict[str, Any]

    @classmethod
    def of(
        cls,
        benches: Bench | Sequence[Bench],
        name: str,
        n_trials: int,
        device: str = "auto",
        fixed: Mapping[str, Any] | None = None,
    ) -> Search:
        """Raises SettingsError on a device, router or setting that is not known."""
        provenance.require_device(device)
        return cls([benches] if isinstance(benches, Bench) else benches, name, n_trials, device, {**(fixed or {})})

    @property
    def seeds_of_benches(self) -> list[tuple[int, ...]]:
        """The seeds of a trial on each bench."""
        deterministic = routers.create(self.name, self.fixed).deterministic
        if len(self.benches) == 1:
            return [TUNING_SEEDS[:1] if deterministic else TUNING_SEEDS]
        order = range(len(self.benches))
        return [(TUNING_SEEDS[0 if deterministic else number % len(TUNING_SEEDS)],) for number in order]

    def trials(self) -> list[tuple[dict[str, Any], list[tuple[Bench, RunPlan]]]]:
        """The settings of each trial, and what is fitted for it on each bench.

        Raises RecalBenchError where the router cannot learn from one of them.
        """
        router = routers.create(self.name, self.fixed)
        for bench in self.benches:
            require_fit_for(bench, self.name, router)
        implied = spec_of(self.name).preset
        space = {
            key: values
            for key, values in routers.flags_of(router).space.items()
            # What a name implies, and no value of the space is, stays: recal-no-shrinkage has no other trust.
            if key not in self.fixed and implied.get(key, values[0]) in values
        }
        everything = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
        defaults = routers.settings_of(router)
        others = [settings for settings in everything if settings != {key: defaults[key] for key in settings}]
        order = np.random.default_rng(TUNING_SEEDS[0]).permutation(len(others))
        found = []
        for settings in [{}, *(others[index] for index in order)][: self.n_trials]:
            settings = {**self.fixed, **settings}
            parts = [
                (bench, RunPlan(self.name, routers.create(self.name, settings), seeds, self.device))
                for bench, seeds in zip(self.benches, self.seeds_of_benches, strict=True)
            ]
            found.append((settings, parts))
        return found


def tune(
    search: Search,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    kept: Path | None = None,
) -> Tuned:
    """Do the trials of a search, or find what they came to in the folder `kept`, which keeps it.

    Raises RecalBenchError where the router refuses the outcomes.
    """
    done = []
    for settings, parts in search.trials():
        trial = Trial(settings=settings, validation_utility=float(np.mean([_utility(*part, kept) for part in parts])))
        on_trial(trial)
        done.append(trial)
    data = search.benches[0].data
    return Tuned(
        router=search.name,
        outcomes=" ".join(bench.data.name for bench in search.benches),
        data_hash=" ".join(bench.data.hash for bench in search.benches),
        simulated=data.simulated,
        tasks=data.tasks,
        missing=data.missing,
        cost_rule=data.cost_rule,
        alpha=data.alpha,
        latency_price=data.latency_price,
        seeds=tuple(sorted({seed for seeds in search.seeds_of_benches for seed in seeds})),
        trials=done,
    )


def tune_ahead(
    searches: Sequence[Search],
    kept: Path,
    jobs: Jobs,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Do the trials of several searches side by side, and keep what they come to in a folder, where `tune` finds it.

    A router that refuses the outcomes is left to `tune`.
    """
    units = []
    for search in searches:
        with contextlib.suppress(RecalBenchError):
            units += [(*part, kept.resolve()) for _, parts in search.trials() for part in parts]
    work_ahead(jobs, _try_in_worker, units, lambda unit: _kept(*unit) is not None, tell)


def forget(search: Search, kept: Path) -> None:
    """Remove what the trials of a search came to, and the folder where it is the last in it."""
    for _, parts in search.trials():
        for part in parts:
            _path(*part, kept).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        kept.rmdir()


def _try_in_worker(bench: Bench, plan: RunPlan, kept: Path) -> None:
    _utility(bench, plan, kept)


def _path(bench: Bench, plan: RunPlan, kept: Path) -> Path:
    seeds = "-".join(map(str, plan.seeds))
    return kept / f"{slug(plan.name)}-{configurations_of(bench, plan)[0].key}-s{seeds}.json"


def _kept(bench: Bench, plan: RunPlan, kept: Path) -> float | None:
    try:
        return float(json.loads(_path(bench, plan, kept).read_text(encoding="utf-8"))["validation_utility"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _utility(bench: Bench, plan: RunPlan, kept: Path | None) -> float:
    """Macro utility on validation, the mean over the plan's seeds."""
    if kept is None:
        return _validation_utility(bench, plan)
    found = _kept(bench, plan, kept)
    if found is None:
        found = _validation_utility(bench, plan)
        path = _path(bench, plan, kept)
        with written_whole(path) as draft:
            draft.write_text(json.dumps({"validation_utility": found}) + "\n", encoding="utf-8")
    return found


def _validation_utility(bench: Bench, plan: RunPlan) -> float:
    made = [copy.deepcopy(plan.router) for _ in plan.seeds]
    device = configurations_of(bench, plan)[0].device
    with tempfile.TemporaryDirectory() as folder, one_blas_thread():
        contexts = []
        for seed in plan.seeds:
            (own := Path(folder) / str(seed)).mkdir()
            contexts.append(Context(seed, device, own, lambda line: None))
        routers.fit_seeds(made, bench.train, bench.validation, contexts)
        task_Q = bench.splits.validation.task_Q
        return float(np.mean([macro_mean(validation_utility(bench, each), task_Q) for each in made]))
