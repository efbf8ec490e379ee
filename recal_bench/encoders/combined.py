"""A fitted encoder of one part or of several: what routers hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import Float32QE
from recal_bench.encoders import cache
from recal_bench.encoders.cache import Arrays
from recal_bench.encoders.features import NAME, Features, FeatureValues, lines_of
from recal_bench.encoders.registry import Part, parts_of
from recal_bench.encoders.shared import FILE, find_encoder
from recal_bench.errors import PluginError, SettingsError

_MAX_CHARACTERS = 4_000
_MIN_CACHED_PROMPTS = 64


@dataclass(frozen=True)
class Encoder:
    """A fitted encoder. Its parts, by name, are side by side in the encoding, with equal weight."""

    name: str
    parts: dict[str, Part]

    def encode(self, prompts: Sequence[str], features: Sequence[FeatureValues] = ()) -> Float32QE:
        """One row of unit length a prompt, `[Q, E]`; E is 256 (`tfidf`), 384 (`minilm`), a plug-in's, or their sum.

        Fewer for `tfidf` on tiny train splits. A prompt without any known character n-gram is a row of zeros there.
        `features` are what is known of each query, for an encoder that reads them (see `features`). Raises PluginError
        where a part gives anything else than finite vectors, one a prompt.
        """
        weight = np.float32(len(self.parts) ** -0.5)
        return np.hstack(
            [weight * _encode(name, part, _read(name, prompts, features)) for name, part in self.parts.items()]
        )

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features that it reads."""
        part = self.parts.get(NAME)
        return tuple(sorted({name for name, _ in part.columns})) if isinstance(part, Features) else ()

    def save(self, folder: Path) -> None:
        """Write the encoder into a folder, for `load_encoder`."""
        arrays = {"name": cache.pack(self.name)}
        for name, part in self.parts.items():
            arrays |= {f"{name}_{key}": value for key, value in part.save().items()}
        cache.write(folder / FILE, arrays)


def fit_encoder(name: str, prompts: Sequence[str], features: Sequence[FeatureValues] = ()) -> Encoder:
    """The encoder of that name, fitted on the train prompts alone; their order and number of repeats do not matter.

    Raises SettingsError on an unknown name, on prompts without any text, and where MiniLM is not installed.
    """
    parts = _make(name)
    for word, part in parts.items():
        part.fit(sorted(set(_read(word, prompts, features))))
    return Encoder(name, parts)


def load_encoder(folder: Path) -> Encoder:
    """The encoder that `save` wrote, or the shared one that the folder refers to (see `shared`).

    Raises SettingsError where there is none, or a damaged one.
    """
    path = find_encoder(folder)
    try:
        arrays = cache.read(path)
        name = cache.unpack(arrays["name"])
        parts = _make(name)
        for word, part in parts.items():
            start = f"{word}_"
            part.load({key[len(start) :]: value for key, value in arrays.items() if key.startswith(start)})
    except cache.UNREADABLE as error:
        raise SettingsError(f"{path} is not a saved encoder: run the router again with --fresh") from error
    return Encoder(name, parts)


def _make(name: str) -> dict[str, Part]:
    return {word: cls() for word, cls in parts_of(name).items()}


def _encode(name: str, part: Part, read: list[str]) -> Float32QE:
    def fits(encoding_QE: NDArray[Any]) -> bool:
        return encoding_QE.ndim == 2 and len(encoding_QE) == len(read) and bool(np.isfinite(encoding_QE).all())

    def check(arrays: Arrays) -> None:
        if not fits(arrays["encoding_QE"]):
            raise ValueError("an embedding of other prompts")

    def encode() -> Arrays:
        encoding_QE = np.asarray(part.encode(read))
        if not fits(encoding_QE):
            raise PluginError(f"encoder {name} must give one finite vector for each of {len(read)} prompts")
        norm_Q = np.linalg.norm(encoding_QE, axis=1, keepdims=True)
        return {"encoding_QE": (encoding_QE / np.where(norm_Q > 0, norm_Q, 1.0)).astype(np.float32)}

    key = getattr(part, "key", None)
    if key is None or len(read) < _MIN_CACHED_PROMPTS:
        return encode()["encoding_QE"]
    return cache.through_cache(Path("embeddings") / f"{key}-{cache.hash_of(read)}.npz", encode, check)["encoding_QE"]


def _read(name: str, prompts: Sequence[str], features: Sequence[FeatureValues]) -> list[str]:
    """What a part of that name is given of each query."""
    return lines_of(features, len(prompts)) if name == NAME else [_shorten(prompt) for prompt in prompts]


def _shorten(prompt: str) -> str:
    if len(prompt) <= _MAX_CHARACTERS:
        return prompt
    half = _MAX_CHARACTERS // 2
    return f"{prompt[:half]} {prompt[-half:]}"
