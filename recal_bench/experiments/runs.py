"""Runs routers on outcomes: what is asked for, one after the other or side by side, found again where it is there."""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from recal_bench.errors import RecalBenchError
from recal_bench.experiments.bench import Bench
from recal_bench.experiments.constraints import ConstraintError, require_sweep
from recal_bench.experiments.fitness import require_fit_for
from recal_bench.experiments.fits import configurations_of, fit, fitted_together, target_of
from recal_bench.experiments.jobs import ONE_JOB, Jobs, WorkerError, work_ahead
from recal_bench.experiments.latency import Fitted, measure
from recal_bench.experiments.plans import RunPlan
from recal_bench.experiments.records import Run
from recal_bench.experiments.reference_runs import run_references
from recal_bench.experiments.work import find_run


def run_plans(
    bench: Bench,
    plans: Sequence[RunPlan],
    folder: Path,
    fresh: bool = False,
    on_plan: Callable[[RunPlan], None] = lambda plan: None,
    on_step: Callable[[dict[str, Any]], None] = lambda line: None,
    on_seed: Callable[[], None] = lambda: None,
    on_refused: Callable[[RunPlan, RecalBenchError], None] = lambda plan, error: None,
    jobs: Jobs = ONE_JOB,
    on_ahead: Callable[[int, int], None] = lambda done, total: None,
) -> list[Run]:
    """The references and the runs of all plans. `on_plan` is called before each, the others as `run_router` does.

    With several `jobs` the fits are done ahead, side by side; `on_ahead` is given how many are over, and of how many.
    Where an optional router refuses the outcomes, or a router cannot meet its constraint, `on_refused` is told, and the
    others go on. Latencies are measured when everything is fitted.
    """
    done = run_references(bench, folder, fresh=fresh)
    ahead = _run_ahead(bench, plans, folder, fresh, jobs, on_ahead) if jobs.number > 1 else frozenset[Path]()
    fitted = []
    for each in plans:
        on_plan(each)
        try:
            require_fit_for(bench, each.name, each.router)
            fitted.append(_run(bench, each, folder, fresh, on_step, on_seed, ahead))
        except RecalBenchError as error:
            if not _may_refuse(each, error):
                raise
            on_refused(each, error)
    return [*done, *measure(bench, fitted, folder)]


def _may_refuse(plan: RunPlan, error: RecalBenchError) -> bool:
    return plan.optional or isinstance(error, ConstraintError)


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
    on_step: Callable[[dict[str, Any]], None] = lambda line: None,
    on_seed: Callable[[], None] = lambda: None,
    ahead: Collection[Path] = frozenset(),
) -> Fitted:
    """The runs of a plan, whose latency may be unknown, and the first router that was fitted for them.

    `fresh` is not for the targets that were done `ahead`.
    """
    if plan.constraint is not None:
        require_sweep(plan.router, plan.constraint)
    fits = [fit(bench, part, folder, fresh, on_step, on_seed, ahead) for part in fitted_together(plan)]
    fitted = [router for _, routers in fits for router in routers]
    return Fitted(plan, [run for runs, _ in fits for run in runs], fitted[0] if fitted else None)


def _run_ahead(
    bench: Bench,
    plans: Sequence[RunPlan],
    folder: Path,
    fresh: bool,
    jobs: Jobs,
    tell: Callable[[int, int], None],
) -> frozenset[Path]:
    """Fit what is not there, side by side. Returns the targets of what was done."""
    parts = [part for plan in plans for part in fitted_together(plan)]
    targets_of = [[target_of(folder.resolve(), each) for each in configurations_of(bench, part)] for part in parts]
    before = {
        target: run.record.started
        for targets in targets_of
        for target in targets
        if fresh and (run := find_run(bench, target))
    }

    def is_done(target: Path) -> bool:
        run = find_run(bench, target)
        return run is not None and run.record.started != before.get(target)

    units = [(bench, part, targets, fresh) for part, targets in zip(parts, targets_of, strict=True)]
    work_ahead(jobs, _fit_in_worker, units, lambda unit: all(map(is_done, unit[2])), tell)
    return frozenset(folder / target.name for targets in targets_of for target in targets if is_done(target))


def _fit_in_worker(bench: Bench, plan: RunPlan, targets: Sequence[Path], fresh: bool) -> None:
    """Raises WorkerError where the runs would not be those that are wanted."""
    folder = targets[0].parent
    if [target_of(folder, each) for each in configurations_of(bench, plan)] != targets:
        raise WorkerError(
            f"a worker on {platform.node()} has other code or packages, or other plug-ins, than the process that "
            "shares out: install the same there"
        )
    try:
        require_fit_for(bench, plan.name, plan.router)
        _run(bench, plan, folder, fresh)
    except RecalBenchError as error:
        if not _may_refuse(plan, error):
            raise
