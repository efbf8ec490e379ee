"""The command group, its errors, and the options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from recal_bench import __version__
from recal_bench.defaults import DEFAULT_ALPHA
from recal_bench.errors import PluginError, RecalBenchError, SettingsError, near_miss
from recal_bench.wording import harmless

if TYPE_CHECKING:
    from recal_bench.experiments.records import Run

RUNS = Path("runs")
_SIGPIPE_EXIT = 141


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

            if isinstance(error, BrokenPipeError) and _nobody_reads():
                raise SystemExit(_SIGPIPE_EXIT) from error

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


def _nobody_reads() -> bool:
    """Whether what this program prints to is closed (`| head`): then it ends silently, as SIGPIPE would end it."""
    import os
    import select
    import sys

    closed = False
    if not hasattr(select, "poll"):
        return True
    for stream in (sys.stdout, sys.stderr):
        poll = select.poll()
        poll.register(stream.fileno(), 0)  # without a wish of ours it tells errors alone
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            closed = True
            # What is still in the buffer would be written once more when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return closed


def read_folder(folder: Path) -> list[Run]:
    """The runs of a folder; what cannot be read is named on stderr."""
    from recal_bench.experiments.records import find_runs

    found = find_runs(folder)
    for line in found.left_out:
        click.echo(f"Note: {line}", err=True)
    return found.runs


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
    try:
        cli(prog_name="recal-bench")
    except SystemExit as end:
        # What an option prints by itself (--help) does not pass through the group.
        if end.code == 1 and _nobody_reads():
            raise SystemExit(_SIGPIPE_EXIT) from None
        raise


def split_commas(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def key_of(variable: str) -> str:
    """The key that clients must send, from the environment. Raises SettingsError where it is not set."""
    import os

    key = os.environ.get(variable, "").strip()
    if not key:
        raise SettingsError(f"--key-env: the environment variable {variable} is not set: put the key into it")
    return key


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


def score_range(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[float, float]:
    try:
        low, high = (float(word) for word in value.split(","))
    except ValueError:
        raise SettingsError(
            f"--score-range {value}: give the lowest and the highest possible score, as in 1,5"
        ) from None
    return low, high


reading_options = [
    click.option(
        "--score-range",
        default="0,1",
        callback=score_range,
        metavar="LO,HI",
        show_default=True,
        help="The ends of the file's scale of scores, e.g. 1,5: they become 0 and 1.",
    ),
    click.option(
        "--zero-cost",
        type=click.Choice(["free", "unknown"]),
        help="What a cost of 0 says. By default: free for an arm that has no other costs, unknown for one that has.",
    ),
]


world_arms = click.option(
    "--world-arms",
    default="standard",
    show_default=True,
    metavar="standard|efforts",
    help="The embedded pool's arms: efforts adds two of a model that reasons with low or high effort.",
)


class DataOptions(NamedTuple):
    """What the outcomes are and how they are judged: the options that `data_options` adds, in one piece."""

    outcomes: Path | None
    world_seed: int
    worlds: int
    world_arms: str
    tasks: tuple[str, ...]
    alpha: float
    latency_price: float | None
    missing: str
    unknown_cost: str | None
    prices: Path | None
    score_range: tuple[float, float]
    zero_cost: str | None
    split_by: str | None


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
                help="An outcomes file (parquet, CSV, JSON, ...) or a folder of parquet files. Without it: the "
                "embedded, simulated pool.",
            ),
            click.option(
                "--world-seed",
                type=int,
                default=0,
                show_default=True,
                help="The embedded pool's world.",
            ),
            click.option(
                "--worlds",
                type=click.IntRange(min=1),
                default=1,
                show_default=True,
                help="How many of the embedded pool's worlds, from --world-seed on: intervals then hold their luck.",
            ),
            world_arms,
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
                "--latency-price",
                type=float,
                metavar="P",
                help="What a second of latency takes from the utility (column latency_s).  [default: nothing]",
            ),
            click.option(
                "--missing",
                type=click.Choice(["error", "zero", "restrict"]),
                default="error",
                show_default=True,
                help="Where an arm has no outcome for a query: stop, count it as score 0, or let no router choose it.",
            ),
            click.option(
                "--unknown-cost",
                type=click.Choice(["error", "drop", "estimate"]),
                help="Where some costs are unknown: stop, leave out those queries, or estimate them. By default: stop "
                "where at most 10% are unknown, else optimise the score.",
            ),
            click.option(
                "--prices",
                type=click.Path(path_type=Path),
                metavar="POOL",
                help="A pool file whose prices turn token counts into unknown costs (--unknown-cost estimate).",
            ),
            *reading_options,
            click.option(
                "--split-by",
                metavar="COLUMN",
                help="Split the file by this column of numbers or times, not by its split: the first 60% of the "
                "queries become train, the next 10% validation, the last 30% test.",
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

format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "markdown", "csv", "json"]),
    default="table",
    show_default=True,
)
