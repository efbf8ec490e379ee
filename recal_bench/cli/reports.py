"""`compare`, `leaderboard`, `stability`, `diagnose` and `show`."""

from __future__ import annotations

from pathlib import Path

import click

from recal_bench.cli.base import command, format_option, read_folder, run_argument, runs_argument
from recal_bench.defaults import BASELINE, TRAINING_BASELINE


@command("recal-bench compare runs --baseline knn --format json")
@runs_argument
@click.option("--baseline", default=BASELINE, show_default=True, help="The router that others are compared with.")
@click.option(
    "--aggregate",
    type=click.Choice(["mean", "iqm"]),
    default="mean",
    show_default=True,
    help="What rows are ranked by: the mean, or the interquartile mean of all seeds on all tasks.",
)
@format_option
def compare(runs: Path, baseline: str, aggregate: str, format_: str) -> None:
    """Compare all runs of a folder: utility with intervals, accuracy, cost, savings, the frontier, regret."""
    from recal_bench.reporting.text.report import report

    click.echo(report(read_folder(runs), format_, baseline, aggregate))


@command("recal-bench leaderboard runs --out leaderboards/mine")
@runs_argument
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option("--baseline", default=BASELINE, show_default=True, help="The router that others are compared with.")
@click.option("--no-queries", is_flag=True, help="A page without the queries: no prompt leaves the outcomes file.")
def leaderboard(runs: Path, out: Path, baseline: str, no_queries: bool) -> None:
    """Write the leaderboard of a folder of runs: a page, markdown, CSV, JSON and pictures, with every row's command."""
    from recal_bench.provenance import command_line
    from recal_bench.reporting.leaderboard import write_leaderboard
    from recal_bench.reporting.page.write import QUERIES
    from recal_bench.reporting.text.layout import line

    asked = ["--baseline", baseline] if baseline != BASELINE else []
    asked += ["--no-queries"] if no_queries else []
    command = command_line("recal-bench", "leaderboard", str(runs), "--out", str(out), *asked)
    paths = write_leaderboard(read_folder(runs), out, command, baseline, not no_queries)
    for path in paths:
        click.echo(path)
    if lists := [path.name for path in paths if path.name.endswith(QUERIES)]:
        told = (
            f"Note: {', '.join(lists)} show every query's prompt and outcomes on the page; --no-queries leaves them out"
        )
        click.echo(line(told, others="  "), err=True)


@command("recal-bench stability runs --baseline grpo --out stability")
@runs_argument
@click.option(
    "--baseline",
    help=f"The router that others are compared with, or router@settings.  [default: {TRAINING_BASELINE}, if there]",
)
@click.option(
    "--utility",
    type=float,
    help="The validation utility whose steps are counted.  [default: where the baseline's mean curve ends]",
)
@format_option
@click.option("--out", type=click.Path(path_type=Path), help="A folder for stability.md, stability.json and curves.")
def stability(runs: Path, baseline: str | None, utility: float | None, format_: str, out: Path | None) -> None:
    """How stable the training of the routers was: spread of the seeds, drawdown, collapse, gradient spikes, speed."""
    from recal_bench.provenance import command_line
    from recal_bench.reporting.figures.stability import stability as report_stability
    from recal_bench.reporting.stability import write_stability
    from recal_bench.reporting.text.stability import render_reports

    reports = report_stability(read_folder(runs), baseline, utility)
    click.echo(render_reports(reports, format_))
    if out is not None:
        asked = ["--baseline", baseline] if baseline is not None else []
        asked += ["--utility", repr(utility)] if utility is not None else []
        command = command_line("recal-bench", "stability", str(runs), *asked, "--out", str(out))
        for path in write_stability(reports, out, command)[0]:
            click.echo(path, err=True)


@command("recal-bench diagnose runs/recal-...")
@run_argument
def diagnose(run_folder: Path) -> None:
    """Which failure modes a run's training shows, with their numbers and what to change."""
    from recal_bench.experiments.records import read_run
    from recal_bench.reporting.text.show import diagnose_run

    click.echo(diagnose_run(read_run(run_folder)))


@command("recal-bench show runs/recal-...")
@run_argument
def show(run_folder: Path) -> None:
    """A run's per-task table, its most regretted decisions and its learning curve."""
    from recal_bench.experiments.records import read_run
    from recal_bench.reporting.text.show import show_run

    chosen = read_run(run_folder)
    click.echo(show_run(chosen, read_folder(run_folder.resolve().parent)))
