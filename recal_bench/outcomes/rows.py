"""The rows of an outcomes file by their keys, and what is wrong with them taken together.

N rows with a usable key, Q queries, A arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from recal_bench.arrays import BoolQA, FloatQ, IntQ, ObjectQ
from recal_bench.outcomes.columns import Columns
from recal_bench.outcomes.schema import FEATURE_PREFIX
from recal_bench.outcomes.single_choices import Choices
from recal_bench.outcomes.values import Labels, feature_text, propensities, unknown
from recal_bench.wording import counted, share, show, tallied

MOST_CELLS = 50_000_000
_QUERY, _ARM = ("split", "task", "query_id"), ("model", "strategy")
_KEY = (*_QUERY, *_ARM)


class Groups(NamedTuple):
    """Rows that go together: the number of each row's group, and the first row of each group."""

    group_N: IntQ
    first: IntQ


def _grouped(*codes: IntQ) -> Groups:
    """By the distinct combinations of codes, in their lexicographic order."""
    group_N, first = np.zeros(len(codes[0]), dtype=np.int64), np.zeros(0, dtype=np.int64)
    for code_N in codes:
        key_N = group_N * (code_N.max(initial=0) + 1) + code_N
        _, first, group_N = np.unique(key_N, return_index=True, return_inverse=True)
    return Groups(group_N.astype(np.int64), first.astype(np.int64))


