"""Does a run and keeps its record: atomic, found again by its content, resumed after a kill."""

from __future__ import annotations

import copy
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from recal_bench import provenance, routers
from recal_bench.arrays import finite_or_none
from recal_bench.defaults import BASELINE, KNOWN_TRUTH, SAVINGS_TARGET, TASK_BEST, UPPER_BOUND
from recal_bench.encoders import parts_of
from recal_bench.evaluation import references
from recal_bench.experiments.bench import Bench
from recal_bench.experiments.plans import RunPlan, class_of
from recal_bench.experiments.records import Configuration, Run, RunRecord, read_run
from recal_bench.experiments.replay import bayes_arms, decision_frame, replay, time_single_queries
from recal_bench.experiments.sweep import sweep
from recal_bench.outcomes import Outcomes
from recal_bench.outcomes.dense import column_hash
from recal_bench.routers import Context, Decisions
from recal_bench.toolbox.targets import typical_values

if TYPE_CHECKING:
    import pandas as pd

METRICS = "metrics.jsonl"
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
) -> list[Run]:
    """The references and the runs of all plans. `on_plan` is called before each, the others as `run_router` does."""
    done = run_references(bench, folder, fresh=fresh)
    for each in plans:
        on_plan(each)
        done += run_router(bench, each, folder, fresh, on_step, on_seed)
    return done


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
    Every seed is fitted on a copy of the plan's router. `on_step` sees the first of them. Raises RecalBenchError where
    the router refuses the data.
    """
    router = plan.router
    flags = routers.flags_of(router)
    device = provenance.resolve_device(plan.device) if flags.accelerated else "cpu"
    configurations = [
        Configuration(
            router=plan.name,
            settings=routers.settings_of(router),
            seed=seed,
            device=device,
            data=bench.data,
            tuned=plan.tuned,
            source=provenance.source_hash(type(router), *_plugins_in(router)),
            columns={name: column_hash(bench.splits.train.column_QA[name]) for name in flags.reads_columns},
        )
        for seed in plan.seeds
    ]
    targets = [folder / f"{each.router}-{each.key}-s{each.seed}" for each in configurations]
    with ExitStack() as locks:
        for target in sorted(targets):
            locks.enter_context(_locked(target))
        todo = [
            (configuration, target)
            for configuration, target in zip(configurations, targets, strict=True)
            if fresh or not (target / "run.json").exists()
        ]
        at_once = SEEDS_AT_ONCE[device] if hasattr(router, "fit_seeds") else 1
        for start in range(0, len(todo), at_once):
            _fit_and_keep(bench, plan, todo[start : start + at_once], fresh, on_step, on_seed)
        for _ in range(len(targets) - len(todo)):
            on_seed()
        return [read_run(target) for target in targets]


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
) -> None:
    """Runs of one router with several seeds, fitted together. The time of the fit is shared equally between them."""
    from recal_bench.training import checkpoint_step

    seeds = [copy.deepcopy(plan.router) for _ in todo]
    works = [target.with_name(f".{target.name}") for _, target in todo]
    started, resumed = datetime.now(timezone.utc), False
    with ExitStack() as logs:
        contexts = []
        for number, ((configuration, _), work) in enumerate(zip(todo, works, strict=True)):
            if fresh:
                shutil.rmtree(work, ignore_errors=True)
            work.mkdir(exist_ok=True)
            step = checkpoint_step(work)
            resumed |= step > 0
            _keep_lines(work / METRICS, step)
            file = logs.enter_context((work / METRICS).open("a", encoding="utf-8"))
            log = _logger(file, on_step if number == 0 else lambda line: None)
            contexts.append(Context(configuration.seed, configuration.device, work, log))
        begin = time.perf_counter()
        routers.fit_seeds(seeds, bench.train, bench.validation, contexts)
        if bench.labelled is not None:
            for router in (each for each in seeds if hasattr(each, "adapt")):
                router.adapt(bench.labelled.outcomes.arms, bench.labelled)
        fit_seconds = None if resumed else (time.perf_counter() - begin) / len(seeds)
    for router, (configuration, target), work in zip(seeds, todo, works, strict=True):
        replay(bench, router).to_parquet(work / "decisions.parquet", index=False)
        latency = time_single_queries(bench, router)
        (work / "router").mkdir(exist_ok=True)
        router.save(work / "router")
        logged = (work / METRICS).read_text(encoding="utf-8").splitlines()
        if not logged:
            (work / METRICS).unlink()
        record = _record(
            bench,
            configuration,
            started,
            deterministic=bool(router.deterministic),
            adapted=bench.few is not None and hasattr(router, "adapt"),
            command=plan.command,
            router_class=class_of(plan),
            fit_seconds=fit_seconds,
            route_us_per_query=float(np.median(latency)),
            route_us_p95=float(np.percentile(latency, 95)),
            steps=json.loads(logged[-1]).get("step") if logged else None,
            encoder=configuration.settings.get("encoder"),
            frontier=sweep(bench, router),
        )
        _finish(work, target, record)
        on_seed()


def _logger(file: TextIO, on_step: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def log(line: dict[str, Any]) -> None:
        file.write(json.dumps(line) + "\n")
        file.flush()
        on_step(line)

    return log


def run_references(bench: Bench, folder: Path, command: str | None = None, fresh: bool = False) -> list[Run]:
    """The rows that no router can be: `oracle`, `task-best`, `best-accuracy` (one arm) and, where the truth is known,
    `bayes`. What they choose on train is chosen on train; only the oracle, which a log of single choices lacks, looks
    at the outcomes it is judged on.
    """
    if command is None:
        command = provenance.command_line("recal-bench", "run", "--router", BASELINE, *bench.options)
    train, objective = bench.splits.train, bench.objective
    train_utility_QA = objective.utility(train.score_QA, train.cost_QA)
    accuracy_A = typical_values(train.score_QA, train, np.min)
    mean_cost_A = bench.mean_cost_A[: len(train.arms)]
    choosers: dict[str, Callable[[Outcomes], Decisions]] = {
        TASK_BEST: lambda part: Decisions(
            references.task_best(
                train_utility_QA,
                train.task_Q,
                part.task_Q,
                bench.calls(bench.of_train_arms(part)).available_QA,
                mean_cost_A,
                train.propensity_Q,
            )
        ),
        SAVINGS_TARGET: lambda part: bench.calls(bench.of_train_arms(part)).choose(np.tile(accuracy_A, (len(part), 1))),
    }
    if not bench.data.logged:
        choosers[UPPER_BOUND] = lambda part: Decisions(
            references.oracle(objective.utility(part.score_QA, part.cost_QA), part.cost_QA)
        )
    if train.expected_score_QA is not None:
        choosers[KNOWN_TRUTH] = lambda part: Decisions(bayes_arms(objective, part))
    return [_run_reference(bench, name, choose, folder, command, fresh) for name, choose in choosers.items()]


def _run_reference(
    bench: Bench, name: str, choose: Callable[[Outcomes], Decisions], folder: Path, command: str, fresh: bool
) -> Run:
    import pandas as pd

    source = provenance.source_hash(Bench)
    configuration = Configuration(router=name, settings={}, seed=0, device="cpu", data=bench.data, source=source)
    target = folder / f"{name}-{configuration.key}-s0"
    work = folder / f".{target.name}"
    with _locked(target):
        if (target / "run.json").exists() and not fresh:
            return read_run(target)
        started = datetime.now(timezone.utc)
        work.mkdir(exist_ok=True)
        frames: list[pd.DataFrame] = [
            decision_frame(bench, split, part, choose(part), bench.calls(part))
            for split, part in bench.splits.evaluation.items()
        ]
        pd.concat(frames, ignore_index=True).to_parquet(work / "decisions.parquet", index=False)
        record = _record(bench, configuration, started, reference=True, deterministic=True, command=command)
        _finish(work, target, record)
    return read_run(target)


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """One process at a time works on a run."""
    from filelock import FileLock

    locks = target.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / target.name):
        yield


def _record(bench: Bench, configuration: Configuration, started: datetime, **results: Any) -> RunRecord:
    return RunRecord(
        configuration=configuration,
        started=started.isoformat(timespec="seconds"),
        code=provenance.code_version(),
        packages=provenance.package_versions(),
        device_name=provenance.device_name(configuration.device),
        mean_score_A=tuple(map(finite_or_none, bench.mean_score_A)),
        mean_cost_A=tuple(map(finite_or_none, bench.mean_cost_A)),
        **results,
    )


def _keep_lines(path: Path, step: int) -> None:
    """Cut a log back to a step: what a killed fit logged after its checkpoint will be logged again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if step else []:
        if not line.endswith("\n") or json.loads(line)["step"] > step:
            break
        kept.append(line)
    path.write_text("".join(kept), encoding="utf-8")


def _finish(work: Path, target: Path, record: RunRecord) -> None:
    """Write the record last, then give the folder its name. An older run of that name is replaced."""
    (work / "run.json").write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if target.exists():
        old = target.with_name(f".{target.name}-old-{os.getpid()}")
        target.rename(old)
        work.rename(target)
        shutil.rmtree(old)
    else:
        work.rename(target)
