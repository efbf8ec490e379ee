"""Columns of a table as codes of distinct values or as numbers, built chunk by chunk. N rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recal_bench.arrays import BoolN, CodeN


@dataclass(frozen=True)
class Coded:
    """A column of anything: `values[code_N[row]]`. Values are distinct and as the file types them; None is null."""

    code_N: CodeN
    values: Sequence[Any]

    @property
    def n_rows(self) -> int:
        return len(self.code_N)

    def at(self, row: int) -> Any:
        """The value of one row."""
        return self.values[self.code_N[row]]


@dataclass(frozen=True)
class Numbers:
    """A column that its file types as numbers or as truth values, in that type, and where it is null."""

    value_N: np.ndarray
    null_N: BoolN

    @property
    def n_rows(self) -> int:
        return len(self.value_N)

    def at(self, row: int) -> Any:
        """The value of one row; None is null."""
        return None if self.null_N[row] else self.value_N[row].item()

    @cached_property
    def code_N(self) -> CodeN:
        """Equal numbers have equal codes; nulls have one of their own."""
        encoded = pa.array(self.value_N).dictionary_encode()
        return np.where(self.null_N, len(encoded.dictionary), encoded.indices.to_numpy()).astype(np.int32)


Column: TypeAlias = Coded | Numbers


class Growing:
    """An array that grows at its end, within `room` entries without a copy."""

    def __init__(self, dtype: Any, room: int = 0) -> None:
        self._array = np.empty(room, dtype=dtype)
        self.size = 0

    def extend(self, values: np.ndarray) -> None:
        end = self.size + len(values)
        if end > len(self._array):
            grown = np.empty(max(end, 2 * len(self._array)), dtype=self._array.dtype)
            grown[: self.size] = self.array
            self._array = grown
        self._array[self.size : end] = values
        self.size = end

    @property
    def array(self) -> np.ndarray:
        return self._array[: self.size]


class PythonCoder:
    """Codes values of any type. Types are kept apart: True, 1 and 1.0 are equal keys of a dict, but not one value."""

    def __init__(self) -> None:
        self._codes: dict[Any, int] = {}
        self._values: list[Any] = []
        self._code_N = Growing(np.int32)

    def add(self, values: Sequence[Any]) -> None:
        self._code_N.extend(np.fromiter(map(self._code, values), dtype=np.int32, count=len(values)))

    def _code(self, value: Any) -> int:
        key = value if type(value) is str else (type(value), value if value.__hash__ is not None else repr(value))
        code = self._codes.setdefault(key, len(self._values))
        if code == len(self._values):
            self._values.append(value)
        return code

    def column(self) -> Coded:
        return Coded(self._code_N.array, self._values)


class ArrowCoder:
    """Codes arrow arrays of one type (any that has a hash). Memory holds each distinct value once, not once a chunk."""

    _SOME = 1 << 18

    def __init__(self, room: int = 0) -> None:
        self._known: pa.Array | None = None
        self._waiting: list[tuple[pa.Array, int]] = []
        self._code_N = Growing(np.int32, room)
        self._merged = 0

    def add(self, chunk: pa.Array) -> None:
        if pa.types.is_null(chunk.type):
            self._code_N.extend(np.full(len(chunk), -1, dtype=np.int32))
            return
        encoded = chunk if isinstance(chunk, pa.DictionaryArray) else chunk.dictionary_encode()
        values = encoded.dictionary
        if is_text(values.type):
            values = values.cast(pa.large_string())  # the texts of all chunks may be too long for 32 bits
        elif pa.types.is_integer(values.type) and values.type != pa.uint64():
            values = values.cast(pa.int64())
        indices = encoded.indices.cast(pa.int64()).fill_null(-1) if encoded.indices.null_count else encoded.indices
        self._code_N.extend(indices.to_numpy(zero_copy_only=False))
        self._waiting.append((values, self._code_N.size))
        # Each merge hashes all that is known again: it waits until there is as much that is not.
        n_known = 0 if self._known is None else len(self._known)
        if sum(len(each) for each, _ in self._waiting) > max(self._SOME, n_known):
            self._merge()

    def _merge(self) -> None:
        """The codes of the chunks that wait, in their own dictionaries, become codes in one."""
        if not self._waiting:
            return
        known = [] if self._known is None else [self._known]
        encoded = pa.concat_arrays([*known, *(values for values, _ in self._waiting)]).dictionary_encode()
        code_V = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        start = len(known[0]) if known else 0
        self._known = encoded.dictionary
        for values, end in self._waiting:
            here_V = np.append(code_V[start : start + len(values)], np.int32(-1))
            self._code_N.array[self._merged : end] = here_V[self._code_N.array[self._merged : end]]
            start, self._merged = start + len(values), end
        self._waiting = []

    def numbers(self) -> Numbers | None:
        """The column as numbers, where every text is a finite one or empty, which is null; else None."""
        self._merge()
        if self._known is None:
            return None
        try:
            empty_V = pc.equal(self._known, "")
            value_V = pc.if_else(empty_V, pa.scalar(None, pa.large_string()), self._known).cast(pa.float64())
        except pa.ArrowInvalid:
            return None
        value_V, null_V = value_V.fill_null(0.0).to_numpy(), empty_V.to_numpy(zero_copy_only=False)
        return Numbers(value_V[self._code_N.array], null_V[self._code_N.array]) if np.isfinite(value_V).all() else None

    def column(self) -> Coded:
        self._merge()
        code_N = self._code_N.array
        values = [] if self._known is None else self._known.to_pylist()
        null_N = code_N < 0
        if null_N.any():
            code_N[null_N] = len(values)
            values.append(None)
        return Coded(code_N, values)


class _NumberJoiner:
    """Joins arrow arrays of numbers or truth values, of which some may be all null."""

    def __init__(self, type_: pa.DataType, room: int) -> None:
        dtype = np.float64 if pa.types.is_null(type_) else type_.to_pandas_dtype()
        self._value_N, self._null_N = Growing(dtype, room), Growing(np.bool_, room)

    def add(self, chunk: pa.Array) -> None:
        if isinstance(chunk, pa.DictionaryArray):
            chunk = chunk.dictionary_decode()
        self._null_N.extend(chunk.is_null().to_numpy(zero_copy_only=False))
        if pa.types.is_null(chunk.type):
            value_N = np.zeros(len(chunk))
        elif chunk.null_count and not pa.types.is_floating(chunk.type):
            value_N = chunk.fill_null(False if pa.types.is_boolean(chunk.type) else 0).to_numpy(zero_copy_only=False)
        else:
            value_N = chunk.to_numpy(zero_copy_only=False)
        self._value_N.extend(value_N)

    def column(self) -> Numbers:
        return Numbers(self._value_N.array, self._null_N.array)


class Joiner:
    """Builds one column of arrow arrays, of a type or null. `text`: it is read as texts, whatever its type.

    `room`: so many rows are expected.
    """

    def __init__(self, type_: pa.DataType, text: bool, room: int) -> None:
        self._coder: ArrowCoder | PythonCoder | _NumberJoiner
        plain = type_.value_type if pa.types.is_dictionary(type_) else type_
        try:
            pa.array([], plain).dictionary_encode()
            numbers = not text and kind_of_type(type_) in ("numbers", "truth values", "")
            self._coder = _NumberJoiner(plain, room) if numbers else ArrowCoder(room)
        except pa.ArrowNotImplementedError:
            self._coder = PythonCoder()  # lists, structs and other types without a hash

    def add(self, chunk: pa.Array) -> None:
        if isinstance(self._coder, PythonCoder):
            self._coder.add(chunk.to_pylist())
        else:
            self._coder.add(chunk)

    def column(self) -> Column:
        return self._coder.column()


def is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def kind_of_type(type_: pa.DataType) -> str:
    """What a type holds, in words: types of one kind may be joined in one column, and all with `""`, nulls alone."""
    if pa.types.is_dictionary(type_):
        return kind_of_type(type_.value_type)
    if pa.types.is_null(type_):
        return ""
    if is_text(type_):
        return "texts"
    if pa.types.is_boolean(type_):
        return "truth values"
    return "numbers" if pa.types.is_integer(type_) or pa.types.is_floating(type_) else str(type_)
