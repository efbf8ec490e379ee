"""A table in a file, or in a folder of parquet files, to columns, before anything in them is checked. N rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recal_bench.arrays import IntQ
from recal_bench.outcomes.coding import ArrowCoder, Coded, Column, Joiner, Numbers, PythonCoder
from recal_bench.outcomes.schema import FEATURE_PREFIX, TYPES
from recal_bench.table_files import (
    READ,
    csv_rows,
    json_objects,
    kind_of,
    misnamed,
    parquet_batches,
    parquet_schema,
    repeated,
    unreadable,
)
from recal_bench.wording import counted

_BLOCK = 20_000


@dataclass(frozen=True)
class Columns:
    """The wanted columns of a file and the names of all it has.

    `number_N` are the numbers of the rows (lines in JSONL); None where they count from 1.
    """

    columns: dict[str, Column]
    names: tuple[str, ...]
    n_rows: int
    number_N: IntQ | None = None

    def place(self, row: int) -> str:
        """Where a row stands, as what follows "row " in a message."""
        return f"{row + 1 if self.number_N is None else self.number_N[row]:,}"


def read_columns(path: Path, wanted: Sequence[str], numbers: Collection[str]) -> tuple[Columns | None, list[str]]:
    """The wanted columns that the file has, and what is wrong with it as a file. Raises nothing.

    `numbers` are the columns whose text is taken for numbers in CSV, which has no types.
    """
    problems: list[str] = []
    try:
        kind = _checked_kind(path)
        if kind == "parquet":
            found = _read_parquet(path, wanted, problems)
        elif kind == "csv":
            found = _read_csv(path, wanted, numbers, problems)
        else:
            found = _read_json(path, wanted, problems, "entry" if kind == "json" else "line")
    except _UnusableError as error:
        return None, [*problems, str(error)]
    except Exception as error:  # Arbitrary bytes make the parsers raise almost anything.
        return None, [*problems, f"the file {unreadable(error)}"]
    return found, problems


class _UnusableError(Exception):
    """What is wrong with a file as a whole, in plain words."""


def _checked_kind(path: Path) -> str:
    if path.is_dir():
        raise _UnusableError("the file is a folder: give one outcomes file")
    if not path.exists():
        raise _UnusableError("the file does not exist: check the path")
    if not path.is_file():
        raise _UnusableError("the file is not a regular file: save it as one first")
    kind = kind_of(path)
    if kind is None:
        raise _UnusableError(f"the file has none of the extensions that are read: {READ}")
    if path.stat().st_size == 0:
        raise _UnusableError("the file is empty (0 bytes)")
    contradiction = misnamed(path)
    if contradiction:
        raise _UnusableError(f"the file {contradiction}")
    return kind


def _unrepeated(wanted: Sequence[str], problems: list[str], names: Sequence[str]) -> list[str]:
    """The wanted names that only one column has; a problem for each that several have."""
    problems += repeated([name for name in names if name in wanted])
    return [name for name in wanted if names.count(name) == 1]


def _is_text(name: str) -> bool:
    return TYPES.get(name) == "string" or name.startswith(FEATURE_PREFIX)


def _read_parquet(path: Path, wanted: Sequence[str], problems: list[str]) -> Columns:
    schema, chosen, n_rows = parquet_schema(path, partial(_unrepeated, wanted, problems))
    joiners = {name: Joiner(schema.field(name).type, _is_text(name), n_rows) for name in chosen}
    for batch in parquet_batches(path, schema, chosen) if chosen else ():
        for name, joiner in joiners.items():
            joiner.add(batch.column(name))
    pa.default_memory_pool().release_unused()  # arrow keeps what the batches took, some 100 MB
    return Columns({name: joiner.column() for name, joiner in joiners.items()}, tuple(schema.names), n_rows)


def _read_csv(path: Path, wanted: Sequence[str], numbers: Collection[str], problems: list[str]) -> Columns:
    ragged: list[tuple[int, int]] = []
    number_chunks: list[list[int]] = [[]]
    rows = csv_rows(path)
    _, names = next(rows)
    position = {name: names.index(name) for name in _unrepeated(wanted, problems, names)}
    coders = {name: ArrowCoder() for name in position}
    while block := list(islice(rows, _BLOCK)):
        ragged += [(number, len(fields)) for number, fields in block if len(fields) != len(names)]
        block = [each for each in block if len(each[1]) == len(names)]
        number_chunks.append([number for number, _ in block])
        by_column = list(zip(*(fields for _, fields in block), strict=True))
        for name, at in position.items() if block else ():
            coders[name].add(pa.array(by_column[at], pa.large_string()))
    if ragged:
        problems.append(
            f"more or fewer fields than the header in {counted(len(ragged), 'row')} (first: row {ragged[0][0]:,} with "
            f"{ragged[0][1]} of {len(names)}): put fields that hold commas or line breaks in quotes"
        )
    columns = {name: _typed(coder.column(), name in numbers) for name, coder in coders.items()}
    number_N = np.concatenate([np.array(chunk, dtype=np.int64) for chunk in number_chunks])
    return Columns(columns, tuple(names), len(number_N), number_N)


def _typed(column: Coded, number: bool) -> Column:
    """A column of CSV fields with the values that they stand for."""
    values = [_csv_value(text, number) for text in column.values]
    if not number or not all(value is None or type(value) is float for value in values):
        return Coded(column.code_N, values)
    value_V = np.array(values, dtype=np.float64)
    null_V = np.array([value is None for value in values], dtype=bool)
    return Numbers(value_V[column.code_N], null_V[column.code_N])


def _csv_value(text: str, number: bool) -> Any:
    """A CSV field as a value: an empty one is null; in a column of numbers, what reads as one is one.

    So are true and false there.
    """
    if not text.strip():
        return None
    if number and "_" not in text:
        if text.strip().lower() in ("true", "false"):
            return text.strip().lower() == "true"
        try:
            return float(text)
        except ValueError:
            return text
    return text


def _read_json(path: Path, wanted: Sequence[str], problems: list[str], unit: str) -> Columns:
    shapes: dict[tuple[str, ...], None] = {}
    bad: list[int] = []
    numbers: list[int] = []
    coders = {name: PythonCoder() for name in wanted}
    rows = json_objects(path)
    while block := list(islice(rows, _BLOCK)):
        bad += [number for number, row in block if row is None]
        found = [row for _, row in block if row is not None]
        numbers += [number for number, row in block if row is not None]
        shapes |= dict.fromkeys(map(tuple, found))
        for name, coder in coders.items():
            coder.add([row.get(name) for row in found])
    if bad:
        a_unit = "an entry" if unit == "entry" else f"a {unit}"
        problems.append(f"not one JSON object {a_unit}: {counted(len(bad), unit)} (first: {unit} {bad[0]:,})")
    names = dict.fromkeys(name for shape in shapes for name in shape)
    columns = {name: coder.column() for name, coder in coders.items() if name in names}
    return Columns(columns, tuple(names), len(numbers), np.array(numbers, dtype=np.int64))
