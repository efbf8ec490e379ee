"""Tables in files, read as a stream of rows or as columns: parquet, and CSV, TSV, JSONL and JSON lists as text.

Texts may be compressed (gzip, zstd). A file's name says what it holds, its first bytes whether that is so. Rows count
from 1; in JSONL they are lines. What a compressed file would take when it is opened is bounded before it is opened.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from recal_bench.wording import show

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_KINDS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
}
_TEXTS = tuple(extension for extension, kind in _KINDS.items() if kind != "parquet")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
EXTENSIONS = (*_KINDS, *(text + ending for ending in COMPRESSIONS for text in _TEXTS))
IN_FOLDERS = tuple(each for each in EXTENSIONS if not each.startswith(".json") or each.startswith(".jsonl"))
"""Those of EXTENSIONS that make a file in a folder a table: JSON is a list of rows only where somebody says so."""
READ = f"{', '.join(_KINDS)}; all but .parquet also with {' or '.join(COMPRESSIONS)}"
"""EXTENSIONS in words."""
_LONGEST_FIELD = 2**31 - 1
_MAGIC = {"parquet": b"PAR1", "gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
_LFS = b"version https://git-lfs.github.com/spec/"
POINTER = "is a pointer of Git LFS, not the table itself: get that with `git lfs pull`, or from the project's page"
_BATCH, _LONG_BATCH = 2_000, 1 << 17
_SEPARATORS = (",", ";", "\t")

MOST_ROWS = 50_000_000
ROWS_PER_BYTE, PLENTY_OF_ROWS = 2, 2_000_000
BYTES_PER_BYTE, PLENTY_OF_BYTES = 300, 1 << 29
"""A table of more than so many rows, or one that takes so many bytes when it is opened, must not be packed more densely
than this: real tables never are, and files that are made to fill the memory are."""


class BombError(ValueError):
    """A compressed file that holds far more than its size suggests. The message is the rest of a sentence about it."""


def extension_of(path: Path) -> str | None:
    """Which of EXTENSIONS a file's name ends in, whatever the case; None for any other."""
    return next((each for each in reversed(EXTENSIONS) if path.name.lower().endswith(each)), None)


def kind_of(path: Path) -> str | None:
    """What the name says that a file holds: `parquet`, `csv`, `jsonl` or `json`; None where it says nothing."""
    extension = extension_of(path)
    if extension is None:
        return None
    for ending in COMPRESSIONS:
        extension = extension.removesuffix(ending)
    return _KINDS[extension]


def stem(path: Path) -> str:
    """A file's name without its extension, or a folder's."""
    extension = extension_of(path)
    if extension is None and path.is_dir():
        return path.resolve().name
    return path.name[: -len(extension)] if extension else path.stem


def misnamed(path: Path) -> str | None:
    """How the first bytes of a file contradict its name, as the rest of a sentence about it; None where they do not."""
    if is_pointer(path):
        return POINTER
    extension = extension_of(path) or path.suffix
    named = f"but is named {extension}: name it after what it holds"
    if is_parquet(path) != (extension == ".parquet"):
        return f"is {'not ' if extension == '.parquet' else ''}a parquet file, {named}"
    for ending, compression in COMPRESSIONS.items():
        if _begins(path, _MAGIC[compression]) != extension.endswith(ending):
            return f"is {'not ' if extension.endswith(ending) else ''}{compression}-compressed, {named}"
    return None


def is_pointer(path: Path) -> bool:
    """Whether a file is what Git LFS leaves in the place of a large one."""
    return _begins(path, _LFS)


def is_parquet(path: Path) -> bool:
    return _begins(path, _MAGIC["parquet"])


