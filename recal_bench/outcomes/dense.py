"""Outcomes: what every arm scored and cost on every query."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from recal_bench.arrays import BoolQ, BoolQA, FloatQ, FloatQA, IntQ, ObjectQ, ObjectQA, StrQ


class Arm(NamedTuple):
    """A model together with a reasoning strategy: what a router chooses. Written `model|strategy`."""

    model: str
    strategy: str

    def __str__(self) -> str:
        return f"{self.model}|{self.strategy}"

    @classmethod
    def parse(cls, written: str) -> Arm:
        """The arm written as `model|strategy`."""
        model, _, strategy = written.partition("|")
        return cls(model, strategy)


@dataclass(frozen=True)
class Outcomes:
    """The dense view. Rows are sorted by (split, task, query_id) and arms by name, whatever the order of the file.

    `score_QA` is NaN where an arm has no outcome, `cost_QA` (USD) is NaN where the cost is unknown.
    `expected_score_QA` and `expected_cost_QA` are the true expectations given the text (embedded pool only).
    `response_QA` holds what the arms answered (None where an arm's text is not known), `column_QA` other numbers of the
    file by the names of their columns (NaN where a value is unknown); both are there on request alone.
    `feature_Q` holds what is known of each query besides its text, a dict of texts by name (`tenant` for the column
    `feature_tenant`); on request, else None.
    `propensity_Q` is the probability with which the logged arm was chosen, of a log of single choices; None elsewhere.
    In a mixed log it is 1 for the queries that show several arms (`several_Q`), all of which were asked.
    `noise_QA` are the squared standard errors of scores that are means of repeated draws, NaN where there are fewer
    than two; None where no outcome has them.
    `latency_QA` are the seconds that each reply took, NaN where unknown; None where the file does not hold them.
    `unscored_QA` marks the outcomes that the file has without a score; None where there is none.
    `name` and `data_hash` say where the outcomes come from; `simulated` is true where the models are.
    `notes` hold what a reader of results should know of the data, each in one line.
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
    response_QA: ObjectQA | None = None
    propensity_Q: FloatQ | None = None
    noise_QA: FloatQA | None = None
    latency_QA: FloatQA | None = None
    unscored_QA: BoolQA | None = None
    notes: tuple[str, ...] = ()
    column_QA: Mapping[str, FloatQA] = field(default_factory=dict)
    feature_Q: ObjectQ | None = None

    def __len__(self) -> int:
        return len(self.task_Q)

    @property
    def observed_QA(self) -> BoolQA:
        return ~np.isnan(self.score_QA)

    @property
    def logged(self) -> bool:
        """Whether this is a log of single choices: one outcome a query, of an arm chosen with a known probability.

        Some of its queries may show several arms.
        """
        return self.propensity_Q is not None

    @property
    def logged_arm_Q(self) -> IntQ:
        """The one arm with an outcome, of a log of single choices; the first of several."""
        return np.asarray(np.argmax(self.observed_QA, axis=1), dtype=np.int64)

    @property
    def several_Q(self) -> BoolQ:
        """The queries that show the outcomes of several arms."""
        return np.asarray(self.observed_QA.sum(axis=1) > 1)

    @cached_property
    def task_code_Q(self) -> IntQ:
        """Each query's task as its place among `tasks`."""
        return np.asarray(np.unique(self.task_Q, return_inverse=True)[1], dtype=np.int64)

    @cached_property
    def identifier_Q(self) -> tuple[str, ...]:
        """What a router is shown in the place of each query's own id."""
        return tuple(map(identifier_of, self.task_Q, self.query_id_Q))

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.task_Q)))

    def take(self, rows: np.ndarray) -> Outcomes:
        """The chosen rows (a boolean mask or indices), with all arms; without a copy where they follow each other."""
        rows = _as_slice(rows)
        by_query = {name: getattr(self, name)[rows] for name in _BY_QUERY if getattr(self, name) is not None}
        return replace(self, **by_query, column_QA={name: value[rows] for name, value in self.column_QA.items()})

    def take_arms(self, keep_A: np.ndarray) -> Outcomes:
        """All rows, with the chosen arms (a boolean mask or indices)."""
        kept = np.arange(len(self.arms))[keep_A]
        by_arm = {name: getattr(self, name)[:, kept] for name in _BY_ARM if getattr(self, name) is not None}
        column_QA = {name: value[:, kept] for name, value in self.column_QA.items()}
        return replace(self, arms=tuple(self.arms[arm] for arm in kept), **by_arm, column_QA=column_QA)

    def of_outcomes(self, keep_QA: BoolQA) -> Outcomes:
        """All rows and arms, with nothing known of the other outcomes."""

        def kept(value_QA: FloatQA) -> FloatQA:
            return np.where(keep_QA, value_QA, np.nan)

        response_QA = None if self.response_QA is None else self.response_QA.copy()
        if response_QA is not None:
            response_QA[~keep_QA] = None
        return replace(
            self,
            score_QA=kept(self.score_QA),
            cost_QA=kept(self.cost_QA),
            noise_QA=None if self.noise_QA is None else kept(self.noise_QA),
            latency_QA=None if self.latency_QA is None else kept(self.latency_QA),
            response_QA=response_QA,
            column_QA={name: kept(value_QA) for name, value_QA in self.column_QA.items()},
        )

    def of_split(self, split: str) -> Outcomes:
        return self.take(self.split_Q == split)


