"""A model of a pool file as an encoder, through the collector's client."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from recal_bench.arrays import Float32QE, FloatQ
from recal_bench.encoders import encoder
from recal_bench.encoders.cache import VERSION, Arrays, hash_of, pack, unpack
from recal_bench.encoders.watching import in_parts
from recal_bench.errors import EndpointError, SettingsError

if TYPE_CHECKING:
    from recal_bench.collection.answer import Answer
    from recal_bench.collection.vectors import Embedder

MAX_USD = "RECAL_BENCH_MAX_USD"
"""The environment variable with the most that all vectors of one model may cost, those of earlier runs included."""


@encoder("endpoint")
class EndpointEncoder:
    """An embedding model of a pool file. A text is asked once, and its cost is billed wherever a query is encoded."""

    takes: ClassVar[str] = "MODEL@POOL-FILE"

    def __init__(self, place: str) -> None:
        """Raises SettingsError where the model or the file is not named."""
        self._name, _, file = place.rpartition("@")
        if not self._name or not file:
            raise SettingsError(f"the encoder endpoint:{place} lacks a model or its pool file: endpoint:{self.takes}")
        self._file = Path(file)
        self._usd_of: dict[str, float] = {}

    def identity(self) -> str:
        """A hash of what is asked and of its price. Raises EndpointError where it cannot be asked."""
        price = self._embedder.model.price.model_dump(mode="json")
        return hash_of([VERSION, self._asked(), price])

    def fit(self, prompts: Sequence[str]) -> None:
        self._asked()  # A wrong name or a missing key is told before anything is paid for.

    def save(self) -> Arrays:
        return {"asked": pack(self._asked())}

    def load(self, arrays: Arrays) -> None:
        if unpack(arrays["asked"]) != self._asked():
            raise SettingsError(
                f"{self._name} of {self._file} is not what it was when the router was trained (model, parameters): "
                "bring that entry back, or run the router again with --fresh"
            )

    def encode(self, prompts: Sequence[str]) -> Float32QE:
        return in_parts(self._encode, prompts)

    def usd(self, prompts: Sequence[str]) -> FloatQ:
        """What the endpoint took for each text, `[Q]`."""
        if unknown := [text for text in dict.fromkeys(prompts) if text not in self._usd_of]:
            self.encode(unknown)
        return np.array([self._usd_of[text] for text in prompts])

    def _encode(self, prompts: Sequence[str]) -> Float32QE:
        from recal_bench.collection.vectors import vector_of

        answers: dict[str, Answer] = self._embedder.answers_to(prompts, _limit_usd()) if prompts else {}
        self._usd_of |= {text: self._embedder.usd(answer, text) for text, answer in answers.items()}
        vector_of_text = {text: vector_of(answer) for text, answer in answers.items()}
        if len({len(vector) for vector in vector_of_text.values()}) > 1:
            raise EndpointError(
                f"{self._name} gives vectors of different lengths: name another model, or remove its journal from the "
                "cache folder if it has changed"
            )
        if not prompts:
            return np.zeros((0, 0), dtype=np.float32)
        return np.stack([vector_of_text[text] for text in prompts]).astype(np.float32)

    def _asked(self) -> list[object]:
        return [self._embedder.model.served_model, self._embedder.extra]

    @cached_property
    def _embedder(self) -> Embedder:
        from recal_bench.collection.vectors import Embedder

        return Embedder(self._file, self._name)


def _limit_usd() -> float | None:
    said = os.environ.get(MAX_USD)
    if not said:
        return None
    try:
        limit = float(said)
    except ValueError:
        limit = math.nan
    if not limit >= 0:
        raise SettingsError(f"{MAX_USD}={said}: give USD, 0 or more")
    return limit
