"""`compare`, `leaderboard` and `show`."""

from __future__ import annotations

from pathlib import Path

import click

from recal_bench.cli.base import command, run_argument, runs_argument


@command("recal-bench compare runs --baseline knn --format json")
@runs_argument
@click.option("--baseline", default="best-single", show_default=True, help="The router that others are held against.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "markdown", "csv", "json"]),
    default="table",
    show_default=True,
)
def compare(runs: Path, baseline: str, format_: str) -> None:
    """Compare all runs of a folder: utility with intervals, accuracy, cost, savings, regret."""
    from recal_bench.records import read_runs
    from recal_bench.reporting.compare import tables
    from recal_bench.reporting.tables import render_all

    click.echo(render_all(tables(read_runs(runs), baseline), format_))


@command("recal-bench leaderboard runs --out leaderboards/mine")
@runs_argument
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option("--baseline", default="best-single", show_default=True, help="The router that others are held against.")
def leaderboard(runs: Path, out: Path, baseline: str) -> None:
    """Write the leaderboard of a folder of runs: markdown, CSV, JSON and pictures, with every row's command."""
    from recal_bench.provenance import command_line
    from recal_bench.records import read_runs
    from recal_bench.reporting.leaderboard import write_leaderboard

    asked = ["--baseline", baseline] if baseline != "best-single" else []
    command = command_line("recal-bench", "leaderboard", str(runs), "--out", str(out), *asked)
    for path in write_leaderboard(read_runs(runs), out, command, baseline):
        click.echo(path)


@command("recal-bench show runs/recal-...")
@run_argument
def show(run_folder: Path) -> None:
    """A run's per-task table, its most regretted decisions and its learning curve."""
    from recal_bench.records import read_run, read_runs
    from recal_bench.reporting.show import show_run

    chosen = read_run(run_folder)
    click.echo(show_run(chosen, read_runs(run_folder.resolve().parent)))
