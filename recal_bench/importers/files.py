"""Source files to records: tables as a stream of rows, JSON whole, and a pickle only where the user trusts it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recal_bench.errors import OutcomesError, RecalBenchError
from recal_bench.importers.values import Place
from recal_bench.outcomes.dense import standard_split
from recal_bench.table_files import (
    POINTER,
    READ,
    csv_rows,
    is_parquet,
    is_pointer,
    json_objects,
    kind_of,
    open_binary,
    parquet_names,
    parquet_rows,
    repeated,
    stem,
    unreadable,
)
from recal_bench.wording import show

SourceRow = dict[str, Any]
_PICKLES = (".pkl", ".pickle", ".pkl.gz", ".pickle.gz")


def find_files(sources: Sequence[Path], endings: Sequence[str]) -> list[Path]:
    """The files that sources name: themselves, or what a folder holds with one of the endings; sorted by path.

    Raises OutcomesError where a source does not exist, is empty, or holds no such file.
    """
    found: dict[Path, None] = {}
    for source in sources:
        if source.is_dir():
            inside = [each for each in sorted(source.iterdir()) if each.is_file() and _ends_in(each, endings)]
            if not inside:
                raise OutcomesError(f"{source} holds no file that ends in {' or '.join(endings)}: give another folder")
            found |= dict.fromkeys(inside)
        elif not source.exists():
            raise OutcomesError(f"{source} does not exist: check the path")
        else:
            found[source] = None
    for path in found:
        if path.stat().st_size == 0:
            raise OutcomesError(f"{path} is empty (0 bytes): get the file again")
    return sorted(found)


def split_of_name(path: Path) -> str:
    """The split that a file's name speaks of, or nothing."""
    found = [standard_split(word) for word in re.split(r"[^a-z]+", stem(path).lower())]
    named = {word for word in found if word in ("train", "validation", "test")}
    return named.pop() if len(named) == 1 else ""


def records(path: Path, unsafe_pickle: bool = False) -> Iterator[tuple[Place, SourceRow]]:
    """A table's rows with their places, told by what the file holds and, failing that, by its name.

    Raises OutcomesError where the file cannot be read or has no row, and for a pickle without `unsafe_pickle`.
    """
    place = None
    for place, record in _records(path, unsafe_pickle):
        yield place, record
    if place is None:
        raise OutcomesError(f"{path} holds no rows: get the file again")


def _records(path: Path, unsafe_pickle: bool) -> Iterator[tuple[Place, SourceRow]]:
    with _plainly(path):
        kind = kind_of(path)
        if is_parquet(path):
            _refuse_repeated(path, parquet_names(path))
            yield from ((Place(path, "row", number), row) for number, row in parquet_rows(path))
        elif _is_pickle(path):
            yield from _pickle(path, unsafe_pickle)
        elif kind in ("jsonl", "json"):
            yield from json_lines(path)
        elif kind == "csv":
            yield from _csv(path)
        else:
            raise OutcomesError(f"{path} is none of {READ}: name it after what it holds, or convert it")


def json_lines(path: Path) -> Iterator[tuple[Place, SourceRow]]:
    """The objects of a JSONL file with their lines."""
    with _plainly(path):
        for number, found in json_objects(path):
            place = Place(path, "line", number)
            if found is None:
                raise OutcomesError(f"{place} is not one JSON object: is the file JSONL, and is it complete?")
            yield place, found


def json_file(path: Path) -> Any:
    """What a JSON file holds."""
    with _plainly(path):
        try:
            return json.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError) as error:
            if isinstance(error, UnicodeError):
                raise
            reason = show(" ".join(str(error).split()), 120)
            raise OutcomesError(f"{path} is not JSON: {reason}: is the file complete?") from error


def _ends_in(path: Path, endings: Sequence[str]) -> bool:
    return path.name.lower().endswith(tuple(endings))


@contextmanager
def _plainly(path: Path) -> Iterator[None]:
    """Turns what parsers raise on arbitrary bytes, which is almost anything, into one line."""
    try:
        if is_pointer(path):
            raise OutcomesError(f"{path} {POINTER}")
        yield
    except RecalBenchError:
        raise
    except Exception as error:
        raise OutcomesError(f"{path} {unreadable(error)}") from error


def _csv(path: Path) -> Iterator[tuple[Place, SourceRow]]:
    rows = csv_rows(path)
    _, names = next(rows)
    _refuse_repeated(path, [name for name in names if name])
    for number, fields in rows:
        place = Place(path, "row", number)
        if len(fields) != len(names):
            raise OutcomesError(
                f"{place} has {len(fields)} fields, the header {len(names)}: put fields that hold commas or line "
                "breaks in quotes"
            )
        yield place, dict(zip(names, fields, strict=True))


def _refuse_repeated(path: Path, names: Sequence[str]) -> None:
    for problem in repeated(names):
        raise OutcomesError(f"{path}: {problem}")


def _is_pickle(path: Path) -> bool:
    with open_binary(path) as file:
        start = file.read(2)
    return (start[:1] == b"\x80" and start[1:] <= b"\x05") or _ends_in(path, _PICKLES)


def _pickle(path: Path, unsafe: bool) -> Iterator[tuple[Place, SourceRow]]:
    if not unsafe:
        raise OutcomesError(
            f"{path} is a pickle, and opening one runs whatever code it holds: give --unsafe-pickle if you trust where "
            "it comes from, or convert it to parquet elsewhere"
        )
    import pandas as pd

    with open_binary(path) as file:
        frame = pd.read_pickle(file, compression=None)
    if not isinstance(frame, pd.DataFrame):
        raise OutcomesError(f"{path} holds a {type(frame).__name__}, not a pandas DataFrame: give the table's pickle")
    names = [str(name) for name in frame.columns]
    _refuse_repeated(path, names)
    frame = frame.astype(object).where(frame.notna(), None)
    for row_number, values in enumerate(frame.itertuples(index=False, name=None), start=1):
        yield Place(path, "row", row_number), dict(zip(names, values, strict=True))
