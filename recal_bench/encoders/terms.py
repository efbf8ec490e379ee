"""TF-IDF weights of words and character n-grams under a known vocabulary: what scikit-learn's vectorizers give.

Written out because a single query would otherwise cost a millisecond of checks, and every start the import of
scikit-learn. tests/test_encoders.py holds it to scikit-learn's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

WORD = r"(?u)\b\w+\b"
NGRAMS = (2, 4)
"""The shortest and the longest character n-grams, within words and one blank on each side of them."""
_WORD = re.compile(WORD)

Analyze: TypeAlias = Callable[[str], Iterable[str]]


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def ngrams(text: str) -> Iterable[str]:
    least, most = NGRAMS
    for word in text.lower().split():
        padded = f" {word} "
        for size in range(least, min(most, len(padded)) + 1):
            yield from (padded[start : start + size] for start in range(len(padded) - size + 1))


def term_weights(
    texts: Sequence[str], parts: Sequence[tuple[Analyze, dict[str, int]]], idf_V: NDArray[np.float64]
) -> csr_matrix:
    """Weights `[Q, V]`: `(1 + ln count) * idf`, of unit length in each part of the vocabulary.

    A part is how a text is taken apart, and the columns of the terms that are known.
    """
    from scipy.sparse import csr_matrix

    columns: list[int] = []
    ends = [0]
    for text in texts:
        for analyze, column in parts:
            columns += [known for known in map(column.get, analyze(text)) if known is not None]
        ends.append(len(columns))
    n_terms, first_P = len(idf_V), np.cumsum([0, *(len(column) for _, column in parts[:-1])])
    query_N = np.repeat(np.arange(len(texts)), np.diff(ends))
    place_N, count_N = np.unique(query_N * n_terms + np.array(columns, dtype=np.int64), return_counts=True)
    query_N, column_N = np.divmod(place_N, n_terms)
    # In the precision, and in the order of steps, of scikit-learn.
    weight_N = ((np.log(count_N.astype(np.float32)) + 1) * idf_V[column_N]).astype(np.float32)
    part_N = query_N * len(parts) + np.searchsorted(first_P, column_N, side="right") - 1
    length_N = np.sqrt(np.bincount(part_N, weight_N * weight_N))[part_N]
    weight_N = (weight_N / length_N).astype(np.float32)
    end_Q = np.searchsorted(query_N, np.arange(len(texts) + 1))
    return csr_matrix((weight_N, column_N, end_Q), shape=(len(texts), n_terms))
