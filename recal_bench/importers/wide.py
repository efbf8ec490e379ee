"""A plain wide table: a row for each query, a column of scores for each model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
    note_unscored,
    require,
    rows_of,
)
from recal_bench.importers.values import Place, gold, identity, missing, text
from recal_bench.table_files import IN_FOLDERS, stem
from recal_bench.wording import counted, show, some_of

_QUERY = ("prompt", "task", "query_id", "split", "gold")
PREFIXES = dict(zip(("cost:", "prompt_tokens:", "completion_tokens:", "response:"), MODEL_COLUMNS, strict=True))
"""How a model's further columns are named: `cost:MODEL` holds USD."""


def find(sources: Sequence[Path], notes: list[str]) -> list[Path]:
    return find_files(sources, IN_FOLDERS)


def read(paths: Sequence[Path], options: Options, notes: list[str]) -> Iterator[Row]:
    rows: list[Row] = []
    told = _Told()
    for path in paths:
        table = list(records(path, options.unsafe_pickle))
        names = names_of(table)
        require(path, names, ["prompt"], "each row is one query and needs its text")
        if options.task is not None and "task" in names:
            raise OutcomesError(f"{path} has a column task: leave --task out")
        if options.task is None and "task" not in names:
            told.without_task.append(path)
        models = _models(path, table, names, options.models)
        given = {name for name in _QUERY if any(not missing(record.get(name)) for _, record in table)}
        query = partial(_query, given=given, task=options.task or stem(path))
        if options.models:
            rows += rows_of(table, models, query, told.unscored, scale=options.score_range)
        else:
            told.models[path] = tuple(models)
            hint = "; or name the models' columns with --models"
            rows += rows_of(table, models, query, told.unscored, hint=hint, scale=options.score_range)
        used = {*_QUERY, *models, *(name for columns in models.values() for name in columns.values())}
        told.unused[path] = tuple(show(name, 30) for name in names if name not in used and name.strip())
    notes += told.notes()
    yield from in_order(rows)


@dataclass
class _Told:
    """What is worth saying of each file, so that it is said once of all: a folder may hold many."""

    without_task: list[Path] = field(default_factory=list)
    models: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    unused: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    unscored: list[int] = field(default_factory=list)

    def notes(self) -> list[str]:
        unscored = list[str]()
        note_unscored(self.unscored, unscored)
        if len(self.unused) == 1:
            return [*self._of_one(*self.unused), *unscored]
        parts = []
        if self.without_task:
            parts.append(f"{_files(self.without_task)} name no task: each is one, called like its file (--task NAME)")
        if self.models:
            parts.append(f"models are every column with a number: {_all_of(self.models)}")
        if any(self.unused.values()):
            parts.append(f"columns not used: {_all_of(self.unused)}")
        parts += unscored
        return [f"{counted(len(self.unused), 'file')}: {'; '.join(parts)}"] if parts else []

    def _of_one(self, path: Path) -> list[str]:
        notes = []
        if self.without_task:
            notes.append(f"{path.name} names no task: it is called {stem(path)}; --task gives it another name")
        if self.models:
            notes.append(f"{path.name}: models, every column with a number: {', '.join(map(show, self.models[path]))}")
        if self.unused[path]:
            notes.append(f"{path.name}: columns not used: {some_of(self.unused[path], 8)}")
        return notes


def _files(paths: Sequence[Path]) -> str:
    return some_of([path.name for path in paths], 3)


def _all_of(names_of_file: Mapping[Path, Sequence[str]]) -> str:
    """The names of all files together, and that they differ where they do."""
    together = [show(name) for name in dict.fromkeys(name for names in names_of_file.values() for name in names)]
    differ = (
        " (they differ between the files)" if len({frozenset(names) for names in names_of_file.values()}) > 1 else ""
    )
    return f"{some_of(together, 12)}{differ}"


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
    ("task", "models", "unsafe_pickle", "score_range"),
    find,
    read,
)
