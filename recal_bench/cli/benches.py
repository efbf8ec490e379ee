"""What `run` and `tune` share: which routers, and the outcomes that these need."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from recal_bench.cli.base import DataOptions
from recal_bench.errors import RecalBenchError

if TYPE_CHECKING:
    from collections.abc import Collection

    from rich.progress import Progress

    from recal_bench.experiments.bench import Bench


def load_benches(
    progress: Progress, data: DataOptions, settings: dict[str, dict[str, str]], by_all: Collection[str]
) -> list[Bench]:
    """The outcomes, with what the routers read of them; a router that nobody named cannot ask for columns."""
    from recal_bench import routers
    from recal_bench.experiments.bench import load_worlds
    from recal_bench.experiments.variants import with_latency_price

    what = "building the embedded pool" if data.outcomes is None else f"reading {data.outcomes.name}"
    bar = progress.add_task(what, total=1.0, detail="")
    flags = {name: routers.flags_of(routers.create(name, chosen)) for name, chosen in settings.items()}
    benches = load_worlds(
        data.worlds,
        world_seed=data.world_seed,
        world_arms=data.world_arms,
        path=data.outcomes,
        tasks=data.tasks,
        alpha=data.alpha,
        missing=data.missing,
        unknown_cost=data.unknown_cost,
        prices=data.prices,
        score_range=data.score_range,
        zero_cost=data.zero_cost,
        split_by=data.split_by,
        responses=any(each.reads_responses for each in flags.values()),
        columns=sorted({column for name in flags.keys() - by_all for column in flags[name].reads_columns}),
        features=any(flags[name].reads_features for name in flags.keys() - by_all),
        progress=lambda share: progress.update(bar, completed=share),
    )
    progress.remove_task(bar)
    if data.latency_price is None:
        return benches
    return [with_latency_price(bench, data.latency_price) for bench in benches]


def router_option(required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "--router",
        "words",
        multiple=True,
        required=required,
        metavar="NAME",
        help="A router's name, several as in a,b, guarded-NAME, 'arm:model|strategy' for one arm, or all (repeatable).",
    )


def refused(name: str, error: RecalBenchError) -> None:
    click.echo(f"Note: {name} is left out: {error}", err=True)
