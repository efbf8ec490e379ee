"""`tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from recal_bench.cli.base import DataOptions, command, data_options, device_option, include_path
from recal_bench.cli.benches import load_benches, refused, router_option
from recal_bench.cli.jobs import jobs_options
from recal_bench.cli.progress import counter, progress_bars
from recal_bench.errors import RecalBenchError, SettingsError

if TYPE_CHECKING:
    from recal_bench.experiments.jobs import Jobs


@command("recal-bench tune --router recal --router knn --trials 8 --out tuned.json")
@router_option(required=True)
@data_options
@device_option
@jobs_options
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
    jobs: Jobs,
    trials: int,
    assignments: tuple[str, ...],
    out: Path,
    include_paths: tuple[Path, ...],
) -> None:
    """Choose settings on validation, with the same number of trials for every router. Test is not touched."""
    from recal_bench import routers
    from recal_bench.experiments.trials import Search, forget, tune_ahead
    from recal_bench.experiments.trials import tune as tune_router
    from recal_bench.experiments.tuning import keep_tuned, read_tuned
    from recal_bench.provenance import command_line

    if out.is_dir():
        raise SettingsError(f"--out {out} is a folder: name a JSON file")
    routers.discover(include_paths)
    names, by_all = routers.named(words)
    settings = routers.assign_settings(names, assignments)
    for name in names:
        routers.create(name, settings[name])
    with progress_bars() as progress:
        benches = load_benches(progress, data, settings, by_all)
        if out.exists():
            read_tuned(out, benches[0])  # refuses a file of other outcomes before any work is done
        kept = out.with_name(f".{out.name}.trials")
        searches = {name: Search.of(benches, name, trials, device, settings[name]) for name in names}
        tune_ahead([*searches.values()], kept, jobs, counter(progress, f"{jobs.number} jobs", "trials"))
        bar = progress.add_task("", total=trials * len(names), detail="")
        for number, name in enumerate(names):
            progress.update(bar, description=name, completed=number * trials)
            try:
                found = tune_router(searches[name], lambda trial: progress.advance(bar), kept)
            except RecalBenchError as error:
                if name not in by_all:
                    raise
                refused(name, error)
                continue
            best = max(trial.validation_utility for trial in found.trials)
            click.echo(
                f"{name}: {best:.4f} on validation in {len(found.trials)} trials"
                f" (defaults {found.trials[0].validation_utility:.4f}): {found.settings or 'defaults'}"
            )
            keep_tuned(found, benches[0], out)
            forget(searches[name], kept)
    options = [*benches[0].options, *(part for folder in include_paths for part in ("--include-path", folder))]
    named = [part for word in words for part in ("--router", word)]
    click.echo(f"Use them with: {command_line('recal-bench', 'run', *named, *options, '--tuned', out)}")
