"""A table in a file, or in a folder of parquet files, to columns, before anything in them is checked. N rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recal_bench.arrays import IntQ
from recal_bench.outcomes.coding import ArrowCoder, Coded, Column, Growing, Joiner, PythonCoder
from recal_bench.outcomes.parts import Part, UnusableError, joint_type, parts_of, require_alike
from recal_bench.outcomes.schema import FEATURE_PREFIX, TYPES
from recal_bench.table_files import (
    MOST_ROWS,
    READ,
    ParquetShape,
    csv_rows,
    json_objects,
    kind_of,
    misnamed,
    parquet_batches,
    parquet_names,
    parquet_shape,
    repeated,
    unreadable,
)
from recal_bench.wording import counted, show

_BLOCK = 20_000


@dataclass(frozen=True)
class Columns:
    """The wanted columns of a file and the names of all it has.

    `number_N` are the numbers of the rows (lines in JSONL); None where they count from 1, in each of `parts`, the files
    of a folder, with the number of their rows.
    """

    columns: Mapping[str, Column]
    names: tuple[str, ...]
    n_rows: int
    number_N: IntQ | None = None
    parts: tuple[tuple[str, int], ...] = ()

    def place(self, row: int) -> str:
        """Where a row stands, as what follows "row " in a message."""
        for label, n_rows in self.parts:
            if row < n_rows:
                return f"{row + 1:,} of {show(label)}"
            row -= n_rows
        return f"{row + 1 if self.number_N is None else self.number_N[row]:,}"


def read_columns(
    path: Path, wanted: Sequence[str], numbers: Collection[str], features: bool = False
) -> tuple[Columns | None, list[str]]:
    """The wanted columns that the file has, and what is wrong with it as a file. Raises nothing.

    `numbers` are the columns whose text is taken for numbers in CSV, which has no types. `features`: with all columns
    `feature_*`.
    """
    problems: list[str] = []

    def choose(names: Sequence[str]) -> list[str]:
        found = [*wanted, *(sorted(filter(_is_feature, names)) if features else [])]
        problems.extend(repeated([name for name in names if name in found]))
        return [name for name in dict.fromkeys(found) if names.count(name) == 1]

    try:
        kind = _checked_kind(path)
        if kind in ("folder", "parquet"):
            found = _read_parquet(parts_of(path) if kind == "folder" else [Part(path)], choose, numbers)
        elif kind == "csv":
            found = _read_csv(path, choose, numbers, problems)
        else:
            found = _read_json(path, wanted, features, problems, "entry" if kind == "json" else "line")
    except UnusableError as error:
        return None, [*problems, str(error)]
    except Exception as error:  # Arbitrary bytes make the parsers raise almost anything.
        return None, [*problems, f"the file {unreadable(error)}"]
    return found, problems


def _checked_kind(path: Path) -> str:
    if path.is_dir() and kind_of(path) in (None, "parquet"):
        return "folder"
    if path.is_dir():
        raise UnusableError("the file is a folder: give one outcomes file")
    if not path.exists():
        raise UnusableError("the file does not exist: check the path")
    if not path.is_file():
        raise UnusableError("the file is not a regular file: save it as one first")
    kind = kind_of(path)
    if kind is None:
        raise UnusableError(f"the file has none of the extensions that are read: {READ}")
    if path.stat().st_size == 0:
        raise UnusableError("the file is empty (0 bytes)")
    contradiction = misnamed(path)
    if contradiction:
        raise UnusableError(f"the file {contradiction}")
    return kind


def _is_feature(name: str) -> bool:
    return name.startswith(FEATURE_PREFIX) and name != FEATURE_PREFIX


def _is_text(name: str) -> bool:
    return TYPES.get(name) == "string" or _is_feature(name)


def _read_parquet(
    parts: Sequence[Part], choose: Callable[[Sequence[str]], list[str]], numbers: Collection[str]
) -> Columns:
    keys = [name for name, _ in parts[0].keys]
    with _of_part(parts[0]):
        names = parquet_names(parts[0].path)
    for name in keys:
        if name in names:
            raise UnusableError(
                f"column {show(name)} is in the files and in the names of their folders: keep one of them"
            )
    wanted = choose([*names, *keys])
    chosen = [name for name in wanted if name in names]
    found: list[ParquetShape] = []
    for part in parts:
        with _of_part(part):
            found.append(parquet_shape(part.path, chosen))
    schemas = [each.schema for each in found]
    if len(parts) > 1 or parts[0].keys:
        require_alike(parts, schemas, chosen, [*filter(_is_text, chosen)])
    room = sum(each.n_rows for each in found)
    if room > MOST_ROWS:
        raise UnusableError(f"the folder declares {room:,} rows, and at most {MOST_ROWS:,} can be held")
    joiners = {
        name: Joiner(joint_type([schema.field(name).type for schema in schemas]), _is_text(name), room)
        for name in chosen
    }
    for part in parts if chosen else ():
        with _of_part(part):
            for batch in parquet_batches(part.path, chosen):
                for name, joiner in joiners.items():
                    joiner.add(batch.column(name))
    pa.default_memory_pool().release_unused()  # arrow keeps what the batches took, some 100 MB
    columns = {name: joiner.column() for name, joiner in joiners.items()}
    if any(column.n_rows != room for column in columns.values()):
        raise UnusableError("the file is damaged: it declares more rows, or fewer, than it holds")
    counts = [each.n_rows for each in found]
    for at, name in enumerate(keys):
        if name in wanted:
            columns[name] = _constant([part.keys[at][1] for part in parts], counts, name in numbers)
    labels = tuple((part.label, count) for part, count in zip(parts, counts, strict=True) if part.label)
    return Columns(columns, (*names, *keys), room, parts=labels)


@contextmanager
def _of_part(part: Part) -> Iterator[None]:
    """What is wrong with a file of a folder names the file."""
    try:
        yield
    except Exception as error:
        if not part.label or isinstance(error, UnusableError):
            raise
        raise UnusableError(f"its file {show(part.label)} {unreadable(error)}") from error


def _constant(texts: Sequence[str | None], counts: Sequence[int], number: bool) -> Column:
    """A column with one text for all rows of each file, as the names of its folders give it."""
    coder = ArrowCoder()
    for text, count in zip(texts, counts, strict=True):
        coder.add(pa.DictionaryArray.from_arrays(np.zeros(count, dtype=np.int32), [text or ""]))
    return _typed(coder, number)


def _read_csv(
    path: Path, choose: Callable[[Sequence[str]], list[str]], numbers: Collection[str], problems: list[str]
) -> Columns:
    ragged: list[tuple[int, int]] = []
    number_N = Growing(np.int64)
    rows = csv_rows(path)
    _, names = next(rows)
    position = {name: names.index(name) for name in choose(names)}
    coders = {name: ArrowCoder() for name in position}
    while block := list(islice(rows, _BLOCK)):
        ragged += [(number, len(fields)) for number, fields in block if len(fields) != len(names)]
        block = [each for each in block if len(each[1]) == len(names)]
        number_N.extend(np.array([number for number, _ in block], dtype=np.int64))
        for name, at in position.items():
            coders[name].add(pa.array([fields[at] for _, fields in block], pa.large_string()))
    if ragged:
        problems.append(
            f"more or fewer fields than the header in {counted(len(ragged), 'row')} (first: row {ragged[0][0]:,} with "
            f"{ragged[0][1]} of {len(names)}): put fields that hold commas or line breaks in quotes"
        )
    columns = {name: _typed(coder, name in numbers) for name, coder in coders.items()}
    return Columns(columns, tuple(names), number_N.size, number_N.array)


def _typed(coder: ArrowCoder, number: bool) -> Column:
    """A column of CSV fields with the values that they stand for."""
    if number and (found := coder.numbers()) is not None:
        return found
    column = coder.column()
    return Coded(column.code_N, [_csv_value(text, number) for text in column.values])


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


def _read_json(path: Path, wanted: Sequence[str], features: bool, problems: list[str], unit: str) -> Columns:
    shapes: dict[tuple[str, ...], None] = {}
    bad: list[int] = []
    numbers: list[int] = []
    coders = {name: PythonCoder() for name in wanted}
    rows = json_objects(path)
    while block := list(islice(rows, _BLOCK)):
        bad += [number for number, row in block if row is None]
        found = [row for _, row in block if row is not None]
        new = dict.fromkeys(name for row in found for name in row if _is_feature(name)) if features else {}
        for name in new.keys() - coders.keys():
            coders[name] = PythonCoder()
            coders[name].add([None] * len(numbers))
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
