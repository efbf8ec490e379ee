"""`import`: other projects' outcomes as an outcomes file."""

from __future__ import annotations

from pathlib import Path

import click

from recal_bench.cli.base import cli
from recal_bench.cli.base import score_range as ends_of_scale
from recal_bench.errors import SettingsError


def _pairs(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """`A=B,C=D`, also given several times."""
    pairs = []
    for word in filter(None, (each.strip() for given in value for each in given.split(","))):
        first, sign, second = (part.strip() for part in word.partition("="))
        if not (first and sign and second):
            raise SettingsError(f"--map {word}: give pairs of names, as in prompt=question,cost_usd=cost")
        pairs.append((first, second))
    return tuple(pairs)


def _factors(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    """`score=0.01,latency_s=0.001`, also given several times."""
    import math

    factors = []
    for word in filter(None, (each.strip() for given in value for each in given.split(","))):
        name, _, number = (part.strip() for part in word.partition("="))
        try:
            factor = float(number)
        except ValueError:
            factor = math.nan
        if not (name and math.isfinite(factor) and factor > 0):
            raise SettingsError(f"--scale {word}: give a column and a number above 0, as in score=0.01")
        factors.append((name, factor))
    return tuple(factors)


@cli.command("import", epilog="\b\nExample:\n  recal-bench import wide scores.csv --out scores.parquet")
@click.argument("format_name", metavar="[FORMAT]", required=False)
@click.argument("sources", metavar="[SOURCE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The outcomes file to write (.parquet).")
@click.option("--strategy", default="direct", show_default=True, help="How the models were asked.")
@click.option("--task", metavar="NAME", help="The task, where the source names none.")
@click.option("--models", metavar="A,B", default="", help="wide: the columns that are models.")
@click.option(
    "--map",
    "columns",
    multiple=True,
    callback=_pairs,
    metavar="OURS=THEIRS,...",
    help="long: the source's columns, by what they are in an outcomes file: prompt=question,cost_usd=cost.",
)
@click.option(
    "--scale",
    multiple=True,
    callback=_factors,
    metavar="OURS=FACTOR,...",
    help="long: what a column's values are multiplied by: score=0.01 (percent), latency_s=0.001 (milliseconds).",
)
@click.option("--metric", metavar="NAME", help="lm-eval: the metric that is the score.")
@click.option("--filter", "filter_name", metavar="NAME", help="lm-eval: the filter whose samples count.")
@click.option("--unsafe-pickle", is_flag=True, help="Open pickles, which may run any code: only those that you trust.")
@click.option(
    "--score-range",
    callback=lambda ctx, parameter, value: value and ends_of_scale(ctx, parameter, value),
    metavar="LO,HI",
    help="The ends of the scale of scores, e.g. 1,5: they become 0 and 1.",
)
@click.option("--clip-scores", is_flag=True, help="routerarena: scores slightly outside 0..1 become 0 or 1.")
def import_(
    format_name: str | None,
    sources: tuple[Path, ...],
    out: Path | None,
    strategy: str,
    task: str | None,
    models: str,
    metric: str | None,
    filter_name: str | None,
    unsafe_pickle: bool,
    score_range: tuple[float, float] | None,
    clip_scores: bool,
    columns: tuple[tuple[str, str], ...],
    scale: tuple[tuple[str, float], ...],
) -> None:
    """Make an outcomes file from what another project wrote. Without arguments: the formats."""
    from recal_bench.importers import FORMATS, Options, format_named, import_outcomes

    if format_name is None:
        for name, form in FORMATS.items():
            click.echo(f"{name:12} {form.summary}")
        click.echo("\nrecal-bench import FORMAT SOURCE --out FILE.parquet")
        return
    format_named(format_name)
    if out is None:
        raise SettingsError(f"import {format_name}: where to is not said: give --out FILE.parquet")
    chosen = tuple(word.strip() for word in models.split(",") if word.strip())
    options = Options(
        strategy, task, chosen, metric, filter_name, unsafe_pickle, clip_scores, score_range, columns, scale
    )
    done = import_outcomes(format_name, sources, out, options)
    for line in done.report.summary:
        click.echo(line)
    for note in (*done.notes, *done.report.notes):
        click.echo(f"Note: {note}")
    for problem in done.report.problems:
        click.echo(f"Note: `run` cannot use it yet: {problem}")
    click.echo(f"{out} is written: recal-bench validate {out}")
