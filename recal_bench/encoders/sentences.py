"""Encoding with a model of sentence-transformers so that a text's vector depends on that text alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from recal_bench.arrays import Float32QE

_AT_ONCE = 16
"""Texts of one forward. More do not fit a core's caches, and take longer each."""


def encode_alike(model: Any, texts: Sequence[str]) -> Float32QE:
    """The model's vectors of texts, `[Q, E]`: in batches of texts with the same number of tokens.

    Nothing is padded, so that no time goes into padding, and no vector depends on what else is in its batch.
    """
    if not texts:
        return np.zeros((0, len(model.encode("", **_QUIETLY))), dtype=np.float32)
    # Half a surrogate pair has no UTF-8, which tokenizers need.
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    rows_of: defaultdict[int, list[int]] = defaultdict(list)
    for row, length in enumerate(_token_counts(model, texts)):
        rows_of[length].append(row)
    batches = [rows[start : start + _AT_ONCE] for rows in rows_of.values() for start in range(0, len(rows), _AT_ONCE)]
    encoded = [model.encode([texts[row] for row in batch], batch_size=_AT_ONCE, **_QUIETLY) for batch in batches]
    vector_QE: Float32QE = np.empty((len(texts), encoded[0].shape[1]), dtype=np.float32)
    for batch, each in zip(batches, encoded, strict=True):
        vector_QE[batch] = each
    return vector_QE


_QUIETLY: dict[str, Any] = {"show_progress_bar": False, "convert_to_numpy": True}


def _token_counts(model: Any, texts: list[str]) -> list[int]:
    """How many tokens the model reads of each text; characters, where its tokenizer is not one of transformers."""
    tokenizer, most = model.tokenizer, model.max_seq_length
    if not callable(tokenizer):
        return [len(text) for text in texts]
    cut = {} if most is None else {"truncation": True, "max_length": most}
    return [len(ids) for ids in tokenizer(texts, **cut)["input_ids"]]


@contextmanager
def without_bars() -> Iterator[None]:
    """Models are loaded without the progress bars of transformers."""
    import importlib

    logging: Any = importlib.import_module("transformers.utils.logging")
    had_progress_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if had_progress_bar:
            logging.enable_progress_bar()
