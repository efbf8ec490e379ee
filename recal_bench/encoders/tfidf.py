"""TF-IDF with a truncated SVD: fitted on the train prompts, nothing to download."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import Float32QE
from recal_bench.encoders.cache import VERSION, Arrays, hash_of, pack, through_cache, unpack
from recal_bench.encoders.registry import encoder
from recal_bench.encoders.terms import NGRAMS, WORD, Analyze, ngrams, term_weights, words
from recal_bench.encoders.watching import in_parts
from recal_bench.errors import SettingsError
from recal_bench.nearest import spread

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

_DIMENSIONS = 256
_WORDS = 5_000
_CHARACTER_NGRAMS = 10_000
_MOST_FITTED = 100_000
"""Prompts that it is fitted to. Of more, so many are taken, spread evenly over them: the directions hardly differ."""


@encoder("tfidf")
class Tfidf:
    """Words and character n-grams (within words), sublinear TF-IDF, projected on the first right singular vectors.

    Chinese has no spaces between words: there the character n-grams carry the text.
    """

    key: str
    vocabularies: tuple[list[str], list[str]]
    idf_V: NDArray[np.float64]
    projection_VE: NDArray[np.float16]

    def fit(self, prompts: Sequence[str]) -> None:
        prompts = spread(prompts, _MOST_FITTED)
        key = hash_of([VERSION, "tfidf", metadata.version("scikit-learn"), prompts])

        def load(prefixed: Arrays) -> None:
            self.load({name.removeprefix("tfidf_"): value for name, value in prefixed.items()})
            if self.key != key:
                raise ValueError("an encoder of other prompts")

        def fit() -> Arrays:
            return {f"tfidf_{name}": value for name, value in _fit(key, prompts).items()}

        load(through_cache(Path("encoders") / f"{key}.npz", fit, load))

    def load(self, arrays: Arrays) -> None:
        key, words, ngrams = unpack(arrays["key_and_vocabularies"])
        idf_V, projection_VE = arrays["idf_V"], arrays["projection_VE"]
        size = len(words) + len(ngrams)
        texts = [key, *words, *ngrams]
        if idf_V.shape != (size,) or projection_VE.shape[:1] != (size,) or projection_VE.ndim != 2:
            raise ValueError("the vocabulary does not go with the weights")
        if not all(isinstance(text, str) for text in texts) or not (
            idf_V.dtype.kind == projection_VE.dtype.kind == "f"
        ):
            raise TypeError("a vocabulary is of texts, weights are numbers")
        self.key, self.vocabularies, self.idf_V, self.projection_VE = key, (words, ngrams), idf_V, projection_VE

    def save(self) -> Arrays:
        return _arrays(self.key, self.vocabularies, self.idf_V, self.projection_VE)

    def encode(self, prompts: Sequence[str]) -> Float32QE:
        if not prompts:
            return np.zeros((0, self._projection_VE.shape[1]), dtype=np.float32)
        return in_parts(self._encode, prompts)

    def _encode(self, prompts: Sequence[str]) -> Float32QE:
        encoding: Float32QE = term_weights(prompts, self._parts, self.idf_V) @ self._projection_VE
        return encoding

    @cached_property
    def _parts(self) -> list[tuple[Analyze, dict[str, int]]]:
        of_words, of_ngrams = self.vocabularies
        first = len(of_words)
        return [
            (words, {term: column for column, term in enumerate(of_words)}),
            (ngrams, {term: first + column for column, term in enumerate(of_ngrams)}),
        ]

    @cached_property
    def _projection_VE(self) -> NDArray[np.float32]:
        return self.projection_VE.astype(np.float32)


def _arrays(
    key: str, vocabularies: Sequence[list[str]], idf_V: NDArray[Any], projection_VE: NDArray[np.float16]
) -> Arrays:
    return {"key_and_vocabularies": pack([key, *vocabularies]), "idf_V": idf_V, "projection_VE": projection_VE}


def _fit(key: str, prompts: Sequence[str]) -> Arrays:
    from scipy.sparse import hstack
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    vocabularies: list[list[str]] = []
    idf, parts = [], []
    for vectorizer in _vectorizers():
        analyze = vectorizer.build_analyzer()
        if any(analyze(prompt) for prompt in prompts):
            parts.append(vectorizer.fit_transform(prompts))
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
    return _arrays(key, vocabularies, np.concatenate(idf), projection_EV.T.astype(np.float16))


def _vectorizers() -> tuple[TfidfVectorizer, TfidfVectorizer]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    common: dict[str, Any] = {"sublinear_tf": True, "dtype": np.float32}
    words = TfidfVectorizer(token_pattern=WORD, max_features=_WORDS, **common)
    ngrams = TfidfVectorizer(analyzer="char_wb", ngram_range=NGRAMS, max_features=_CHARACTER_NGRAMS, **common)
    return words, ngrams
