"""Vectors of single texts, kept on the disk at half precision: for encoders that take long.

A folder for each encoder, with blocks that are written once: `digest_NB` names the texts, `vector_NE` are their
vectors. A block is written every few seconds, so that an encoding that is killed goes on from there. Processes that
encode with one encoder take turns, block by block, and do none of it twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import Float32QE, IntQ
from recal_bench.encoders.cache import UNREADABLE, read, write
from recal_bench.encoders.watching import told
from recal_bench.folders import cache_folder

BLOCK_S = 5.0
"""A block holds what is encoded in this many seconds."""
_AT_ONCE = 256
_DIGEST_BYTES = 16
_POLL_S = 0.02

Encode = Callable[[Sequence[str]], Float32QE]


def digests(texts: Sequence[str]) -> NDArray[np.bytes_]:
    """16 bytes that name each text, `[Q]`."""
    hashed = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:_DIGEST_BYTES] for text in texts]
    return np.array(hashed, dtype=f"S{_DIGEST_BYTES}")


def halved(vector_QE: Float32QE) -> Float32QE:
    """Vectors as they come back from the disk: rounded to half precision, and of unit length again."""
    return _lengthened(vector_QE.astype(np.float16))


def through_blocks(name: str, texts: Sequence[str], encode: Encode) -> Float32QE:
    """The vectors of texts, each as `halved` gives it: from the blocks of a folder of the cache, or encoded and kept.

    `encode` gives vectors of at most unit length. Where the cache cannot be written, it is done without.
    """
    folder = cache_folder() / "vectors" / name
    found = _Found(texts)
    found.take_from(folder)
    total = len(found.missing())
    while len(found.missing()):
        with _turn(folder):
            # Others may have encoded some while this process waited.
            found.take_from(folder)
            _encode_block(folder, found, encode, total)
        # So that others get their turn.
        time.sleep(2 * _POLL_S)
    if total > _AT_ONCE:
        told(total, total)
    return found.vectors()


def _encode_block(folder: Path, found: _Found, encode: Encode, total: int) -> None:
    """Encode, the longest texts first, until it is time to write, and write also what an error left."""
    started, missing, done = time.monotonic(), found.missing(), 0
    try:
        while done < len(missing) and (not done or time.monotonic() - started < BLOCK_S):
            if total > _AT_ONCE:
                told(min(total - len(missing) + done, total - 1), total)
            rows = missing[done : done + _AT_ONCE]
            found.put(rows, encode([found.texts[row] for row in rows]).astype(np.float16))
            done += len(rows)
    finally:
        if done:
            with contextlib.suppress(OSError):
                found.write_to(folder, missing[:done])


class _Found:
    """The distinct texts that are to be encoded, and the vectors of those that are."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._digest_N, first_N, self._row_Q = np.unique(digests(texts), return_index=True, return_inverse=True)
        self.texts = [texts[first] for first in first_N]
        self._length_N = np.array([len(text) for text in self.texts])
        self._is_there_N = np.zeros(len(self.texts), dtype=bool)
        self._vector_NE: NDArray[np.float16] | None = None
        self._seen: set[str] = set()

    def missing(self) -> IntQ:
        """The rows without a vector, of the longest texts first: what is left then takes no longer than it seems."""
        rows = np.flatnonzero(~self._is_there_N)
        missing: IntQ = rows[np.argsort(-self._length_N[rows], kind="stable")]
        return missing

    def put(self, rows: IntQ, vector_NE: NDArray[np.float16]) -> None:
        if self._vector_NE is None:
            self._vector_NE = np.zeros((len(self.texts), vector_NE.shape[1]), dtype=np.float16)
        self._vector_NE[rows] = vector_NE
        self._is_there_N[rows] = True

    def take_from(self, folder: Path) -> None:
        """Take in the blocks that are new. A damaged one is as none: its texts are encoded again."""
        for path in sorted(folder.glob("*.npz")):
            if path.name not in self._seen:
                self._seen.add(path.name)
                with contextlib.suppress(*UNREADABLE):
                    self._take(path)

    def _take(self, path: Path) -> None:
        # The digests alone first: most blocks can be those of other texts.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as block:
            digest_N = _as_digests(block["digest_NB"])
        place_N = np.minimum(np.searchsorted(self._digest_N, digest_N), len(self._digest_N) - 1)
        wanted_N = (self._digest_N[place_N] == digest_N) & ~self._is_there_N[place_N]
        if wanted_N.any():
            vector_NE = read(path)["vector_NE"]
            if vector_NE.dtype != np.float16 or vector_NE.shape[:1] != digest_N.shape or vector_NE.ndim != 2:
                raise ValueError(f"{path} is no block of vectors")
            if not np.isfinite(vector_NE).all():
                raise ValueError(f"{path} holds what is not finite")
            self.put(place_N[wanted_N], vector_NE[wanted_N])

    def write_to(self, folder: Path, rows: IntQ) -> None:
        assert self._vector_NE is not None
        digest_N = np.ascontiguousarray(self._digest_N[rows])
        path = folder / f"{hashlib.sha256(digest_N.tobytes()).hexdigest()[:32]}.npz"
        self._seen.add(path.name)
        digest_NB = digest_N.view(np.uint8).reshape(-1, _DIGEST_BYTES)
        write(path, {"digest_NB": digest_NB, "vector_NE": self._vector_NE[rows]})

    def vectors(self) -> Float32QE:
        assert self._vector_NE is not None
        return _lengthened(self._vector_NE)[self._row_Q]


def _as_digests(digest_NB: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    if digest_NB.dtype != np.uint8 or digest_NB.ndim != 2 or digest_NB.shape[1] != _DIGEST_BYTES:
        raise ValueError("no digests of texts")
    return np.ascontiguousarray(digest_NB).view(f"S{_DIGEST_BYTES}")[:, 0]


def _lengthened(vector_QE: NDArray[np.float16]) -> Float32QE:
    vector32_QE = vector_QE.astype(np.float32)
    length_Q = np.linalg.norm(vector32_QE, axis=1, keepdims=True)
    return np.asarray(vector32_QE / np.where(length_Q > 0, length_Q, 1), dtype=np.float32)


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One process or thread at a time; all at once where the folder cannot be written."""
    from filelock import FileLock

    with ExitStack() as held:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(folder / ".lock", poll_interval=_POLL_S))
        yield
