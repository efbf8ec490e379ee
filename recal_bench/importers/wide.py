"""A plain wide table: a row for each query, a column of scores for each model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from recal_bench.errors import OutcomesError, near_miss
from recal_bench.importers.files import SourceRow, find_files, records
from recal_bench.importers.options import Format, Options
from recal_bench.importers.rows import Row
from recal_bench.importers.tables import (
    MODEL_COLUMNS,
    SourceTable,
    in_order,
    is_number,
    names_of,
    note_unused,
    require,
    rows_of,
)
from recal_bench.importers.values import Place, gold, identity, missing, text
from recal_bench.table_files import EXTENSIONS, stem
from recal_bench.wording import show

_QUERY = ("prompt", "task", "query_id", "split", "gold")
PREFIXES = dict(zip(("cost:", "prompt_tokens:", "completion_tokens:", "response:"), MODEL_COLUMNS, strict=True))
"""How a model's further columns are named: `cost:MODEL` holds USD."""


def find(sources: Sequence[Path], notes: list[str]) -> list[Path]:
    return find_files(sources, EXTENSIONS)


def read(paths: Sequence[Path], options: Options, notes: list[str]) -> Iterator[Row]:
    rows: list[Row] = []
    for path in paths:
        table = list(records(path, options.unsafe_pickle))
        names = names_of(table)
        require(path, names, ["prompt"], "each row is one query and needs its text")
        if options.task is not None and "task" in names:
            raise OutcomesError(f"{path} has a column task: leave --task out")
        if options.task is None and "task" not in names:
            notes.append(f"{path.name} names no task: it is called {stem(path)}; --task gives it another name")
        models = _models(path, table, names, options.models)
        given = {name for name in _QUERY if any(not missing(record.get(name)) for _, record in table)}
        query = partial(_query, given=given, task=options.task or stem(path))
        if options.models:
            rows += rows_of(table, models, query, notes)
        else:
            notes.append(f"{path.name}: models, every column with a number: {', '.join(map(show, models))}")
            rows += rows_of(table, models, query, notes, hint="; or name the models' columns with --models")
        used = {*_QUERY, *models, *(name for columns in models.values() for name in columns.values())}
        note_unused(path, [name for name in names if name not in used], notes)
    yield from in_order(rows)


def _models(path: Path, table: SourceTable, names: Sequence[str], wanted: Sequence[str]) -> dict[str, dict[str, str]]:
    """The models, those that are wanted or every column with a number in it, with their further columns."""
    beside = {name: name.partition(":") for name in names if name.startswith(tuple(PREFIXES))}
    free = [name for name in names if name.strip() and name not in _QUERY and name not in beside]
    for name in wanted:
        if name not in free:
            raise OutcomesError(f"{path} has no column {show(name)}{near_miss(name, free)}: it has {', '.join(free)}")
    chosen = wanted or [name for name in free if any(is_number(record.get(name)) for _, record in table)]
    if not chosen:
        raise OutcomesError(
            f"{path} has no column of scores: beside prompt and {', '.join(_QUERY[1:])} it needs one for each model, "
            "named after it"
        )
    for name, (_, _, model) in beside.items():
        if model not in free:
            hint = near_miss(model, free)
            raise OutcomesError(
                f"{path} has a column {show(name)}, but none {show(model)} with the scores{hint}: name both after the "
                "same model"
            )
    return {
        model: {what: prefix + model for prefix, what in PREFIXES.items() if prefix + model in beside}
        for model in chosen
    }


def _query(where: Place, record: SourceRow, given: set[str], task: str) -> Row:
    prompt = text(record.get("prompt"), where, "prompt")
    return Row(
        where=where,
        task=text(record.get("task"), where, "task") if "task" in given else task,
        query_id=text(record.get("query_id"), where, "query_id") if "query_id" in given else identity(prompt),
        prompt=prompt,
        model="",
        score=0.0,
        gold=gold(record.get("gold")),
        split=text(record.get("split"), where, "split") if "split" in given else None,
    )


WIDE = Format(
    "a plain table: a row for each query, a column of scores for each model",
    ("task", "models", "unsafe_pickle"),
    find,
    read,
)
