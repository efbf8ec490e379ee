"""Does a run and keeps its record: atomic, found again by its content, resumed after a kill."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from recal_bench import provenance, routers
from recal_bench.encoders import parts_of
from recal_bench.encoders.shared import share_encoders
from recal_bench.errors import RecalBenchError
from recal_bench.experiments.bench import Bench
from recal_bench.experiments.constraints import ConstraintError, price_for, require_sweep
from recal_bench.experiments.fitness import require_fit_for
from recal_bench.experiments.latency import Fitted, measure
from recal_bench.experiments.plans import RunPlan, class_of
from recal_bench.experiments.records import Configuration, Run, read_log, read_run
from recal_bench.experiments.reference_runs import run_references
from recal_bench.experiments.replay import deciders_of, guard_of, replay
from recal_bench.experiments.sweep import sweep
from recal_bench.experiments.work import (
    METRICS,
    begin,
    find_run,
    finish,
    locked,
    record_of,
    recover,
    work_folder,
    write_decisions,
)
from recal_bench.folders import naming, slug
from recal_bench.outcomes.dense import column_hash, features_hash
from recal_bench.outcomes.schema import FEATURES
from recal_bench.routers import Context, Router

# On a CPU more seeds at once no longer fit its caches and take longer each.
SEEDS_AT_ONCE = {"cpu": 10, "cuda": 256}


def run_plans(
    bench: Bench,
    plans: Sequence[RunPlan],
    folder: Path,
    fresh: bool = False,
    on_plan: Callable[[RunPlan], None] = lambda plan: None,
    on_step: Callable[[dict[str, Any]], None] = lambda line: None,
    on_seed: Callable[[], None] = lambda: None,
    on_refused: Callable[[RunPlan, RecalBenchError], None] = lambda plan, error: None,
) -> list[Run]:
    """The references and the runs of all plans. `on_plan` is called before each, the others as `run_router` does.

    Where an optional router refuses the outcomes, or a router cannot meet its constraint, `on_refused` is told, and the
    others go on. Latencies are measured when everything is fitted.
    """
    done = run_references(bench, folder, fresh=fresh)
    fitted = []
    for each in plans:
        on_plan(each)
        try:
            require_fit_for(bench, each.name, each.router)
            fitted.append(_run(bench, each, folder, fresh, on_step, on_seed))
        except RecalBenchError as error:
            if not each.optional and not isinstance(error, ConstraintError):
                raise
            on_refused(each, error)
    return [*done, *measure(bench, fitted, folder)]


def run_router(
    bench: Bench,
    plan: RunPlan,
    folder: Path,
    fresh: bool = False,
    on_step: Callable[[dict[str, Any]], None] = lambda line: None,
    on_seed: Callable[[], None] = lambda: None,
) -> list[Run]:
    """For each seed fit, route every evaluated split, keep the record; or find the record of the same configuration.

    The work goes on in a hidden folder that becomes the run's folder by a rename, so a run is there whole or not at
    all; a killed one goes on from its last checkpoint. A router with `fit_seeds` is fitted on several seeds at once.
    Every seed is fitted on a copy of the plan's router. `on_step` sees the first of them. Where every run is found,
    nothing is written. Raises RecalBenchError where the router refuses the data.
    """
    return measure(bench, [_run(bench, plan, folder, fresh, on_step, on_seed)], folder)


def _run(
    bench: Bench,
    plan: RunPlan,
    folder: Path,
    fresh: bool,
    on_step: Callable[[dict[str, Any]], None],
    on_seed: Callable[[], None],
) -> Fitted:
    """The runs of a plan, whose latency may be unknown, and the first router that was fitted for them."""
    router = plan.router
    if plan.constraint is not None:
        require_sweep(router, plan.constraint)
    configurations = configurations_of(bench, plan)
    targets = [_target(folder, each) for each in configurations]
    found = [None if fresh else find_run(bench, target) for target in targets]
    fitted: list[Router] = []
    with ExitStack() as locks:
        absent = sorted(target for target, run in zip(targets, found, strict=True) if run is None)
        for target in absent:
            locks.enter_context(locked(target))
            recover(target)
        # Another process may have done the work while this one waited for its turn.
        todo = [
            (configuration, target)
            for configuration, target in zip(configurations, targets, strict=True)
            if target in absent and (fresh or find_run(bench, target) is None)
        ]
        at_once = SEEDS_AT_ONCE[configurations[0].device] if hasattr(router, "fit_seeds") else 1
        for start in range(0, len(todo), at_once):
            fitted += _fit_and_keep(bench, plan, todo[start : start + at_once], fresh, on_step, on_seed)[:1]
        for _ in range(len(targets) - len(todo)):
            on_seed()
        runs = [run or read_run(target) for run, target in zip(found, targets, strict=True)]
    return Fitted(plan, runs, fitted[0] if fitted else None)


def configurations_of(bench: Bench, plan: RunPlan) -> list[Configuration]:
    """What each seed's record of a plan is found by."""
    router, flags = plan.router, routers.flags_of(plan.router)
    device = provenance.resolve_device(plan.device) if flags.accelerated else "cpu"
    origins = (type(router), *_plugins_in(router))
    return [
        Configuration(
            router=plan.name,
            settings=routers.settings_of(router),
            seed=seed,
            device=device,
            data=bench.data,
            tuned=plan.tuned,
            source=provenance.source_hash(*origins),
            versions=provenance.versions_used(*origins),
            columns={name: column_hash(bench.splits.train.column_QA[name]) for name in flags.reads_columns}
            | ({FEATURES: features_hash(bench.splits.train)} if flags.reads_features else {}),
            constraint=plan.constraint,
        )
        for seed in plan.seeds
    ]


