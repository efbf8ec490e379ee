"""`payback`."""

from __future__ import annotations

from pathlib import Path

import click

from recal_bench.cli.base import command, format_option, read_folder, runs_argument
from recal_bench.defaults import BASELINE


@command("recal-bench payback runs --horizon 1000000\nrecal-bench payback runs --baseline 'arm:gpt-4o|direct'")
@runs_argument
@click.option("--baseline", default=BASELINE, show_default=True, help="What would be used without a router.")
@click.option(
    "--horizon", type=click.IntRange(min=1), metavar="N", help="Also what N queries cost, labels included, by ratio."
)
@format_option
def payback(runs: Path, baseline: str, horizon: int | None, format_: str) -> None:
    """After how many queries a router has paid back what the labels of train cost, with intervals."""
    from recal_bench.reporting.figures.payback import payback as find_payback
    from recal_bench.reporting.text.payback import payback_text

    click.echo(payback_text(find_payback(read_folder(runs), baseline, horizon), format_))
