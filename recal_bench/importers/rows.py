"""Rows of a source to the blocks of an outcomes file: each outcome once, each query with one prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from recal_bench.errors import OutcomesError
from recal_bench.importers.values import Place
from recal_bench.outcomes.schema import NAMES
from recal_bench.wording import counted, show

BLOCK = 5_000
"""Rows that are held before they are written."""


class Row(NamedTuple):
    """One outcome, its values checked and named as in `outcomes.schema`. None is unknown.

    `strategy` is for sources that say it in each row; the fields below it are those of `FURTHER`.
    """

    where: Place
    task: str
    query_id: str
    prompt: str
    model: str
    score: float
    gold: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    latency_s: float | None = None
    response: str | None = None
    split: str | None = None
    sample: int = 0
    strategy: str | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    billed_usd: float | None = None
    propensity: float | None = None
    finish_reason: str | None = None
    served_model: str | None = None
    usage: str | None = None
    asked_at: str | None = None


FURTHER = Row._fields[Row._fields.index("strategy") + 1 :]
"""Columns that are written only of a format that may know them."""
_COLUMNS = tuple(name for name in NAMES if name in Row._fields and name not in FURTHER)


@dataclass
class RowBlocks:
    """Makes blocks of rows. `dropped` counts the rows that repeat another one word for word.

    `strategy` is that of rows that name none; `further`: whether the columns of `FURTHER` are written.
    """

    strategy: str
    further: bool = False
    dropped: int = 0
    _split: bool | None = None
    _outcomes: dict[bytes, tuple[bytes, int, int]] = field(default_factory=dict)
    _queries: dict[bytes, tuple[bytes, int, int]] = field(default_factory=dict)
    _files: dict[tuple[Path, str], int] = field(default_factory=dict)

    def blocks(self, rows: Iterable[Row]) -> Iterator[dict[str, list[Any]]]:
        """The rows as columns, `BLOCK` at a time.

        Memory holds a block, and some 300 bytes for each row that went by. Raises OutcomesError where two rows say
        different things of one outcome, or give one query two prompts.
        """
        held: list[Row] = []
        for row in rows:
            if self._new(row):
                held.append(row)
            if len(held) == BLOCK:
                yield self._block(held)
                held = []
        if held:
            yield self._block(held)

    def notes(self) -> list[str]:
        return [f"{counted(self.dropped, 'row')} dropped that repeat another one"] if self.dropped else []

    def _block(self, rows: list[Row]) -> dict[str, list[Any]]:
        names = (*_COLUMNS, *FURTHER) if self.further else _COLUMNS
        block = {name: [getattr(row, name) for row in rows] for name in names}
        return {**block, "strategy": [row.strategy or self.strategy for row in rows]}

    def _new(self, row: Row) -> bool:
        for what, name in (("model", row.model), ("strategy", row.strategy or "")):
            if "|" in name:
                raise OutcomesError(
                    f'{row.where}: the {what} {show(name)} holds "|", which separates model and strategy in the '
                    "name of an arm: rename it in the source"
                )
        if self._split is None:
            self._split = row.split is not None
        if self._split != (row.split is not None):
            has = "has no split, and others have one" if self._split else "has a split, and others have none"
            raise OutcomesError(f"{row.where} {has}: give all rows a split, or none")
        query = (row.split, row.task, row.query_id)
        named = " ".join(show(each, 40) for each in (row.task, row.query_id))
        earlier = self._seen(self._queries, query, (row.prompt,), row.where)
        if earlier:
            raise OutcomesError(
                f"{row.where}: the query {named} has another prompt than in {earlier}: import them apart, or give "
                "each prompt an id of its own"
            )
        rest = (row.score, row.gold, *row[7:12], *(getattr(row, name) for name in FURTHER))
        n_before = len(self._outcomes)
        earlier = self._seen(self._outcomes, (*query, row.model, row.strategy, row.sample), rest, row.where)
        if earlier:
            raise OutcomesError(
                f"{row.where}: the outcome {named} {show(row.model)} is given again, and differs from {earlier}: keep "
                "one of them, or give the queries ids of their own"
            )
        self.dropped += len(self._outcomes) == n_before
        return len(self._outcomes) > n_before

    def _seen(self, known: dict[bytes, tuple[bytes, int, int]], key: Any, content: Any, where: Place) -> str:
        """Remembers content and place of a key; gives the earlier place if other content came there, else nothing."""
        file = self._files.setdefault((where.path, where.unit), len(self._files))
        found = (_digest(content), file, where.number)
        before = known.setdefault(_digest(key), found)
        if before[0] == found[0]:
            return ""
        return str(Place(*list(self._files)[before[1]], before[2]))


def _digest(value: Any) -> bytes:
    return hashlib.blake2b(repr(value).encode(), digest_size=16).digest()