def _target(folder: Path, configuration: Configuration) -> Path:
    return folder / f"{slug(configuration.router)}-{configuration.key}-s{configuration.seed}"


def follow(bench: Bench, plan: RunPlan, folder: Path, fresh: bool = False) -> None:
    """The part of a run of every process of torchrun but the first: fit with it what it fits, from the checkpoint that
    it kept, and write nothing."""
    for configuration in configurations_of(bench, plan):
        target = _target(folder, configuration)
        if fresh or find_run(bench, target) is None:
            context = Context(configuration.seed, configuration.device, work_folder(target), lambda line: None)
            copy.deepcopy(plan.router).fit(bench.train, bench.validation, context)


def _plugins_in(router: Any) -> list[Any]:
    """The plug-ins of other kinds that a router is made of: those it names in `made_of`, and its encoder's classes."""
    encoder = routers.settings_of(router).get("encoder")
    return [*routers.flags_of(router).made_of, *(parts_of(encoder).values() if encoder else ())]


def _fit_and_keep(
    bench: Bench,
    plan: RunPlan,
    todo: Sequence[tuple[Configuration, Path]],
    fresh: bool,
    on_step: Callable[[dict[str, Any]], None],
    on_seed: Callable[[], None],
) -> list[Router]:
    """Runs of one router with several seeds, fitted together. The time of the fit is shared equally between them."""
    seeds = [copy.deepcopy(plan.router) for _ in todo]
    works = []
    started, resumed = datetime.now(timezone.utc), False
    with naming(work_folder(todo[0][1]) / METRICS), ExitStack() as logs:
        contexts = []
        for number, (configuration, target) in enumerate(todo):
            work, step = begin(target, fresh)
            works.append(work)
            resumed |= step > 0
            file = logs.enter_context((work / METRICS).open("a", encoding="utf-8"))
            log = _logger(file, on_step if number == 0 else lambda line: None)
            contexts.append(Context(configuration.seed, configuration.device, work, log))
        start = time.perf_counter()
        with _cleared(works):
            routers.fit_seeds(seeds, bench.train, bench.validation, contexts)
            if bench.labelled is not None:
                for router in (each for each in seeds if hasattr(each, "adapt")):
                    router.adapt(bench.labelled.outcomes.arms, routers.shown_to(router, bench.labelled))
            met = [price_for(bench, each, plan.constraint) if plan.constraint else None for each in seeds]
        fit_seconds = None if resumed else (time.perf_counter() - start) / len(seeds)
    for router, (configuration, target), work, point in zip(seeds, todo, works, met, strict=True):
        deciders = deciders_of(bench, router)
        write_decisions(replay(bench, router, None if point is None else point.alpha, deciders), work)
        with naming(work / "router"):
            (work / "router").mkdir(exist_ok=True)
            router.save(work / "router")
        share_encoders(work / "router", target.parent)
        last = (read_log(work / METRICS) or [{}])[-1]
        if not last:
            (work / METRICS).unlink()
        record = record_of(
            bench,
            configuration,
            started,
            deterministic=bool(router.deterministic),
            adapted=bench.few is not None and hasattr(router, "adapt"),
            command=plan.command,
            router_class=class_of(plan),
            fit_seconds=fit_seconds,
            steps=last.get("step"),
            kept_step=last.get("kept_step"),
            encoder=configuration.settings.get("encoder"),
            frontier=sweep(bench, router, deciders),
            on_validation=point,
            guard=guard_of(bench, router),
            neighbour_recall=getattr(router, "neighbour_recall", None),
        )
        finish(target, record)
        on_seed()
    return seeds


@contextmanager
def _cleared(works: Sequence[Path]) -> Iterator[None]:
    """Nothing is left of a router that refuses the outcomes."""
    try:
        yield
    except RecalBenchError:
        for work in works:
            shutil.rmtree(work, ignore_errors=True)
        raise


def _logger(file: TextIO, on_step: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def log(line: dict[str, Any]) -> None:
        file.write(json.dumps(line) + "\n")
        file.flush()
        on_step(line)

    return log
