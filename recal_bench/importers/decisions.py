"""What routers chose elsewhere, and queries in other words: plain tables, and RouterArena's prediction files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from recal_bench.errors import OutcomesError, near_miss
from recal_bench.importers.files import SourceRow, records
from recal_bench.importers.values import Place, amount, missing, number, text

_ID, _PARAPHRASE_OF, _ARM, _PROMPT = "query_id", "paraphrase_of", "arm", "prompt"
_COSTS = ("cost", "router_cost_usd")
_COLUMNS = (_ID, _PARAPHRASE_OF, _ARM, _PROMPT, "task", "seed", *_COSTS)
_ARENA_IDS = ("global index", "global_index")


class Decided(NamedTuple):
    """What a router chose for a query. `arm` is as it is written; `cost` (USD) is the router's own, None where the file
    does not tell it."""

    where: Place
    query_id: str
    task: str | None
    arm: str
    cost: float | None
    seed: int


class Paraphrase(NamedTuple):
    """A query in other words. `query_id` is the query's own."""

    where: Place
    query_id: str
    task: str | None
    prompt: str


def read_decisions(path: Path, on_paraphrases: bool = False) -> list[Decided]:
    """The decisions of a table with the columns `query_id` and `arm`, and if it has them `task`, `cost` and `seed`; or
    of RouterArena's prediction file, where entries for optimality are no choices.

    Of a table with the column `paraphrase_of` either the rows where it is empty, or with `on_paraphrases` the others,
    by the query that it names. Raises OutcomesError on what cannot be read, and where there is no decision.
    """
    found = []
    for where, row in _rows(path, (_ARM,)):
        if _arena_id(row) is not None:
            if row.get("for_optimality") is True:
                continue
            index = text(_arena_id(row), where, "global index")
            found.append(Decided(where, index, None, text(row.get("prediction"), where, "prediction"), None, 0))
            continue
        if _PARAPHRASE_OF in row and missing(row[_PARAPHRASE_OF]) == on_paraphrases:
            continue
        query_id, task = _query(row, where)
        cost = next((amount(row[name], where, name) for name in _COSTS if name in row), None)
        found.append(Decided(where, query_id, task, text(row[_ARM], where, _ARM), cost, _seed(row, where)))
    if not found:
        what = "on a paraphrase" if on_paraphrases else "on a query in its own words"
        raise OutcomesError(f"{path} holds no decision {what}: see docs/external.md for the forms that are read")
    return found


def read_paraphrases(path: Path) -> list[Paraphrase]:
    """The prompts of a table with the columns `prompt` and `paraphrase_of` (or `query_id`), and perhaps `task`; or of
    RouterArena's `*-robustness.json`. Raises OutcomesError on what cannot be read, and where there is no paraphrase.
    """
    found = []
    for where, row in _rows(path, (_PROMPT,)):
        if _arena_id(row) is not None:
            prompt = row.get(_PROMPT) or row.get("prompt_formatted")
            query_id, task = text(_arena_id(row), where, "global index"), None
        elif _PARAPHRASE_OF in row and missing(row[_PARAPHRASE_OF]):
            continue
        else:
            prompt = row[_PROMPT]
            query_id, task = _query(row, where)
        found.append(Paraphrase(where, query_id, task, text(prompt, where, _PROMPT)))
    if not found:
        raise OutcomesError(f"{path} holds no paraphrase: fill in {_PARAPHRASE_OF} where a prompt is one")
    return found


def _rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[Place, SourceRow]]:
    """The rows with their places. Raises OutcomesError on the first that lacks a needed column, or names no query."""
    if not path.is_file():
        raise OutcomesError(
            f"{path} {'is a folder: name a file' if path.is_dir() else 'does not exist: check the path'}"
        )
    for where, row in records(path):
        if _arena_id(row) is None:
            absent = [name for name in needed if name not in row]
            absent += [_ID] if _ID not in row and _PARAPHRASE_OF not in row else []
            for name in absent:
                close = near_miss(name, [each for each in row if each not in _COLUMNS])
                raise OutcomesError(f"{where} has no {name}{close}: it has {', '.join(row) or 'no column'}")
        yield where, row


def _arena_id(row: SourceRow) -> object:
    return next((row[name] for name in _ARENA_IDS if name in row), None)


def _query(row: SourceRow, where: Place) -> tuple[str, str | None]:
    """The query that a row is about, and its task where the row names it."""
    name = _PARAPHRASE_OF if not missing(row.get(_PARAPHRASE_OF)) else _ID
    task = row.get("task")
    return text(row.get(name), where, name), None if missing(task) else text(task, where, "task")


def _seed(row: SourceRow, where: Place) -> int:
    found = number(row.get("seed", 0), where, "seed")
    if found is None or found < 0 or found != int(found):
        raise OutcomesError(f"{where}: seed is {row['seed']!r}, which is no training seed: give 0, 1, 2, ...")
    return int(found)
