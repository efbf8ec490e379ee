"""What `run` takes of routers that are not trained here, and `robustness`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from recal_bench.cli.base import command, format_option, include_path, read_folder, runs_argument
from recal_bench.errors import SettingsError

if TYPE_CHECKING:
    from recal_bench.experiments.bench import Bench
    from recal_bench.experiments.records import Run

decisions_option = click.option(
    "--decisions",
    multiple=True,
    metavar="NAME=FILE",
    help="What a router chose elsewhere: a table with query_id and arm, or RouterArena's predictions (repeatable).",
)

_endpoint_option = click.option(
    "--endpoint",
    multiple=True,
    metavar="NAME=URL",
    help="A router behind an OpenAI-compatible API, asked which model it chooses; or NAME=POOL, a pool file with it.",
)
_max_usd_option = click.option(
    "--max-usd",
    type=click.FloatRange(min=0),
    help="What asking an --endpoint may cost, at the prices of its pool file.",
)


class ExternalOptions(NamedTuple):
    """The routers that are not trained here, as `NAME=FILE` and `NAME=URL`."""

    decisions: tuple[str, ...]
    endpoint: tuple[str, ...]
    max_usd: float | None

    def require(self, others: bool, one_bench: bool) -> None:
        """Raises UsageError where no router is named at all (`others`: some are), SettingsError on a wrong name, and
        where the decisions would have to hold for several sets of outcomes."""
        if not (others or self.decisions or self.endpoint):
            raise click.UsageError("Missing option '--router': name a router, or give --decisions NAME=FILE.")
        if self.max_usd is not None and not self.endpoint:
            raise SettingsError("--max-usd is for what --endpoint asks: leave it out")
        if not (self.decisions or self.endpoint):
            return
        from recal_bench.experiments.external import names_in, require_names

        require_names([*names_in(self.decisions, "--decisions"), *names_in(self.endpoint, "--endpoint")])
        for option, given in (("--decisions", self.decisions), ("--endpoint", self.endpoint)):
            if given and not one_bench:
                raise SettingsError(
                    f"{option} is for one set of outcomes: leave out --worlds, --train-fraction, "
                    "--labels-per-query and --hold-out-arms"
                )

    def run(self, bench: Bench, runs: Path, fresh: bool) -> list[Run]:
        """The runs of all of them, each read before any is kept. What was not used is named on stderr."""
        if not (self.decisions or self.endpoint):
            return []
        from recal_bench.experiments.external import names_in, read_external, run_external

        given = names_in(self.decisions, "--decisions")
        found = [read_external(bench, name, Path(path)) for name, path in given.items()]
        for name, where in names_in(self.endpoint, "--endpoint").items():
            from recal_bench.experiments.asked import ask_external

            found.append(ask_external(bench, name, where, runs, self.max_usd))
        for each in found:
            for note in each.notes:
                click.echo(f"Note: {each.name}: {note}", err=True)
        return [run for each in found for run in run_external(bench, each, runs, fresh)]


def external_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of `ExternalOptions`; the command takes them as one argument, `external`."""

    @wraps(function)
    def with_external(**values: Any) -> Any:
        external = ExternalOptions(**{name: values.pop(name) for name in ExternalOptions._fields})
        return function(external=external, **values)

    decorated: Callable[..., Any] = with_external
    for option in (_max_usd_option, _endpoint_option, decisions_option):
        decorated = option(decorated)
    return decorated


@command(
    "recal-bench robustness runs --paraphrases paraphrases.csv\n"
    "recal-bench robustness runs --paraphrases p.csv --decisions mine=mine-robustness.json"
)
@runs_argument
@click.option(
    "--paraphrases",
    type=click.Path(path_type=Path),
    help="Queries in other words: a table with prompt and paraphrase_of (a query_id), or RouterArena's file.",
)
@click.option(
    "--decisions",
    multiple=True,
    metavar="NAME=FILE",
    help="What a router that was not run here chose for paraphrases: a table with paraphrase_of and arm (repeatable).",
)
@format_option
@include_path
def robustness(
    runs: Path, paraphrases: Path | None, decisions: tuple[str, ...], format_: str, include_paths: tuple[Path, ...]
) -> None:
    """How often routers change their mind when a test query is asked in other words, and what utility that costs.

    The saved routers of the runs are asked again, with nothing but the text changed.
    """
    from recal_bench import routers
    from recal_bench.experiments.external import names_in
    from recal_bench.importers.decisions import read_decisions, read_paraphrases
    from recal_bench.reporting.figures.robustness import robustness as measure
    from recal_bench.reporting.text.robustness import robustness_text

    if paraphrases is None and not decisions:
        raise click.UsageError("Missing option '--paraphrases': give a file, or --decisions NAME=FILE.")
    given = names_in(decisions, "--decisions")
    decided = {name: read_decisions(Path(path), on_paraphrases=True) for name, path in given.items()}
    texts = [] if paraphrases is None else read_paraphrases(paraphrases)
    routers.discover(include_paths)
    click.echo(robustness_text(measure(read_folder(runs), texts, decided), format_))
