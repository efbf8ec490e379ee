"""Source files to records: JSONL, CSV and parquet as a stream; a pickle only for who says that it may run."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from recal_bench.errors import OutcomesError, RecalBenchError
from recal_bench.importers.values import Place
from recal_bench.wording import show

SourceRow = dict[str, Any]
TABLES = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz")
_PICKLES = (".pkl", ".pickle", ".pkl.gz", ".pickle.gz")
_LONGEST_FIELD = 2**31 - 1
_BATCH = 2_000


def find_files(sources: Sequence[Path], endings: Sequence[str]) -> list[Path]:
    """The files that sources name: themselves, or what a folder holds with one of the endings; sorted by path.

    Raises OutcomesError where a source does not exist, is empty, or holds no such file.
    """
    found: dict[Path, None] = {}
    for source in sources:
        if source.is_dir():
            inside = [each for each in sorted(source.iterdir()) if each.is_file() and _ending(each, endings)]
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


def stem(path: Path) -> str:
    """A file's name without the ending that says its form."""
    known = [each for each in (".csv.gz", ".jsonl.gz") if path.name.lower().endswith(each)]
    return path.name[: -len(known[0])] if known else path.stem


def sha256(path: Path) -> str:
    """The hash of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


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
        with _open(path) as file:
            start = file.read(4)
        if start == b"PAR1":
            yield from _parquet(path)
        elif (start[:1] == b"\x80" and start[1:2] <= b"\x05") or _ending(path, _PICKLES):
            yield from _pickle(path, unsafe_pickle)
        elif _ending(path, (".jsonl", ".jsonl.gz")):
            yield from json_lines(path)
        elif _ending(path, (".csv", ".csv.gz")):
            yield from _csv(path)
        else:
            raise OutcomesError(f"{path} is none of {', '.join(TABLES)}: name it after what it holds, or convert it")


def json_lines(path: Path) -> Iterator[tuple[Place, SourceRow]]:
    """The objects of a JSONL file with their lines."""
    with _plainly(path), _open(path) as binary:
        for line_number, line in enumerate(binary, start=1):
            written = line.decode("utf-8-sig" if line_number == 1 else "utf-8")
            if not written.strip():
                continue
            place = Place(path, "line", line_number)
            try:
                found = json.loads(written)
            except (ValueError, RecursionError):
                found = None
            if not isinstance(found, dict):
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


def _ending(path: Path, endings: Sequence[str]) -> bool:
    return path.name.lower().endswith(tuple(endings))


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if zipped else path.open("rb")


@contextmanager
def _plainly(path: Path) -> Iterator[None]:
    """Turns what parsers raise on arbitrary bytes, which is almost anything, into one line."""
    try:
        yield
    except RecalBenchError:
        raise
    except UnicodeError as error:
        raise OutcomesError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    except Exception as error:
        reason = show(" ".join(str(error).split()), 160)
        known = error.strerror if isinstance(error, OSError) and error.strerror else None
        raise OutcomesError(
            f"{path} cannot be read: {known or f'{type(error).__name__}: {reason}'}: is it complete, and named after "
            "what it holds?"
        ) from error


def _parquet(path: Path) -> Iterator[tuple[Place, SourceRow]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        _refuse_repeated(path, file.schema_arrow.names)
        row_number = 0
        for batch in file.iter_batches(batch_size=_BATCH, use_threads=False):
            for found in batch.to_pylist():
                row_number += 1
                yield Place(path, "row", row_number), found


def _csv(path: Path) -> Iterator[tuple[Place, SourceRow]]:
    import io

    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        with _open(path) as binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            names = next(lines, [])
            _refuse_repeated(path, [name for name in names if name])
            for row_number, fields in enumerate(filter(None, lines), start=1):
                place = Place(path, "row", row_number)
                if len(fields) != len(names):
                    raise OutcomesError(
                        f"{place} has {len(fields)} fields, the header {len(names)}: put fields that hold commas or "
                        "line breaks in quotes"
                    )
                yield place, dict(zip(names, fields, strict=True))
    finally:
        csv.field_size_limit(before)


def _refuse_repeated(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise OutcomesError(f"{path}: column {show(name)} is there {names.count(name)} times: keep one of them")


def _pickle(path: Path, unsafe: bool) -> Iterator[tuple[Place, SourceRow]]:
    if not unsafe:
        raise OutcomesError(
            f"{path} is a pickle, and opening one runs whatever code it holds: give --unsafe-pickle if you trust where "
            "it comes from, or convert it to parquet elsewhere"
        )
    import pandas as pd

    with _open(path) as file:
        frame = pd.read_pickle(file, compression=None)
    if not isinstance(frame, pd.DataFrame):
        raise OutcomesError(f"{path} holds a {type(frame).__name__}, not a pandas DataFrame: give the table's pickle")
    names = [str(name) for name in frame.columns]
    _refuse_repeated(path, names)
    frame = frame.astype(object).where(frame.notna(), None)
    for row_number, values in enumerate(frame.itertuples(index=False, name=None), start=1):
        yield Place(path, "row", row_number), dict(zip(names, values, strict=True))