_BY_ARM = (
    "score_QA",
    "cost_QA",
    "expected_score_QA",
    "expected_cost_QA",
    "response_QA",
    "noise_QA",
    "latency_QA",
    "unscored_QA",
)
_TEXTS = ("task_Q", "query_id_Q", "prompt_Q", "split_Q")
_BY_QUERY = (*_TEXTS, "propensity_Q", "feature_Q", *_BY_ARM)


def _as_slice(rows: np.ndarray) -> Any:
    """A mask whose rows follow each other as a slice, which copies nothing; all else as it is."""
    if rows.dtype != bool:
        return rows
    chosen = np.flatnonzero(rows)
    if not len(chosen) or chosen[-1] - chosen[0] + 1 != len(chosen):
        return rows
    return slice(int(chosen[0]), int(chosen[-1]) + 1)


def identifier_of(task: str, query_id: str) -> str:
    """A query's identifier that tells nothing of its task."""
    return hashlib.sha256(f"{task}\n{query_id}".encode()).hexdigest()[:16]


def standard_split(name: str) -> str:
    """The name under which a split is used: `val`, `valid`, `dev` mean `validation`; capitals do not count."""
    plain = name.strip().casefold()
    if plain in ("val", "valid", "dev"):
        return "validation"
    return plain if plain in ("train", "validation", "test") else name


def column_hash(value_QA: FloatQA) -> str:
    """16 hex digits that name the values of a column that is read besides those of `content_hash`."""
    return hashlib.sha256(_bits(value_QA)).hexdigest()[:16]


def features_hash(outcomes: Outcomes) -> str:
    """16 hex digits that name the features of all queries."""
    features = [] if outcomes.feature_Q is None else outcomes.feature_Q.tolist()
    return hashlib.sha256(json.dumps(features, sort_keys=True).encode()).hexdigest()[:16]


def _bits(value: FloatQ | FloatQA) -> bytes:
    """One bit pattern for every NaN and for both zeros."""
    return np.where(np.isnan(value), np.nan, value + 0.0).astype("<f8").tobytes()


def content_hash(outcomes: Outcomes) -> str:
    """16 hex digits that name the content: texts, arms, scores, costs and propensities, whatever their file."""
    texts = [list(getattr(outcomes, name)) for name in _TEXTS]
    digest = hashlib.sha256(json.dumps([texts, outcomes.arms]).encode())
    logged = [] if outcomes.propensity_Q is None else [outcomes.propensity_Q]
    for value_QA in (outcomes.score_QA, outcomes.cost_QA, *logged):
        digest.update(_bits(value_QA))
    return digest.hexdigest()[:16]
