"""`routers`, `tasks`, `strategies` and `validate`."""

from __future__ import annotations

from pathlib import Path

import click

from recal_bench.cli.base import command, include_path, reading_options
from recal_bench.errors import SettingsError


@command("recal-bench routers --include-path my_routers")
@include_path
def routers(include_paths: tuple[Path, ...]) -> None:
    """List the routers, with their settings."""
    from recal_bench import routers as registry
    from recal_bench.reporting.text.layout import filled

    for name, spec in registry.discover(include_paths).items():
        click.echo(filled(f"{name:20} {spec.summary}", others=" " * 21))
        values = registry.settings_of(registry.create(name))
        if values:
            shown = ", ".join(f"{key}={value}" for key, value in values.items())
            click.echo(filled(shown, " " * 21, " " * 21))


@command("recal-bench tasks")
def tasks() -> None:
    """List the tasks."""
    from recal_bench.tasks import load_tasks

    for name, task in load_tasks().items():
        click.echo(f"{name:12} {task.description}")


@command("recal-bench strategies")
def strategies() -> None:
    """List the reasoning strategies."""
    from recal_bench.pools.strategies import STRATEGIES

    for name, strategy in STRATEGIES.items():
        click.echo(f"{name:12} {strategy.description}")


@command("recal-bench validate my_log.parquet --signal")
@click.argument("file", type=click.Path(path_type=Path))
@reading_options[0]
@reading_options[1]
@click.option(
    "--signal",
    "with_signal",
    is_flag=True,
    help="Can routing pay here? How far task and text tell the arms apart, and what the best router could gain.",
)
def validate(file: Path, score_range: tuple[float, float], zero_cost: str | None, with_signal: bool) -> None:
    """Is this a usable outcomes file (or folder of parquet files), and what is wrong with it? All problems at once."""
    from recal_bench.outcomes.reading import WHOLE_RANGE
    from recal_bench.outcomes.validation import validate as validated
    from recal_bench.provenance import command_line
    from recal_bench.reporting.text.layout import line
    from recal_bench.wording import counted

    report = validated(file, score_range=score_range, zero_cost=zero_cost)
    for fact in report.summary:
        click.echo(line(fact, others="  "))
    for note in report.notes:
        click.echo(line(f"Note: {note}", others="  "))
    for problem in report.problems:
        click.echo(line(f"Problem: {problem}", others="  "))
    if report.problems:
        raise SettingsError(f"{file} is not usable: {counted(len(report.problems), 'problem')}, see above")
    assert report.outcomes is not None
    if with_signal:
        from recal_bench import api
        from recal_bench.reporting.text.signal import as_text

        rules = dict(zip(report.options[::2], report.options[1::2], strict=True))
        bench = api.load_bench(
            file,
            missing=rules.get("--missing", "error"),
            unknown_cost=rules.get("--unknown-cost"),
            score_range=score_range,
            zero_cost=zero_cost,
        )
        click.echo(f"\n{as_text(api.find_signal(bench))}\n")
    words = ["--score-range", f"{score_range[0]:g},{score_range[1]:g}"] if score_range != WHOLE_RANGE else []
    words += ["--zero-cost", zero_cost] if zero_cost else []
    words += report.options
    router = "ridge" if report.outcomes.logged else "recal"
    next_command = command_line("recal-bench", "run", "--router", router, "--outcomes", file, *words)
    click.echo(f"{file} is usable: {next_command}")
