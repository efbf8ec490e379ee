"""What an import is told, and what a format is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recal_bench.importers.rows import Row


@dataclass(frozen=True)
class Options:
    """What the user says of a source. A format takes `strategy` and those that its `Format.options` names.

    Without `score_range` scores go from 0 to 1. `map` holds pairs of names, one of them a column of an outcomes file
    and the other one of the source; `scale` the number that the values of a column are multiplied by.
    """

    strategy: str = "direct"
    task: str | None = None
    models: tuple[str, ...] = ()
    metric: str | None = None
    filter: str | None = None
    unsafe_pickle: bool = False
    clip_scores: bool = False
    score_range: tuple[float, float] | None = None
    map: tuple[tuple[str, str], ...] = ()
    scale: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Format:
    """One form in which other projects keep outcomes.

    `find` gives the files to read, of the sources that the user names; `read` their rows. Both may add notes.
    `further`: its rows may fill the columns of `rows.FURTHER`.
    """

    summary: str
    options: tuple[str, ...]
    find: Callable[[Sequence[Path], list[str]], list[Path]]
    read: Callable[[Sequence[Path], Options, list[str]], Iterable[Row]]
    further: bool = False
