"""What the rows of an outcomes file are keyed by: queries, arms and outcomes. N rows with a usable key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from recal_bench.arrays import BoolN, CodeN, IntQ, StrQ
from recal_bench.outcomes.values import ARM, QUERY, Labels

_ROOMY = 4


class Groups(NamedTuple):
    """Rows that go together: the number of each row's group, and the first row of each group."""

    group_N: CodeN
    first: IntQ


def grouped(*codes: np.ndarray) -> Groups:
    """By the distinct combinations of codes (none negative), in their lexicographic order."""
    group_N = _ranked(codes[0], int(codes[0].max(initial=0)) + 1)
    for code_N in codes[1:]:
        span = int(code_N.max(initial=0)) + 1
        group_N = _ranked(group_N.astype(np.int64) * span + code_N, (int(group_N.max(initial=0)) + 1) * span)
    first = np.zeros(int(group_N.max(initial=-1)) + 1, dtype=np.int64)
    # Of several rows of one group, numpy keeps the one that comes last here.
    first[group_N[::-1]] = np.arange(len(group_N) - 1, -1, -1)
    return Groups(group_N, first)


def _ranked(key_N: np.ndarray, span: int) -> CodeN:
    """The rank of each key among the distinct ones, all of which are below `span`."""
    if span <= _ROOMY * len(key_N) + 1_000:
        there_K = np.zeros(span, dtype=bool)
        there_K[key_N] = True
        dense_N: CodeN = (np.cumsum(there_K, dtype=np.int32) - np.int32(1))[key_N]
        return dense_N
    encoded = pa.array(key_N).dictionary_encode()
    order = np.argsort(encoded.dictionary.to_numpy())
    rank_V = np.zeros(len(order), dtype=np.int32)
    rank_V[order] = np.arange(len(order), dtype=np.int32)
    ranked_N: CodeN = rank_V[encoded.indices.to_numpy()]
    return ranked_N


@dataclass(frozen=True)
class Keys:
    """The rows of a file that have a usable key (split, task, query_id, model, strategy), one or more an outcome.

    `kept` are the rows of the file to look at; None for all.
    """

    texts: Mapping[str, Labels]
    kept: BoolN | None = None

    def __len__(self) -> int:
        return len(self.place_N)

    @cached_property
    def place_N(self) -> IntQ:
        """The positions of these rows in the file; what is named `_N` below is for these alone."""
        usable_N = np.logical_and.reduce([self.texts[name].code_N >= 0 for name in (*QUERY, *ARM)])
        return np.flatnonzero(usable_N if self.kept is None else usable_N & self.kept)

    def of(self, value_N: Any) -> Any:
        """The entries of these rows in an array over all rows of the file."""
        return value_N if len(value_N) == len(self.place_N) else value_N[self.place_N]

    def where(self, kept: BoolN) -> Keys:
        """Those of these rows that an array over all rows of the file says to keep."""
        return self if kept.all() else replace(self, kept=kept if self.kept is None else self.kept & kept)

    def code(self, name: str) -> CodeN:
        """The code of each row's text in a column."""
        code_N: CodeN = self.of(self.texts[name].code_N)
        return code_N

    def labels(self, name: str, rows: Sequence[int] | IntQ) -> StrQ:
        """The texts of some rows in a column."""
        labels = np.array(self.texts[name].labels, dtype=object)
        return labels[self.texts[name].code_N[self.place_N[rows]]]

    @cached_property
    def query(self) -> Groups:
        return grouped(*(self.code(name) for name in QUERY))

    @cached_property
    def arm(self) -> Groups:
        return grouped(*(self.code(name) for name in ARM))

    @cached_property
    def outcome(self) -> Groups:
        return grouped(self.query.group_N, self.arm.group_N)

    @property
    def shape(self) -> tuple[int, int]:
        """Q queries and A arms."""
        return len(self.query.first), len(self.arm.first)

    @property
    def repeats(self) -> bool:
        """Whether any outcome has several rows."""
        return len(self.outcome.first) < len(self)

    @property
    def cell_N(self) -> CodeN | IntQ:
        """Each row's place in a flat `[Q, A]`."""
        n_queries, n_arms = self.shape
        if len(self.outcome.first) == n_queries * n_arms:
            return self.outcome.group_N
        return self.query.group_N.astype(np.int64) * n_arms + self.arm.group_N
