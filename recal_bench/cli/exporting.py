"""`export`: outcomes and runs in the forms in which others read them."""

from __future__ import annotations

from pathlib import Path

import click

from recal_bench.cli.base import command


@command("recal-bench export outcomes.parquet --to dataset --out published")
@click.argument("source", metavar="RUNS|FILE", type=click.Path(path_type=Path))
@click.option("--to", metavar="FORM", required=True, help="every-eval-ever or dataset.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write; it must be empty.")
@click.option("--organization", metavar="NAME", help="every-eval-ever: who provides the results.")
@click.option(
    "--relationship",
    type=click.Choice(["first_party", "third_party", "collaborative", "other"]),
    default="other",
    show_default=True,
    help="every-eval-ever: what the evaluator is to the models.",
)
@click.option("--no-queries", is_flag=True, help="Without samples; of a data set, without replies and gold answers.")
def export(source: Path, to: str, out: Path, organization: str | None, relationship: str, no_queries: bool) -> None:
    """Write an outcomes file or a folder of runs in a form for others: Every Eval Ever, or a data set with a card."""
    from recal_bench.exporters import Publisher
    from recal_bench.exporters import export as write

    done = write(source, to, out, Publisher(organization, relationship, not no_queries))
    for line in done.summary:
        click.echo(line)
    for note in done.notes:
        click.echo(f"Note: {note}")
    click.echo(f"{out} is written")
