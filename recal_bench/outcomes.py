"""Outcomes: what every arm scored and cost on every query."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from recal_bench.arrays import BoolQA, FloatQA, StrQ


class Arm(NamedTuple):
    """A model together with a reasoning strategy: what a router chooses. Written `model|strategy`."""

    model: str
    strategy: str

    def __str__(self) -> str:
        return f"{self.model}|{self.strategy}"


@dataclass(frozen=True)
class Outcomes:
    """The dense view. Rows are sorted by (split, task, query_id) and arms by name, whatever the order of the file.

    `score_QA` is NaN where an arm has no outcome, `cost_QA` (USD) is NaN where the cost is unknown.
    `expected_score_QA` and `expected_cost_QA` are the true expectations given the text, known for the embedded pool only.
    `name` and `data_hash` say where the outcomes come from; `simulated` is true for the embedded pool alone.
    """

    task_Q: StrQ
    query_id_Q: StrQ
    prompt_Q: StrQ
    split_Q: StrQ
    arms: tuple[Arm, ...]
    score_QA: FloatQA
    cost_QA: FloatQA
    name: str
    data_hash: str
    simulated: bool = False
    expected_score_QA: FloatQA | None = None
    expected_cost_QA: FloatQA | None = None

    def __len__(self) -> int:
        return len(self.task_Q)

    @property
    def observed_QA(self) -> BoolQA:
        return ~np.isnan(self.score_QA)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.task_Q)))

    def take(self, rows: np.ndarray) -> Outcomes:
        """The chosen rows (a boolean mask or indices), with all arms."""
        by_query = {name: getattr(self, name)[rows] for name in _BY_QUERY if getattr(self, name) is not None}
        return replace(self, **by_query)

    def of_split(self, split: str) -> Outcomes:
        return self.take(self.split_Q == split)


_BY_QUERY = (
    "task_Q", "query_id_Q", "prompt_Q", "split_Q", "score_QA", "cost_QA", "expected_score_QA", "expected_cost_QA",
)  # fmt: skip
