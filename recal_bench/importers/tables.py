"""Wide tables, a row for each query and columns for each model, to rows: what `routerbench` and `wide` share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from recal_bench.errors import OutcomesError
from recal_bench.importers.files import SourceRow
from recal_bench.importers.rows import Row
from recal_bench.importers.values import SCALE_HINT, Place, Scale, amount, count, missing, prose, score
from recal_bench.wording import counted, show, some_of

SourceTable = list[tuple[Place, SourceRow]]
MODEL_COLUMNS = ("cost_usd", "prompt_tokens", "completion_tokens", "response")
"""What a model's columns beside its score may hold."""


def names_of(table: SourceTable) -> list[str]:
    """The names of a table's columns, in the order in which they first appear."""
    shapes = dict.fromkeys(tuple(record) for _, record in table)
    return list(dict.fromkeys(name for shape in shapes for name in shape))


def require(path: Path, names: Sequence[str], needed: Iterable[str], hint: str) -> None:
    """Raises OutcomesError where a needed column is not there."""
    absent = [name for name in needed if name not in names]
    if absent:
        has = some_of([*map(show, names)], 12)
        raise OutcomesError(f"{path} has no column {' and no '.join(absent)} (it has {has}): {hint}")


def rows_of(
    table: SourceTable,
    models: Mapping[str, Mapping[str, str]],
    query: Callable[[Place, SourceRow], Row],
    unscored: list[int],
    response: Callable[[object], str | None] = prose,
    hint: str = "",
    scale: Scale = None,
) -> Iterator[Row]:
    """The rows of a table: `query` makes one that lacks model and score, `models` names each model's other columns.

    An empty score is a missing outcome: no row. Their number is added to `unscored` (see `note_unscored`).
    """
    n_missing = 0
    for where, record in table:
        asked: Row | None = None
        for model, columns in models.items():
            found = score(record.get(model), where, f"column {show(model)}", SCALE_HINT + hint, scale)
            if found is None:
                n_missing += 1
                continue
            asked = asked or query(where, record)

            def cell(what: str, record: SourceRow = record, columns: Mapping[str, str] = columns) -> object:
                return record.get(columns[what]) if what in columns else None

            yield asked._replace(
                model=model,
                score=found,
                cost_usd=amount(cell("cost_usd"), where, show(columns.get("cost_usd", ""))),
                prompt_tokens=count(cell("prompt_tokens"), where, show(columns.get("prompt_tokens", ""))),
                completion_tokens=count(cell("completion_tokens"), where, show(columns.get("completion_tokens", ""))),
                response=response(cell("response")),
            )
    unscored.append(n_missing)


def note_unscored(unscored: Iterable[int], notes: list[str]) -> None:
    n_missing = sum(unscored)
    if n_missing:
        notes.append(f"{counted(n_missing, 'cell')} without a score: taken as missing outcomes")


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows by split, task, query and model, so that the order of a table's rows and columns does not show."""
    return sorted(rows, key=lambda row: (row.split or "", row.task, row.query_id, row.model))


def note_unused(path: Path, names: Iterable[str], notes: list[str]) -> None:
    unused = [show(name, 30) for name in names if name.strip()]
    if unused:
        notes.append(f"{path.name}: columns not used: {some_of(unused, 8)}")


def is_number(value: object) -> bool:
    """Does a cell hold a number, also one written as text?"""
    if missing(value) or isinstance(value, (bytes, list, dict, tuple)):
        return False
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return True
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False
    return not (isinstance(value, str) and "_" in value)
