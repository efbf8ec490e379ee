"""Vectors from a file: whatever made them, a prompt is looked up."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import Float32QE, IntQ
from recal_bench.encoders.cache import UNREADABLE, Arrays
from recal_bench.encoders.kept import digests
from recal_bench.encoders.registry import encoder
from recal_bench.encoders.shortening import shorten
from recal_bench.errors import SettingsError
from recal_bench.wording import show

PROMPT, VECTOR = "prompt", "vector"
_N_CHECKED = 8


@encoder("vectors")
class Vectors:
    """The columns `prompt` and `vector` of a parquet file, or the arrays `prompt` `[N]` and `vector` `[N, E]` of npz.

    A file may grow: a saved router needs the vectors with which it was trained to be as they were, and those of the
    queries that it routes.
    """

    takes: ClassVar[str] = "FILE"

    def __init__(self, file: str) -> None:
        self._file = Path(file)

    def identity(self) -> str:
        """A hash of the file. Raises SettingsError where it cannot be read."""
        return self._table().digest

    def fit(self, prompts: Sequence[str]) -> None:
        self._checked_N = np.sort(digests(prompts))[:_N_CHECKED]
        self._vector_NE = self.encode(prompts)[np.argsort(digests(prompts), kind="stable")[:_N_CHECKED]]

    def save(self) -> Arrays:
        return {"checked_N": self._checked_N, "vector_NE": self._vector_NE}

    def load(self, arrays: Arrays) -> None:
        self._checked_N, self._vector_NE = arrays["checked_N"], arrays["vector_NE"]
        table = self._table()
        row_N = table.rows(self._checked_N)
        if (row_N < 0).any() or not np.array_equal(table.vector_NE[row_N].astype(np.float32), self._vector_NE):
            raise SettingsError(
                f"{self._file} does not hold the vectors with which the router was trained: bring that file back (rows "
                "may be added), or run the router again with --fresh"
            )

    def encode(self, prompts: Sequence[str]) -> Float32QE:
        table = self._table()
        row_Q = table.rows(digests(prompts))
        absent = np.flatnonzero(row_Q < 0)
        if len(absent):
            raise SettingsError(
                f"{self._file} has no vector for {len(absent):,} of {len(row_Q):,} prompts "
                f"({show(prompts[absent[0]])}): add them to the file"
            )
        return table.vector_NE[row_Q].astype(np.float32)

    def _table(self) -> _Table:
        try:
            status = self._file.stat()
        except OSError as error:
            raise SettingsError(
                f"the encoder vectors:{self._file} reads the file {self._file}, which cannot be read "
                f"({error.strerror}): bring it there"
            ) from error
        return _read(self._file.resolve(), status.st_mtime_ns, status.st_size)


class _Table(NamedTuple):
    digest: str
    row_of: dict[bytes, int]
    vector_NE: NDArray[Any]

    def rows(self, digest_Q: NDArray[np.bytes_]) -> IntQ:
        """The row of each text, `[Q]`; -1 where the file has none."""
        return np.array([self.row_of.get(bytes(digest), -1) for digest in digest_Q], dtype=np.int64)


@lru_cache(maxsize=2)
def _read(path: Path, changed_ns: int, size: int) -> _Table:
    """The file as it was changed last: routers of one run share it."""
    try:
        prompts, vector_NE = _read_npz(path) if path.suffix == ".npz" else _read_parquet(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise SettingsError(
            f"{path} holds no vectors ({reason}): it must be a parquet file with the columns {PROMPT} and {VECTOR} "
            f"(lists of numbers, all of one length), or an npz file with these arrays"
        ) from error
    unusable = np.flatnonzero(~np.isfinite(vector_NE).all(axis=1))
    if len(unusable):
        raise SettingsError(f"{path}: the vector in row {unusable[0] + 1:,} holds what is not a finite number: mend it")
    row_of: dict[bytes, int] = {}
    for row, each in enumerate(digests([shorten(prompt) for prompt in prompts])):
        first = row_of.setdefault(bytes(each), row)
        if first != row and not np.array_equal(vector_NE[first], vector_NE[row]):
            raise SettingsError(
                f"{path}: rows {first + 1:,} and {row + 1:,} give the same prompt different vectors: keep one"
            )
    return _Table(digest, row_of, vector_NE)


def _read_npz(path: Path) -> tuple[list[str], NDArray[Any]]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        prompts, vector_NE = arrays[PROMPT], arrays[VECTOR]
    if prompts.dtype.kind != "U" or prompts.ndim != 1:
        raise ValueError(f"{PROMPT} must be texts, [N]")
    if vector_NE.dtype.kind != "f" or vector_NE.ndim != 2 or len(vector_NE) != len(prompts):
        raise ValueError(f"{VECTOR} must be numbers with a fraction, [N, E]")
    return prompts.tolist(), vector_NE


def _read_parquet(path: Path) -> tuple[list[str], NDArray[Any]]:
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path)
    absent = [name for name in (PROMPT, VECTOR) if name not in file.schema_arrow.names]
    if absent:
        raise ValueError(f"it has no column {absent[0]}")
    table = file.read(columns=[PROMPT, VECTOR])
    if any(table[name].null_count for name in (PROMPT, VECTOR)):
        raise ValueError("a prompt or a vector is null")
    vector = table[VECTOR].combine_chunks()
    kind = vector.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not is_list or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise ValueError(f"{VECTOR} must be lists of numbers")
    numbers = vector.flatten()
    if pa.types.is_fixed_size_list(kind):
        lengths = [kind.list_size]
    else:
        lengths = pyarrow.compute.list_value_length(vector).unique().to_pylist()
    if numbers.null_count:
        raise ValueError("a number of a vector is null")
    length = len(numbers) // max(len(table), 1)
    if lengths != [length]:
        raise ValueError("the vectors are not all of one length")
    return table[PROMPT].to_pylist(), numbers.to_numpy(zero_copy_only=False).reshape(len(table), length)
