"""The command group, its errors, and the options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from recal_bench import __version__
from recal_bench.defaults import DEFAULT_ALPHA
from recal_bench.errors import PluginError, RecalBenchError, near_miss
from recal_bench.wording import harmless

RUNS = Path("runs")


class _BadInput(click.ClickException):
    exit_code = 2


def _shown(error: Exception) -> str:
    """An error's lines, in which names of others are harmless."""
    return "\n".join(map(harmless, str(error).split("\n")))


class _Commands(click.Group):
    """Turns our errors into one line and exit code 2, and a mistyped command into a hint."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RecalBenchError as error:
            if isinstance(error, PluginError) and error.__cause__ is not None:
                import traceback

                click.echo("".join(traceback.format_exception(error.__cause__)), err=True, nl=False)
            raise _BadInput(_shown(error)) from error
        except OSError as error:
            from recal_bench.plugins import raised_by_plugin

            if raised_by_plugin(error):
                raise
            raise _BadInput(f"{_shown(error)}: check the path, and that it can be written") from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            hint = near_miss(args[0], self.commands)
            ctx.fail(f"no command is called {args[0]}{hint}: it is one of {', '.join(sorted(self.commands))}")
        return super().resolve_command(ctx, args)


def command(example: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command of the group, whose help ends with an example."""
    lines = "\n".join(f"  {line}" for line in example.strip().splitlines())
    return cli.command(epilog=f"\b\nExample:\n{lines}")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="recal-bench")
def cli() -> None:
    """Which LLM router should I trust, at what cost, and was its training stable?

    Start with `recal-bench run --router recal`: no key, no download and no data are needed.
    """


def main() -> None:
    """The console script."""
    cli(prog_name="recal-bench")


def split_commas(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


include_path = click.option(
    "--include-path",
    "include_paths",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A folder of Python files with routers of your own (repeatable).",
)
runs_argument = click.argument("runs", type=click.Path(path_type=Path), default=RUNS)
run_argument = click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
runs_option = click.option(
    "--runs", type=click.Path(path_type=Path), default=RUNS, show_default=True, help="Where run records are kept."
)


class DataOptions(NamedTuple):
    """What the outcomes are and how they are judged: the options that `data_options` adds, in one piece."""

    outcomes: Path | None
    world_seed: int
    tasks: tuple[str, ...]
    alpha: float
    missing: str


def data_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of `DataOptions`; the command takes them as one argument, `data`."""

    @wraps(function)
    def with_data(**values: Any) -> Any:
        data = DataOptions(**{name: values.pop(name) for name in DataOptions._fields})
        return function(data=data, **values)

    decorated: Callable[..., Any] = with_data
    for option in reversed(
        [
            click.option(
                "--outcomes",
                type=click.Path(path_type=Path),
                help="An outcomes file (parquet, CSV, JSONL). Without it: the embedded, simulated pool.",
            ),
            click.option(
                "--world-seed",
                type=int,
                default=0,
                show_default=True,
                help="The embedded pool's world.",
            ),
            click.option(
                "--tasks",
                default="",
                callback=split_commas,
                metavar="A,B",
                help="Only these tasks, in every split.",
            ),
            click.option(
                "--alpha",
                type=float,
                default=DEFAULT_ALPHA,
                show_default=True,
                help="The price of cost: utility = score - alpha * cost / mean cost of the most expensive arm.",
            ),
            click.option(
                "--missing",
                type=click.Choice(["error", "zero", "restrict"]),
                default="error",
                show_default=True,
                help="Where an arm has no outcome for a query: stop, count it as score 0, or let no router choose it.",
            ),
        ]
    ):
        decorated = option(decorated)
    return decorated


device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where policies are trained.",
)
