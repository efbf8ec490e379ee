"""A fitted encoder of one part or of several: what routers hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import Float32QE, FloatQ
from recal_bench.encoders import cache
from recal_bench.encoders.cache import Arrays
from recal_bench.encoders.features import NAME, Features, FeatureValues, lines_of
from recal_bench.encoders.kept import halved, through_blocks
from recal_bench.encoders.registry import Part, make_parts
from recal_bench.encoders.shared import FILE, find_encoder
from recal_bench.encoders.shortening import shorten
from recal_bench.errors import PluginError, SettingsError
from recal_bench.folders import slug

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

    def usd(self, prompts: Sequence[str]) -> FloatQ | None:
        """What encoding each prompt costs in USD, `[Q]`, of prompts that were encoded; None where all of it runs here.

        Raises EndpointError where a cost is not known.
        """
        paid = [part.usd for part in self.parts.values() if hasattr(part, "usd")]
        read = [shorten(prompt) for prompt in prompts]
        return np.sum([usd(read) for usd in paid], axis=0) if paid else None

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
    parts = make_parts(name)
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
        parts = make_parts(name)
        for word, part in parts.items():
            start = f"{word}_"
            part.load({key[len(start) :]: value for key, value in arrays.items() if key.startswith(start)})
    except cache.UNREADABLE as error:
        raise SettingsError(f"{path} is not a saved encoder: run the router again with --fresh") from error
    return Encoder(name, parts)


def _encode(name: str, part: Part, read: list[str]) -> Float32QE:
    def fits(encoding_QE: NDArray[Any]) -> bool:
        return encoding_QE.ndim == 2 and bool(np.isfinite(encoding_QE).all())

    def check(arrays: Arrays) -> None:
        if len(arrays["encoding_QE"]) != len(read) or not fits(arrays["encoding_QE"]):
            raise ValueError("an embedding of other prompts")

    def encode(texts: Sequence[str]) -> Float32QE:
        encoding_QE = np.asarray(part.encode(texts))
        if encoding_QE.shape[:1] != (len(texts),) or not fits(encoding_QE):
            raise PluginError(f"encoder {name} must give one finite vector for each of {len(texts)} prompts")
        norm_Q = np.linalg.norm(encoding_QE, axis=1, keepdims=True)
        unit_QE: Float32QE = (encoding_QE / np.where(norm_Q > 0, norm_Q, 1.0)).astype(np.float32)
        return unit_QE

    key, is_cached = getattr(part, "key", None), len(read) >= _MIN_CACHED_PROMPTS
    if getattr(part, "by_text", False):
        # Rounded in any case: what a router is shown does not depend on what was cached.
        return through_blocks(f"{slug(name)}-{key}", read, encode) if is_cached else halved(encode(read))
    if key is None or not is_cached:
        return encode(read)
    path = Path("embeddings") / f"{key}-{cache.hash_of(read)}.npz"
    return cache.through_cache(path, lambda: {"encoding_QE": encode(read)}, check)["encoding_QE"]


def _read(name: str, prompts: Sequence[str], features: Sequence[FeatureValues]) -> list[str]:
    """What a part of that name is given of each query."""
    return lines_of(features, len(prompts)) if name == NAME else [shorten(prompt) for prompt in prompts]