@dataclass(frozen=True)
class Rows:
    """The rows of a file that have a usable key (split, task, query_id, model, strategy), one or more an outcome."""

    columns: Columns
    texts: dict[str, Labels]
    score_N: FloatQ
    cost_N: FloatQ
    other: Mapping[str, FloatQ]

    @cached_property
    def keyed(self) -> IntQ:
        """The positions of these rows in the file; what is named `_N` below is for these alone."""
        return np.flatnonzero(np.logical_and.reduce([self.texts[name].code_N >= 0 for name in _KEY]))

    def code(self, name: str) -> IntQ:
        """The code of each row's text in a column."""
        return self.texts[name].code_N[self.keyed]

    def labels(self, name: str, rows: IntQ) -> list[str]:
        """The texts of some rows in a column."""
        return [self.texts[name].labels[code] for code in self.code(name)[rows]]

    def _keys(self, names: Sequence[str], rows: IntQ) -> list[tuple[str, ...]]:
        return list(zip(*(self.labels(name, rows) for name in names), strict=True))

    @cached_property
    def query(self) -> Groups:
        return _grouped(self.code("split"), self.code("task"), self.code("query_id"))

    @cached_property
    def arm(self) -> Groups:
        return _grouped(self.code("model"), self.code("strategy"))

    @cached_property
    def outcome(self) -> Groups:
        return _grouped(self.query.group_N, self.arm.group_N)

    @property
    def shape(self) -> tuple[int, int]:
        """Q and A."""
        return len(self.query.first), len(self.arm.first)

    def _number(self, row: int) -> str:
        return f"{self.columns.number_N[self.keyed[row]]:,}"

    def _name(self, row: int, *names: str) -> str:
        return " ".join(show(self.labels(name, np.array([row]))[0], 30) for name in names)

    @property
    def unscored(self) -> int:
        """The number of rows without a score, which say nothing of an outcome."""
        return int(np.isnan(self.score_N[self.keyed]).sum())

    def unscored_QA(self, scored: Rows) -> BoolQA | None:
        """Where the rows with a score have a query and an arm, and a row here has none; None where there is none."""
        lost = np.flatnonzero(np.isnan(self.score_N[self.keyed]))
        query_of = {key: index for index, key in enumerate(scored._keys(_QUERY, scored.query.first))}
        arm_of = {key: index for index, key in enumerate(scored._keys(_ARM, scored.arm.first))}
        found_QA = np.zeros(scored.shape, dtype=bool)
        for query, arm in zip(self._keys(_QUERY, lost), self._keys(_ARM, lost), strict=True):
            if query in query_of and arm in arm_of:
                found_QA[query_of[query], arm_of[arm]] = True
        return found_QA if found_QA.any() else None

    def scored(self) -> Rows:
        """The rows with a score."""
        kept_N = ~np.isnan(self.score_N)
        texts = {
            name: Labels(np.where(kept_N, column.code_N, -1), column.labels) for name, column in self.texts.items()
        }
        return replace(self, texts=texts)

    def key_problems(self) -> list[str]:
        """What is wrong with the rows taken together: outcomes given twice, queries with two prompts."""
        return [*self._repeated(), *self._two_prompts()] if len(self.keyed) else []

    def problems(self) -> list[str]:
        """What is wrong with the outcomes that the rows make."""
        return [*self._single_choices(), *self._too_sparse()] if len(self.keyed) else []

    def _repeated(self) -> list[str]:
        sample = self.columns.columns.get("sample")
        codes = (self.outcome.group_N,) if sample is None else (self.outcome.group_N, sample.code_N[self.keyed])
        draw_N, first = _grouped(*codes)
        again = np.setdiff1d(np.arange(len(draw_N)), first)
        if not len(again):
            return []
        row, earlier = again[0], first[draw_N[again[0]]]
        name = self._name(row, "task", "query_id", "model", "strategy")
        draws = "number repeated draws in a column sample" if sample is None else "give each draw its own sample"
        return [
            f"an outcome is given again in {counted(len(again), 'row')} (first: row {self._number(row)} repeats row "
            f"{self._number(earlier)}: {name}): keep one, or {draws}"
        ]

    def _two_prompts(self) -> list[str]:
        prompt_N = self.code("prompt")
        known = np.flatnonzero(prompt_N >= 0)
        if not len(known):
            return []
        query_N = self.query.group_N[known]
        first = _grouped(query_N, prompt_N[known]).first
        queries, n_prompts = np.unique(query_N[first], return_counts=True)
        torn = queries[n_prompts > 1]
        if not len(torn):
            return []
        row, other = np.sort(known[first[query_N[first] == torn[0]]])[:2]
        return [
            f"more than one prompt in {counted(len(torn), 'query')} (first: {self._name(row, 'task', 'query_id')}, "
            f"rows {self._number(row)} and {self._number(other)}): give each prompt a query_id of its own"
        ]

    @property
    def logged(self) -> bool:
        """Whether the file is a log of single choices, alone or mixed with queries of which several arms were asked."""
        return self._choices.is_log

    @cached_property
    def _choices(self) -> Choices:
        column = self.columns.columns.get("propensity")
        given = column is not None and not all(map(unknown, column.values))
        arms_Q = np.bincount(self.query.group_N[self.outcome.first])
        drawn_N = self._propensities[0][self.keyed] < 1
        return Choices(arms_Q, self.shape[1], given, np.bincount(self.query.group_N, drawn_N) > 0)

    def _single_choices(self) -> list[str]:
        if not self.logged:
            return self._choices.problems()
        problems = list(self._propensities[1])
        single_N = self._choices.arms_Q[self.query.group_N] == 1
        lacking = np.flatnonzero(single_N & np.isnan(self._propensities[0][self.keyed]))
        if len(lacking) and not problems:
            problems.append(
                f"propensity is missing in {len(lacking):,} of {len(self.keyed):,} rows (first: row "
                f"{self._number(lacking[0])}) of queries that show one arm"
            )
        if single_N.sum() > (self._choices.arms_Q == 1).sum():
            problems.append(
                "a log of single choices has one row a query, and here draws repeat (column sample): keep one"
            )
        return problems

    @property
    def propensity_Q(self) -> FloatQ:
        """The probability with which each query's arm was chosen, in a log; 1 where several arms were asked."""
        drawn_Q = self._propensities[0][self.keyed][self.query.first]
        return np.where(self._choices.arms_Q == 1, drawn_Q, 1.0)

    @cached_property
    def _propensities(self) -> tuple[FloatQ, list[str]]:
        """Those of the whole file (NaN where there is none), and what is wrong in them."""
        problems: list[str] = []
        return propensities(self.columns, problems), problems

    def _too_sparse(self) -> list[str]:
        n_queries, n_arms = self.shape
        if n_queries * n_arms <= MOST_CELLS:
            return []
        return [
            f"{n_queries:,} queries x {n_arms:,} arms are more than the {MOST_CELLS:,} outcomes that can be held: "
            "are model and strategy names, with few distinct values?"
        ]

    def features(self, names: Sequence[str], problems: list[str]) -> ObjectQ | None:
        """What the columns `feature_*` say of each query, by what follows the prefix; None without such columns.

        A value that is not known is absent. Adds to `problems` where one query has several values.
        """
        if not names:
            return None
        feature_Q = np.array([{} for _ in self.query.first], dtype=object)
        for name in names:
            column = self.columns.columns[name]
            text_V = [feature_text(value) for value in column.values]
            seen: dict[int, str | None] = {}
            torn: dict[int, None] = {}
            for query, code in zip(self.query.group_N, column.code_N[self.keyed], strict=True):
                if seen.setdefault(query, text_V[code]) != text_V[code]:
                    torn[query] = None
            if torn:
                query = self._name(self.query.first[next(iter(torn))], "task", "query_id")
                problems.append(f"{name} has more than one value in {counted(len(torn), 'query')} (first: {query})")
            for query, text in seen.items():
                if text is not None:
                    feature_Q[query][name.removeprefix(FEATURE_PREFIX)] = text
        return feature_Q

    def summary(self) -> tuple[str, ...]:
        """Counts and coverage, one line each."""
        lines = [f"rows: {len(self.columns.number_N):,}"]
        if len(self.keyed):
            n_queries, n_arms = self.shape
            first_Q = self.query.first
            n_outcomes = len(self.outcome.first)
            splits = self.labels("split", first_Q)
            lines += [
                f"queries: {n_queries:,}",
                f"arms: {n_arms:,}",
                f"tasks: {tallied(self.labels('task', first_Q))}",
                f"splits: {tallied(splits) if self.texts['split'].labels != [''] else 'none'}",
                f"observed: {share(n_outcomes, n_queries * n_arms)} of {n_queries * n_arms:,} outcomes",
                f"cost known: {share(int((~np.isnan(self.cost_N)).sum()), len(self.cost_N))} of the rows",
                *([self._log()] if self.logged else []),
            ]
        return tuple(lines)

    def _log(self) -> str:
        several = int((self._choices.arms_Q > 1).sum())
        if not several:
            return "a log of single choices: one arm a query, with its propensity"
        return (
            f"a log of single choices: one arm a query, with its propensity, but for {counted(several, 'query')} that "
            "show several arms"
        )

    def notes(self) -> list[str]:
        """What the dense view no longer shows: repeated draws."""
        draws = np.bincount(self.outcome.group_N)
        if draws.max() == 1:
            return []
        return [
            f"{int((draws > 1).sum()):,} of {len(draws):,} outcomes have several draws (sample, up to {draws.max()}): "
            "score and cost are means over them"
        ]
