"""RouterBench (arXiv 2403.12031): its wide table, and the long one that it also publishes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from recal_bench.errors import OutcomesError, near_miss
from recal_bench.importers.files import SourceRow, find_files, records
from recal_bench.importers.options import Format, Options
from recal_bench.importers.rows import Row
from recal_bench.importers.tables import in_order, names_of, note_unscored, note_unused, require, rows_of
from recal_bench.importers.values import SCALE_HINT, Place, Scale, amount, identity, prose, score, text, texts
from recal_bench.table_files import IN_FOLDERS
from recal_bench.wording import counted, show, some_of

_QUERY = ("sample_id", "prompt", "eval_name")
_ORACLE = "oracle_model_to_route_to"
_COST, _RESPONSE = "|total_cost", "|model_response"
_LONG = ("model_name", "performance")


def find(sources: Sequence[Path], notes: list[str]) -> list[Path]:
    return find_files(sources, IN_FOLDERS)


def read(paths: Sequence[Path], options: Options, notes: list[str]) -> Iterator[Row]:
    rows: list[Row] = []
    for path in paths:
        table = records(path, options.unsafe_pickle)
        first = next(table)
        read_one = _long if all(name in first[1] for name in _LONG) else _wide
        rows += read_one(path, chain([first], table), options.score_range, notes)
    yield from _drawn(in_order(rows), notes)


def _drawn(rows: Iterable[Row], notes: list[str]) -> Iterator[Row]:
    """The rows with numbers for the draws of one outcome: of an id that is there twice, with the same prompt."""
    draws: defaultdict[tuple[str, str, str, str], dict[str, int]] = defaultdict(dict)
    for row in rows:
        known = draws[row.task, row.query_id, row.model, row.prompt]
        content = identity(row.score, row.cost_usd, row.response)
        yield row._replace(sample=known.setdefault(content, len(known)))
    again = {key[:2] for key, known in draws.items() if len(known) > 1}
    if again:
        names = some_of([query_id for _, query_id in sorted(again)], 5)
        notes.append(
            f"{counted(len(again), 'query')} stand several times with the same prompt and other outcomes: kept as "
            f"repeated draws, which are averaged: {names}"
        )


def _wide(path: Path, records_: Iterable[tuple[Place, SourceRow]], scale: Scale, notes: list[str]) -> Iterator[Row]:
    table = list(records_)
    names = names_of(table)
    require(path, names, _QUERY, "is it RouterBench's table?")
    models = _models(path, names)
    unscored: list[int] = []
    yield from rows_of(table, models, _query, unscored, _response, scale=scale)
    note_unscored(unscored, notes)
    used = {*_QUERY, _ORACLE, *models, *(name for columns in models.values() for name in columns.values())}
    note_unused(path, [name for name in names if name not in used], notes)


def _long(path: Path, table: Iterable[tuple[Place, SourceRow]], scale: Scale, notes: list[str]) -> Iterator[Row]:
    n_missing = 0
    for where, record in table:
        require(path, list(record), _QUERY, "is it RouterBench's table?")
        found = score(record.get("performance"), where, "performance", SCALE_HINT, scale)
        if found is None:
            n_missing += 1
            continue
        yield _query(where, record)._replace(
            model=text(record.get("model_name"), where, "model_name"),
            score=found,
            cost_usd=amount(record.get("cost"), where, "cost"),
            response=_response(record.get("model_response")),
        )
    if n_missing:
        notes.append(f"{counted(n_missing, 'row')} without performance: taken as missing outcomes")


def _models(path: Path, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Each model's cost and response columns. A column is a model's score where it has one of these."""
    models: dict[str, dict[str, str]] = {}
    for name in names:
        for ending, what in ((_COST, "cost_usd"), (_RESPONSE, "response")):
            if name.endswith(ending):
                model = name[: -len(ending)]
                if model not in names:
                    hint = near_miss(model, [each for each in names if "|" not in each])
                    raise OutcomesError(
                        f"{path} has a column {show(name)}, but none {show(model)} with the scores{hint}: the columns "
                        "of a model go together"
                    )
                models.setdefault(model, {})[what] = name
    if not models:
        raise OutcomesError(
            f"{path} shows no model: each has a column of scores and beside it MODEL{_COST} or MODEL{_RESPONSE}; "
            "a table without these is of the format `wide`"
        )
    return models


def _query(where: Place, record: SourceRow) -> Row:
    return Row(
        where=where,
        task=text(record.get("eval_name"), where, "eval_name"),
        query_id=text(record.get("sample_id"), where, "sample_id"),
        prompt=text(_joined(record.get("prompt")), where, "prompt"),
        model="",
        score=0.0,
    )


def _joined(value: object) -> object:
    """A prompt or a response: the turns of a list, itself or written as text, one after the other.

    A turn that repeats the one before is dropped: some prompts are there both as one turn and as two equal ones.
    """
    turns = texts(value)
    if turns is None:
        return value
    return "\n\n".join(turn for number, turn in enumerate(turns) if not number or turn != turns[number - 1])


def _response(value: object) -> str | None:
    return prose(_joined(value))


ROUTERBENCH = Format("RouterBench's table: parquet, CSV or pickle", ("unsafe_pickle", "score_range"), find, read)
