"""`drift`."""

from __future__ import annotations

from pathlib import Path

import click

from recal_bench.cli.base import command, include_path, reading_options

_DRIFTED = 3


@command(
    "recal-bench drift traffic.jsonl --run runs/ridge-...\n"
    "recal-bench drift traffic.jsonl --run runs/ridge-... --json --fail-on-drift"
)
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--run", "run_folder", type=click.Path(path_type=Path), required=True, help="The folder of one run.")
@click.option(
    "--outcomes",
    type=click.Path(path_type=Path),
    help="The outcomes file that the run was made on, where its command does not lead there.",
)
@reading_options[0]
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--fail-on-drift", is_flag=True, help=f"End with exit code {_DRIFTED} where drift is found, e.g. for cron."
)
@include_path
def drift(
    log: Path,
    run_folder: Path,
    outcomes: Path | None,
    score_range: tuple[float, float],
    as_json: bool,
    fail_on_drift: bool,
    include_paths: tuple[Path, ...],
) -> None:
    """Does today's traffic look like what a run was made on? Queries, foreign queries, score, cost, chosen arms.

    LOG is a table with the column prompt. Where it has model and strategy (or arm), score and cost_usd, these are
    compared too.
    """
    from recal_bench import api, routers
    from recal_bench.reporting.text import drift as text

    routers.discover(include_paths)
    found = api.drift(log, run_folder, outcomes=outcomes, score_range=score_range)
    click.echo(text.as_json(found) if as_json else text.as_text(found))
    if fail_on_drift and found.changed:
        raise SystemExit(_DRIFTED)
