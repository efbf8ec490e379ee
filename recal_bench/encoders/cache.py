"""Arrays in files, and the cache of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recal_bench.folders import cache_folder, written_whole

Arrays: TypeAlias = dict[str, NDArray[Any]]

VERSION = 1
"""Of the shipped encoders: part of every key, raised whenever an encoding changes."""
UNREADABLE = (
    OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, MemoryError, RecursionError,
    NotImplementedError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy, zipfile and JSON raise on files that are damaged, cut off or made up."""


def hash_of(content: Any) -> str:
    """32 hex digits that name what JSON can hold."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def through_cache(path: Path, compute: Callable[[], Arrays], check: Callable[[Arrays], None]) -> Arrays:
    """The arrays kept under a path of the cache, or else computed, and kept.

    `check` raises one of `UNREADABLE` on arrays that cannot be the right ones: they are computed again.
    """
    path = cache_folder() / path
    try:
        arrays = read(path)
        check(arrays)
        return arrays
    except UNREADABLE:
        arrays = compute()
        with contextlib.suppress(OSError):
            write(path, arrays)
        return arrays


def read(path: Path) -> Arrays:
    """All arrays of a file; reading them all checks each against its checksum."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        # Ours are not compressed: a file is never larger in memory than on disk.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in arrays.zip.infolist()):
            raise ValueError(f"{path} is compressed")
        return {name: arrays[name] for name in arrays.files}


def write(path: Path, arrays: Arrays) -> None:
    """Another process sees the whole file or none."""
    save_arrays: Any = np.savez  # the stubs of numpy >= 2.1 take any keyword for its new flag
    with written_whole(path) as draft, draft.open("wb") as file:
        save_arrays(file, **arrays)


def pack(content: Any) -> NDArray[np.uint8]:
    """JSON as an array, so that one file with checksums holds everything."""
    return np.frombuffer(json.dumps(content).encode(), dtype=np.uint8)


def unpack(packed: NDArray[Any]) -> Any:
    return json.loads(packed.tobytes())
