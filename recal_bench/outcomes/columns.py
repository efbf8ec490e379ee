"""A table in a file to columns of distinct values, before anything in them is checked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recal_bench.arrays import IntQ
from recal_bench.table_files import (
    READ,
    csv_rows,
    json_objects,
    kind_of,
    misnamed,
    parquet_columns,
    repeated,
    unreadable,
)
from recal_bench.wording import counted


@dataclass(frozen=True)
class Column:
    """One column: `values[code_N[row]]`, N rows. Values are distinct and as the file types them; None is null."""

    code_N: IntQ
    values: list[Any]


@dataclass(frozen=True)
class Columns:
    """The wanted columns of a file, the names of all it has, and each row's number (its line in JSONL)."""

    columns: dict[str, Column]
    names: tuple[str, ...]
    number_N: IntQ


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


class _Encoder:
    """Builds a column. Types are kept apart: True, 1 and 1.0 are equal keys of a dict, but not the same value."""

    def __init__(self) -> None:
        self.codes: dict[Any, int] = {}
        self.values: list[Any] = []

    def code(self, value: Any) -> int:
        key = value if type(value) is str else (type(value), value if value.__hash__ is not None else repr(value))
        code = self.codes.setdefault(key, len(self.values))
        if code == len(self.values):
            self.values.append(value)
        return code


class _Builder:
    """Builds all columns, row by row."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.codes: defaultdict[str, list[int]] = defaultdict(list)
        self.encoders: defaultdict[str, _Encoder] = defaultdict(_Encoder)

    def add(self, number: int, row: dict[str, Any]) -> None:
        self.numbers.append(number)
        for name, value in row.items():
            self.codes[name].append(self.encoders[name].code(value))

    def columns(self, names: Iterable[str]) -> dict[str, Column]:
        return {name: Column(np.array(self.codes[name], dtype=np.int64), self.encoders[name].values) for name in names}

    @property
    def number_N(self) -> IntQ:
        return np.array(self.numbers, dtype=np.int64)


def _unrepeated(wanted: Sequence[str], problems: list[str], names: Sequence[str]) -> list[str]:
    """The wanted names that only one column has; a problem for each that several have."""
    problems += repeated([name for name in names if name in wanted])
    return [name for name in wanted if names.count(name) == 1]


def _read_parquet(path: Path, wanted: Sequence[str], problems: list[str]) -> Columns:
    names, table, n_rows = parquet_columns(path, partial(_unrepeated, wanted, problems))
    columns = {name: _column(table.column(name)) for name in table.column_names}
    return Columns(columns, tuple(names), np.arange(1, n_rows + 1))


def _column(chunks: Any) -> Column:
    """An arrow column, chunk by chunk, so that no column is too long for one array of strings."""
    import pyarrow as pa

    encoder = _Encoder()
    code_chunks = [np.zeros(0, dtype=np.int64)]
    for chunk in chunks.chunks:
        try:
            encoded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        except pa.ArrowNotImplementedError:  # Lists, structs and other types without a hash.
            code_chunks.append(np.array([encoder.code(value) for value in chunk.to_pylist()], dtype=np.int64))
            continue
        code_V = np.array([*map(encoder.code, encoded.dictionary.to_pylist()), -1], dtype=np.int64)
        local_N = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
        if (local_N < 0).any():
            code_V[-1] = encoder.code(None)
        code_chunks.append(code_V[local_N])
    return Column(np.concatenate(code_chunks), encoder.values)


def _read_csv(path: Path, wanted: Sequence[str], numbers: Collection[str], problems: list[str]) -> Columns:
    builder = _Builder()
    ragged: list[tuple[int, int]] = []
    rows = csv_rows(path)
    _, names = next(rows)
    position = {name: names.index(name) for name in _unrepeated(wanted, problems, names)}
    for number, fields in rows:
        if len(fields) == len(names):
            builder.add(number, {name: fields[at] for name, at in position.items()})
        else:
            ragged.append((number, len(fields)))
    if ragged:
        problems.append(
            f"more or fewer fields than the header in {counted(len(ragged), 'row')} (first: row {ragged[0][0]:,} with "
            f"{ragged[0][1]} of {len(names)}): put fields that hold commas or line breaks in quotes"
        )
    columns = builder.columns(position)
    typed = {
        name: Column(column.code_N, [_csv_value(text, name in numbers) for text in column.values])
        for name, column in columns.items()
    }
    return Columns(typed, tuple(names), builder.number_N)


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
    builder = _Builder()
    shapes: dict[tuple[str, ...], None] = {}
    bad: list[int] = []
    for number, row in json_objects(path):
        if row is None:
            bad.append(number)
        else:
            shapes[tuple(row)] = None
            builder.add(number, {name: row.get(name) for name in wanted})
    if bad:
        a_unit = "an entry" if unit == "entry" else f"a {unit}"
        problems.append(f"not one JSON object {a_unit}: {counted(len(bad), unit)} (first: {unit} {bad[0]:,})")
    names = dict.fromkeys(name for shape in shapes for name in shape)
    return Columns(builder.columns([name for name in wanted if name in names]), tuple(names), builder.number_N)
