"""A fit of one router with some seeds: done under lock, kept as run records, resumed after a kill."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from recal_bench import provenance, routers
from recal_bench.encoders import identities_of, parts_of
from recal_bench.encoders.shared import share_encoders
from recal_bench.errors import EndpointError, RecalBenchError
from recal_bench.experiments.bench import Bench
from recal_bench.experiments.constraints import price_for
from recal_bench.experiments.plans import RunPlan, class_of
from recal_bench.experiments.records import Configuration, Run, read_log, read_run
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
from recal_bench.toolbox.threads import one_blas_thread

# On a CPU more seeds at once no longer fit its caches and take longer each.
SEEDS_AT_ONCE = {"cpu": 10, "cuda": 256}


def fitted_together(plan: RunPlan) -> list[RunPlan]:
    """The plan in parts, each with the seeds that are fitted at once: units of work that depend on nothing else."""
    at_once = SEEDS_AT_ONCE[_device_of(plan)] if hasattr(plan.router, "fit_seeds") else 1
    starts = range(0, len(plan.seeds), at_once)
    return [replace(plan, seeds=plan.seeds[start : start + at_once]) for start in starts]


def fit(
    bench: Bench,
    plan: RunPlan,
    folder: Path,
    fresh: bool,
    on_step: Callable[[dict[str, Any]], None],
    on_seed: Callable[[], None],
    ahead: Collection[Path],
) -> tuple[list[Run], list[Router]]:
    """The runs of seeds that are fitted together, and the routers of those that were not found."""
    configurations = configurations_of(bench, plan)
    targets = [target_of(folder, each) for each in configurations]
    again = {target: fresh and target not in ahead for target in targets}
    found = [None if again[target] else find_run(bench, target) for target in targets]
    with ExitStack() as locks:
        absent = sorted(target for target, run in zip(targets, found, strict=True) if run is None)
        for target in absent:
            locks.enter_context(locked(target))
            recover(target)
        # Another process may have done the work while this one waited for its turn.
        todo = [
            (configuration, target)
            for configuration, target in zip(configurations, targets, strict=True)
            if target in absent and (again[target] or find_run(bench, target) is None)
        ]
        if todo:
            locks.enter_context(one_blas_thread())
        fitted = _fit_and_keep(bench, plan, todo, fresh, on_step, on_seed)[:1] if todo else []
        for _ in range(len(targets) - len(todo)):
            on_seed()
        return [run or read_run(target) for run, target in zip(found, targets, strict=True)], fitted


def configurations_of(bench: Bench, plan: RunPlan) -> list[Configuration]:
    """What each seed's record of a plan is found by."""
    router, flags = plan.router, routers.flags_of(plan.router)
    device = _device_of(plan)
    origins = (type(router), *_plugins_in(router))
    encoder = routers.settings_of(router).get("encoder")
    identities = {f"encoder {name}": each for name, each in identities_of(encoder).items()} if encoder else {}
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
            | ({FEATURES: features_hash(bench.splits.train)} if flags.reads_features else {})
            | identities,
            constraint=plan.constraint,
        )
        for seed in plan.seeds
    ]


def _device_of(plan: RunPlan) -> str:
    return provenance.resolve_device(plan.device) if routers.flags_of(plan.router).accelerated else "cpu"


def target_of(folder: Path, configuration: Configuration) -> Path:
    return folder / f"{slug(configuration.router)}-{configuration.key}-s{configuration.seed}"


def follow(bench: Bench, plan: RunPlan, folder: Path, fresh: bool = False) -> None:
    """The part of a run of every process of torchrun but the first: fit with it what it fits, from the checkpoint that
    it kept, and write nothing."""
    for configuration in configurations_of(bench, plan):
        target = target_of(folder, configuration)
        if fresh or find_run(bench, target) is None:
            where = configuration.device, work_folder(target)
            context = Context(configuration.seed, *where, lambda line: None, plan.max_usd)
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
            contexts.append(Context(configuration.seed, configuration.device, work, log, plan.max_usd))
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
    """Nothing is left of a router that refuses the outcomes; of one that an endpoint has stopped, its checkpoint is."""
    try:
        yield
    except EndpointError:
        raise
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
