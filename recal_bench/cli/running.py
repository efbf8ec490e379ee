"""`run` and `tune`."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from recal_bench.errors import RecalBenchError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from rich.progress import Progress

    from recal_bench.experiments.bench import Bench
    from recal_bench.experiments.records import Run


@contextmanager
def _progress() -> Iterator[Progress]:
    """A progress bar on stderr; nothing where that is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[detail]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


def _load_benches(
    progress: Progress, data: DataOptions, settings: dict[str, dict[str, str]], by_all: Collection[str]
) -> list[Bench]:
    """The outcomes, with what the routers read of them; a router that nobody named cannot ask for columns."""
    from recal_bench import routers
    from recal_bench.experiments.bench import load_worlds

    what = "building the embedded pool" if data.outcomes is None else f"reading {data.outcomes.name}"
    bar = progress.add_task(what, total=1.0, detail="")
    flags = {name: routers.flags_of(routers.create(name, chosen)) for name, chosen in settings.items()}
    benches = load_worlds(
        data.worlds,
        world_seed=data.world_seed,
        world_arms=data.world_arms,
        path=data.outcomes,
        tasks=data.tasks,
        alpha=data.alpha,
        missing=data.missing,
        unknown_cost=data.unknown_cost,
        prices=data.prices,
        score_range=data.score_range,
        zero_cost=data.zero_cost,
        responses=any(each.reads_responses for each in flags.values()),
        columns=sorted({column for name in flags.keys() - by_all for column in flags[name].reads_columns}),
        progress=lambda share: progress.update(bar, completed=share),
    )
    progress.remove_task(bar)
    return benches


_router_option = click.option(
    "--router",
    "words",
    multiple=True,
    required=True,
    metavar="NAME",
    help="A router's name, several as in a,b, a fixed arm as in 'arm:model|strategy', or all (repeatable).",
)


def _refused(name: str, error: RecalBenchError) -> None:
    click.echo(f"Note: {name} is left out: {error}", err=True)


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
    "recal-bench run --router recal --outcomes my_log.parquet --set recal:steps=400"
)
@_router_option
@data_options
@device_option
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
@include_path
def run(
    words: tuple[str, ...],
    data: DataOptions,
    device: str,
    seeds: int,
    assignments: tuple[str, ...],
    tuned_path: Path | None,
    fractions: tuple[float, ...],
    held_out: tuple[str, ...],
    labelled: int,
    runs: Path,
    fresh: bool,
    include_paths: tuple[Path, ...],
) -> None:
    """Fit routers on the train split, replay their decisions on the others, keep run records, print the comparison.

    What was run before with the same configuration on the same outcomes is found again. The rows that every comparison
    needs (best-single, random, cheapest, knn and the references) are added by themselves.
    """
    from recal_bench import routers
    from recal_bench.experiments.plans import RunPlan, plan
    from recal_bench.experiments.runs import run_plans
    from recal_bench.experiments.tuning import read_tuned
    from recal_bench.experiments.variants import with_held_out, with_train_fraction
    from recal_bench.reporting.text.report import overview

    routers.discover(include_paths)
    names, by_all = routers.named(words)
    settings = routers.assign_settings(names, assignments)
    for name in names:
        routers.create(name, settings[name])  # refuses wrong settings before any work is done
    options = [part for folder in include_paths for part in ("--include-path", folder)]
    with _progress() as progress:
        benches = _load_benches(progress, data, settings, by_all)
        tuned = read_tuned(tuned_path, benches[0]) if tuned_path else {}
        for name in names:
            if tuned_path and name not in tuned and name not in by_all:
                click.echo(f"Note: {tuned_path} holds no settings for {name}: it runs at its defaults", err=True)
        done: list[Run] = []
        for bench, fraction in itertools.product(benches, fractions):
            part = bench if fraction == 1 else with_train_fraction(bench, fraction)
            if held_out:
                part = with_held_out(part, held_out, labelled)
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
            )
            bar = progress.add_task("", total=sum(len(each.seeds) for each in plans), detail="")

            def on_plan(each: RunPlan) -> None:
                what = f"{len(each.seeds)} seeds" if len(each.seeds) > 1 else "1 seed"
                progress.update(bar, description=f"{each.name}, {what}", detail="")  # noqa: B023

            def on_step(line: dict[str, Any]) -> None:
                progress.update(bar, detail=f"step {line.get('step', '')}")  # noqa: B023

            done += run_plans(
                *(part, plans, runs, fresh, on_plan, on_step),
                on_seed=lambda: progress.advance(bar),  # noqa: B023
                on_refused=lambda each, error: _refused(each.name, error),
            )
            progress.remove_task(bar)
    click.echo(overview(done))
    click.echo(f"\n{len(done)} run records in {runs}/")


@command("recal-bench tune --router recal --router knn --trials 8 --out tuned.json")
@_router_option
@data_options
@device_option
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Settings tried, the same for each router.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="[ROUTER:]KEY=VALUE",
    help="A setting that every trial has, instead of searching for it (repeatable).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="The JSON file for `run --tuned`; other routers' settings in it stay.",
)
@include_path
def tune(
    words: tuple[str, ...],
    data: DataOptions,
    device: str,
    trials: int,
    assignments: tuple[str, ...],
    out: Path,
    include_paths: tuple[Path, ...],
) -> None:
    """Choose settings on validation, with the same number of trials for every router. Test is not touched."""
    from recal_bench import routers
    from recal_bench.experiments.tuning import keep_tuned, read_tuned
    from recal_bench.experiments.tuning import tune as tune_router
    from recal_bench.provenance import command_line

    if out.is_dir():
        raise SettingsError(f"--out {out} is a folder: name a JSON file")
    routers.discover(include_paths)
    names, by_all = routers.named(words)
    settings = routers.assign_settings(names, assignments)
    for name in names:
        routers.create(name, settings[name])
    with _progress() as progress:
        benches = _load_benches(progress, data, settings, by_all)
        if out.exists():
            read_tuned(out, benches[0])  # refuses a file of other outcomes before any work is done
        for name in names:
            bar = progress.add_task(name, total=trials, detail="")
            try:
                found = tune_router(benches, name, trials, device, settings[name], lambda trial: progress.advance(bar))  # noqa: B023
            except RecalBenchError as error:
                if name not in by_all:
                    raise
                _refused(name, error)
                continue
            best = max(trial.validation_utility for trial in found.trials)
            click.echo(
                f"{name}: {best:.4f} on validation in {len(found.trials)} trials"
                f" (defaults {found.trials[0].validation_utility:.4f}): {found.settings or 'defaults'}"
            )
            keep_tuned(found, benches[0], out)
    options = [*benches[0].options, *(part for folder in include_paths for part in ("--include-path", folder))]
    named = [part for word in words for part in ("--router", word)]
    click.echo(f"Use them with: {command_line('recal-bench', 'run', *named, *options, '--tuned', out)}")
