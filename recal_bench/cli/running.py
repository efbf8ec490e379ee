"""`run`."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recal_bench.cli.base import (
    DataOptions,
    command,
    data_options,
    device_option,
    include_path,
    runs_option,
    split_commas,
)
from recal_bench.cli.benches import load_benches, refused, router_option
from recal_bench.cli.constraints import ConstraintOptions, constraint_options
from recal_bench.cli.external import ExternalOptions, external_options
from recal_bench.cli.jobs import jobs_options
from recal_bench.cli.labels import labels_option
from recal_bench.cli.progress import RunBar, counter, progress_bars
from recal_bench.errors import SettingsError

if TYPE_CHECKING:
    from recal_bench.experiments.jobs import Jobs
    from recal_bench.experiments.records import Run


def _require_event_files(folder: Path) -> None:
    """Refuses before any work is done what could not be written after it."""
    from recal_bench.experiments.event_files import require_tensorboard

    require_tensorboard()
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"--tensorboard {folder} is a file: name a folder")


def _write_event_files(runs: list[Run], folder: Path) -> None:
    from recal_bench.experiments.event_files import write_event_files
    from recal_bench.wording import counted

    written = [path for run in runs if (path := write_event_files(run, folder))]
    told = (
        f"Note: {counted(len(written), 'training log')} in {folder}/: tensorboard --logdir {shlex.quote(str(folder))}"
    )
    click.echo(told if written else "Note: no router of these keeps a training log for TensorBoard", err=True)


def _fractions(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
    try:
        fractions = sorted({float(word) for word in value.split(",")})
    except ValueError:
        fractions = [0.0]
    if not all(0 < fraction <= 1 for fraction in fractions):
        raise SettingsError(f"--train-fraction {value}: give shares above 0, at most 1, as in 0.1,0.3,1")
    return tuple(fractions)


@command(
    "recal-bench run --router recal --router knn --seeds 5\n"
    "recal-bench run --router recal --outcomes my_log.parquet --set recal:steps=400\n"
    "recal-bench run --decisions mine=chosen.csv --outcomes my_log.parquet"
)
@router_option(required=False)
@external_options
@constraint_options
@data_options
@device_option
@jobs_options
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Training seeds 0 .. N-1.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="[ROUTER:]KEY=VALUE",
    help="A router's setting, for every named router that has it, or for one (repeatable).",
)
@click.option("--tuned", "tuned_path", type=click.Path(path_type=Path), help="Settings that `recal-bench tune` chose.")
@click.option(
    "--train-fraction",
    "fractions",
    default="1",
    callback=_fractions,
    metavar="F,G",
    show_default=True,
    help="Shares of train to learn from; several give a curve: 0.05,0.1,0.3,1.",
)
@labels_option
@click.option(
    "--hold-out-arms",
    "held_out",
    default="",
    callback=split_commas,
    metavar="A,B",
    help="Arms (model|strategy) or models that train does not hold and test does.",
)
@click.option(
    "--labelled",
    type=int,
    default=50,
    show_default=True,
    help="Train queries on which routers that can adapt see the held-out arms.",
)
@runs_option
@click.option("--fresh", is_flag=True, help="Run again what is already there.")
@click.option(
    "--tensorboard",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also write the training curves there, as TensorBoard reads them.",
)
@include_path
def run(
    words: tuple[str, ...],
    external: ExternalOptions,
    constraints: ConstraintOptions,
    data: DataOptions,
    device: str,
    jobs: Jobs,
    seeds: int,
    assignments: tuple[str, ...],
    tuned_path: Path | None,
    fractions: tuple[float, ...],
    labels: tuple[int | None, ...],
    held_out: tuple[str, ...],
    labelled: int,
    runs: Path,
    fresh: bool,
    tensorboard: Path | None,
    include_paths: tuple[Path, ...],
) -> None:
    """Fit routers on the train split, replay their decisions on the others, keep run records, print the comparison.

    What was run before with the same configuration on the same outcomes is found again. The rows that every comparison
    needs (best-single, random, cheapest, knn and the references) are added by themselves.
    """
    from recal_bench import routers
    from recal_bench.experiments.plans import plan
    from recal_bench.experiments.runs import run_plans
    from recal_bench.experiments.tuning import read_tuned
    from recal_bench.experiments.variants import with_held_out, with_labels_per_query, with_train_fraction
    from recal_bench.reporting.text.report import overview

    if tensorboard is not None:
        _require_event_files(tensorboard)
    routers.discover(include_paths)
    whole = fractions == (1.0,) and labels == (None,) and not held_out
    external.require(bool(words), one_bench=data.worlds == 1 and whole)
    names, by_all = routers.named(words) if words else ((), frozenset[str]())
    settings = routers.assign_settings(names, assignments)
    for name in names:
        routers.create(name, settings[name])  # refuses wrong settings before any work is done
    constraints.require(names, settings)
    options = [part for folder in include_paths for part in ("--include-path", folder)]
    with progress_bars() as progress:
        benches = load_benches(progress, data, settings, by_all)
        tuned = read_tuned(tuned_path, benches[0]) if tuned_path else {}
        for name in names:
            if tuned_path and name not in tuned and name not in by_all:
                click.echo(f"Note: {tuned_path} holds no settings for {name}: it runs at its defaults", err=True)
        done: list[Run] = external.run(benches[0], runs, fresh)
        for bench, fraction, count in itertools.product(benches, fractions, labels):
            part = bench if fraction == 1 else with_train_fraction(bench, fraction)
            part = part if count is None else with_labels_per_query(part, count)
            if held_out:
                part = with_held_out(part, held_out, labelled)
            constraints.require_bench(part)
            plans = plan(
                part,
                names,
                settings=settings,
                tuned=tuned,
                tuned_path=tuned_path,
                seeds=seeds,
                device=device,
                words=options,
                optional=by_all,
                constraint=constraints.constraint,
            )
            bar = RunBar(progress, plans)
            done += run_plans(
                *(part, plans, runs, fresh, bar.begin, bar.step),
                on_seed=bar.seed,
                on_refused=lambda each, error: refused(each.name, error),
                jobs=jobs,
                on_ahead=counter(progress, f"{jobs.number} jobs", "fits"),
            )
            bar.end()
    constraints.require_met(done)
    if tensorboard is not None:
        _write_event_files(done, tensorboard)
    click.echo(overview(done))
    click.echo(f"\n{len(done)} run records in {runs}/")