def open_binary(path: Path) -> IO[bytes]:
    """A file's bytes, decompressed where they are compressed. Reading raises BombError where they are far too many."""
    if _begins(path, _MAGIC["gzip"]):
        return _bounded(gzip.open(path), path)
    if _begins(path, _MAGIC["zstd"]):
        import pyarrow as pa

        return _bounded(pa.CompressedInputStream(str(path), "zstd"), path)
    return path.open("rb")


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row with its number: the header as number 0, then those that are not blank, from 1.

    Fields are separated by what the header has most of outside quotes, commas, semicolons or tabs; in TSV by tabs.
    """
    longest_field = csv.field_size_limit(_LONGEST_FIELD)
    try:
        with _open_text(path) as file:
            header = file.readline()
            unquoted = re.sub(r'"[^"]*"', "", header)
            tabs = (extension_of(path) or "").startswith(".tsv")
            separator = "\t" if tabs else max(_SEPARATORS, key=unquoted.count)
            rows = csv.reader(_chained(header, file), strict=True, delimiter=separator)
            yield 0, next(rows, [])
            yield from enumerate(filter(None, rows), start=1)
    finally:
        csv.field_size_limit(longest_field)


def json_objects(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The object of each line that is not blank, with the line's number; None where it is not one JSON object.

    Of a JSON list (`.json`) its entries with their numbers.
    """
    if kind_of(path) == "json":
        yield from _json_list(path)
        return
    with _open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                found = None
            yield number, found if isinstance(found, dict) else None


def _json_list(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    with _open_text(path) as file:
        text = file.read()
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"not a JSON list ({reason}); JSON with one object a line is named .jsonl") from None
    if not isinstance(entries, list):
        raise ValueError("it holds no JSON list of objects: make it one, or write one object a line into a .jsonl")
    for number, entry in enumerate(entries, start=1):
        yield number, entry if isinstance(entry, dict) else None


def parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a parquet file with their numbers. Of columns of one name, the last is seen."""
    with _parquet(path) as file:
        require_openable(path, file, range(file.metadata.num_columns))
        batches = file.iter_batches(batch_size=_BATCH, use_threads=False)
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)


class ParquetShape(NamedTuple):
    """The schema of a parquet file and the number of its rows."""

    schema: pa.Schema
    n_rows: int


def parquet_shape(path: Path, wanted: Sequence[str]) -> ParquetShape:
    """What a parquet file declares. Raises BombError where its wanted columns are not those of a real table."""
    with _parquet(path) as file:
        columns = [file.schema.column(index) for index in range(file.metadata.num_columns)]
        require_openable(path, file, [at for at, each in enumerate(columns) if each.path.split(".")[0] in wanted])
        return ParquetShape(file.schema_arrow, file.metadata.num_rows)


def parquet_batches(path: Path, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Columns of a parquet file, batch by batch. Texts come as dictionaries: one that repeats comes once a batch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _parquet(path) as file:
        texts = [name for name in names if pa.types.is_string(file.schema_arrow.field(name).type)]
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        yield from file.iter_batches(batch_size=_LONG_BATCH, columns=list(names), use_threads=False)


def require_openable(path: Path, file: pq.ParquetFile, columns: Sequence[int]) -> None:
    """Raises BombError where what a parquet file declares of these columns is more than a real table's."""
    metadata = file.metadata
    size, n_rows = path.stat().st_size, metadata.num_rows
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    opened = sum(group.column(column).total_uncompressed_size for group in groups for column in columns)
    if n_rows > MOST_ROWS or (n_rows > PLENTY_OF_ROWS and n_rows > ROWS_PER_BYTE * size):
        raise BombError(f"declares {n_rows:,} rows in {size:,} bytes, which no table of outcomes does: it is not read")
    if opened > PLENTY_OF_BYTES and opened > BYTES_PER_BYTE * size:
        raise BombError(f"would take {opened:,} bytes, packed in {size:,}, which no table does: it is not read")


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
    if isinstance(error, BombError):
        return text
    if isinstance(error, UnicodeError) or "utf8" in text.lower():
        return f"is not UTF-8 text: save it as UTF-8 ({text})"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"cannot be read, it is damaged or cut off: {type(error).__name__}: {text}"


def _begins(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        yield file


def _open_text(path: Path) -> IO[str]:
    return io.TextIOWrapper(open_binary(path), encoding="utf-8-sig", newline="")


def _chained(first: str, file: IO[str]) -> Iterator[str]:
    yield first
    yield from file


def _bounded(stream: Any, path: Path) -> IO[bytes]:
    return cast(IO[bytes], io.BufferedReader(_Bounded(stream, path), 1 << 20))


class _Bounded(io.RawIOBase):
    """A decompressed stream that ends with BombError where it outgrows its file."""

    def __init__(self, stream: Any, path: Path) -> None:
        self._stream = stream
        self._left = max(PLENTY_OF_BYTES, BYTES_PER_BYTE * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(len(buffer))
        self._left -= len(block)
        if self._left < 0:
            raise BombError("holds far more than its size suggests, and is made to fill the memory: it is not read")
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()
