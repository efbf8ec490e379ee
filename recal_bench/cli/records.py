"""`runs`."""

from __future__ import annotations

from pathlib import Path

import click

from recal_bench.cli.base import command, read_folder, runs_argument


@command("recal-bench runs runs --prune")
@runs_argument
@click.option("--prune", is_flag=True, help="Remove the records that newer ones of the same configuration replace.")
def runs(runs: Path, prune: bool) -> None:
    """List the run records of a folder, and which of them tables show: of equal configurations the newest."""
    from recal_bench.experiments.pruning import prune as remove
    from recal_bench.experiments.records import Found
    from recal_bench.experiments.standing import standing
    from recal_bench.reporting.text.records import records_text

    found = read_folder(runs)
    state = standing(found)
    if not prune:
        click.echo(records_text(runs, Found(found, ()), state))
        return
    removed = remove(runs, state.superseded)
    for path in removed:
        click.echo(f"removed {path}")
    click.echo(f"{len(removed):,} removed, {len(state.runs):,} records stay in {runs}/")
