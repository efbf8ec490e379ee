"""What `run` takes of sparse labels: of how many arms a train query shows the outcome."""

from __future__ import annotations

import click

from recal_bench.errors import SettingsError


def _labels(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[int | None, ...]:
    """The numbers in ascending order; None is all, and comes last."""
    words = {word.strip() for word in value.split(",")}
    numbers = [int(word) for word in words - {"all"} if word.isascii() and word.isdigit()]
    if len(numbers) < len(words - {"all"}) or 0 in numbers:
        raise SettingsError(f"--labels-per-query {value}: give numbers of arms, or all, as in 1,2,4,all")
    return (*sorted(numbers), *([None] if "all" in words else []))


labels_option = click.option(
    "--labels-per-query",
    "labels",
    default="all",
    callback=_labels,
    metavar="K,L",
    show_default=True,
    help="Arms of each train query whose outcome routers see; several give a curve: 1,2,4,all.",
)
