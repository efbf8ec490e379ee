"""Tables in files: parquet, CSV and JSONL (the latter two also in gzip), read as a stream of rows or as columns.

What a file holds is told by its first bytes and its name. Rows count from 1, in JSONL they are lines.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from recal_bench.wording import show

if TYPE_CHECKING:
    import pyarrow as pa

EXTENSIONS = (".parquet", ".csv", ".jsonl", ".csv.gz", ".jsonl.gz")
_LONGEST_FIELD = 2**31 - 1
_PARQUET_MAGIC, _GZIP_MAGIC = b"PAR1", b"\x1f\x8b"
_BATCH = 2_000


def extension_of(path: Path) -> str | None:
    """Which of EXTENSIONS a file's name ends in, whatever the case; None for any other."""
    return next((each for each in reversed(EXTENSIONS) if path.name.lower().endswith(each)), None)


def stem(path: Path) -> str:
    """A file's name without its extension."""
    extension = extension_of(path)
    return path.name[: -len(extension)] if extension else path.stem


def is_parquet(path: Path) -> bool:
    return _begins(path, _PARQUET_MAGIC)


def is_gzip(path: Path) -> bool:
    return _begins(path, _GZIP_MAGIC)


def open_binary(path: Path) -> IO[bytes]:
    """A file's bytes, decompressed where they are in gzip."""
    return cast(IO[bytes], gzip.open(path)) if is_gzip(path) else path.open("rb")


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row with its number: the header as number 0, then those that are not blank, from 1."""
    longest_field = csv.field_size_limit(_LONGEST_FIELD)
    try:
        with _open_text(path) as file:
            rows = csv.reader(file, strict=True)
            yield 0, next(rows, [])
            yield from enumerate(filter(None, rows), start=1)
    finally:
        csv.field_size_limit(longest_field)


def json_objects(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The object of each line that is not blank, with the line's number; None where it is not one JSON object."""
    with _open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                found = None
            yield number, found if isinstance(found, dict) else None


def parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a parquet file with their numbers. Of columns of one name, the last is seen."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        batches = file.iter_batches(batch_size=_BATCH, use_threads=False)
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)


def parquet_columns(path: Path, choose: Callable[[list[str]], Sequence[str]]) -> tuple[list[str], pa.Table, int]:
    """The names of all columns, those that `choose` picks by their names as an arrow table, and the number of rows."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        return names, file.read(columns=list(choose(names)), use_threads=False), file.metadata.num_rows


def parquet_names(path: Path) -> list[str]:
    """The names of the columns of a parquet file."""
    import pyarrow.parquet as pq

    return list(pq.read_schema(path).names)


def repeated(names: Sequence[str]) -> list[str]:
    """What is wrong with a table's columns, one line for each name that several of them have."""
    counts = {name: names.count(name) for name in names}
    return [f"column {show(name)} is there {n} times: keep one of them" for name, n in counts.items() if n > 1]


def unreadable(error: Exception) -> str:
    """What is wrong with a file that cannot be read, as the rest of a sentence about it.

    Any error may be given: arbitrary bytes make parsers raise almost anything.
    """
    text = show(" ".join(str(error).split()), 200)
    if isinstance(error, UnicodeError) or "utf8" in text.lower():
        return f"is not UTF-8 text: save it as UTF-8 ({text})"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"cannot be read, it is damaged or cut off: {type(error).__name__}: {text}"


def _begins(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _open_text(path: Path) -> IO[str]:
    return io.TextIOWrapper(open_binary(path), encoding="utf-8-sig", newline="")
