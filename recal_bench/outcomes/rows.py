"""The rows of an outcomes file, and what is wrong with them taken together.

N rows with a usable key, Q queries, A arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recal_bench.arrays import BoolQA, FloatQ, ObjectQ
from recal_bench.outcomes.coding import Coded
from recal_bench.outcomes.columns import Columns
from recal_bench.outcomes.keys import Keys, grouped
from recal_bench.outcomes.schema import FEATURE_PREFIX
from recal_bench.outcomes.single_choices import Choices
from recal_bench.outcomes.values import feature_text, given, propensities
from recal_bench.wording import counted, share, show, tallied_counts

MOST_CELLS = 50_000_000


@dataclass(frozen=True)
class Rows:
    """The rows of a file by their keys, with what stands in them; arrays here are over all rows of the file."""

    columns: Columns
    keys: Keys
    score_N: FloatQ
    cost_N: FloatQ
    other: Mapping[str, FloatQ]

    def _place(self, row: int) -> str:
        return self.columns.place(int(self.keys.place_N[row]))

    def _name(self, row: int, *names: str) -> str:
        return " ".join(show(self.keys.labels(name, [row])[0], 30) for name in names)

    @cached_property
    def unscored(self) -> int:
        """The number of rows without a score, which say nothing of an outcome."""
        return int(np.isnan(self.keys.of(self.score_N)).sum())

    def unscored_QA(self, scored: Keys) -> BoolQA | None:
        """Where the rows with a score have a query and an arm, and a row here has none; None where there is none."""
        if not self.unscored:
            return None
        lost = np.flatnonzero(np.isnan(self.keys.of(self.score_N)))
        place = []
        for here, there in ((self.keys.query, scored.query), (self.keys.arm, scored.arm)):
            # The first row of each group there is one of the rows here, which tells the group's number here.
            row_there = np.searchsorted(self.keys.place_N, scored.place_N[there.first])
            group_there = np.full(len(here.first), -1)
            group_there[here.group_N[row_there]] = np.arange(len(there.first))
            place.append(group_there[here.group_N[lost]])
        both = (place[0] >= 0) & (place[1] >= 0)
        found_QA = np.zeros(scored.shape, dtype=bool)
        found_QA[place[0][both], place[1][both]] = True
        return found_QA if both.any() else None

    def key_problems(self) -> list[str]:
        """What is wrong with the rows taken together: outcomes given twice, queries with two prompts."""
        return [*self._repeated(), *self._two_prompts()] if len(self.keys) else []

    def problems(self) -> list[str]:
        """What is wrong with the outcomes that the rows make."""
        return [*self._single_choices(), *self._too_sparse()] if len(self.keys) else []

    def _repeated(self) -> list[str]:
        sample = self.columns.columns.get("sample")
        outcome = self.keys.outcome
        draw = outcome if sample is None else grouped(outcome.group_N, self.keys.of(sample.code_N))
        n_again = len(self.keys) - len(draw.first)
        if not n_again:
            return []
        again_N = np.ones(len(draw.group_N), dtype=bool)
        again_N[draw.first] = False
        row = int(np.argmax(again_N))
        name = self._name(row, "task", "query_id", "model", "strategy")
        draws = "number repeated draws in a column sample" if sample is None else "give each draw its own sample"
        return [
            f"an outcome is given again in {counted(n_again, 'row')} (first: row {self._place(row)} repeats row "
            f"{self._place(draw.first[draw.group_N[row]])}: {name}): keep one, or {draws}"
        ]

    def _two_prompts(self) -> list[str]:
        prompt_N, query_N = self.keys.code("prompt"), self.keys.query.group_N
        known = np.flatnonzero(prompt_N >= 0)
        first_Q = np.zeros(len(self.keys.query.first), dtype=np.int64)
        first_Q[query_N[known[::-1]]] = known[::-1]  # of several rows of one query, numpy keeps the last
        torn = known[prompt_N[known] != prompt_N[first_Q[query_N[known]]]]
        if not len(torn):
            return []
        queries = np.unique(query_N[torn])
        row, other = first_Q[queries[0]], torn[query_N[torn] == queries[0]][0]
        return [
            f"more than one prompt in {counted(len(queries), 'query')} (first: {self._name(row, 'task', 'query_id')}, "
            f"rows {self._place(row)} and {self._place(other)}): give each prompt a query_id of its own"
        ]

    @property
    def logged(self) -> bool:
        """Whether the file is a log of single choices, alone or mixed with queries of which several arms were asked."""
        return self._choices.is_log

    @cached_property
    def _choices(self) -> Choices:
        column = self.columns.columns.get("propensity")
        arms_Q = np.bincount(self.keys.query.group_N[self.keys.outcome.first])
        if column is None:
            return Choices(arms_Q, self.keys.shape[1], False, np.zeros(len(arms_Q), dtype=bool))
        drawn_N = self.keys.of(self._propensities[0]) < 1
        drawn_Q = np.bincount(self.keys.query.group_N, drawn_N) > 0
        return Choices(arms_Q, self.keys.shape[1], given(column), drawn_Q)

    def _single_choices(self) -> list[str]:
        if not self.logged:
            return self._choices.problems()
        problems = list(self._propensities[1])
        single_N = self._choices.arms_Q[self.keys.query.group_N] == 1
        lacking_N = single_N & np.isnan(self.keys.of(self._propensities[0]))
        if lacking_N.any() and not problems:
            problems.append(
                f"propensity is missing in {int(lacking_N.sum()):,} of {len(self.keys):,} rows (first: row "
                f"{self._place(int(np.argmax(lacking_N)))}) of queries that show one arm"
            )
        if single_N.sum() > (self._choices.arms_Q == 1).sum():
            problems.append(
                "a log of single choices has one row a query, and here draws repeat (column sample): keep one"
            )
        return problems

    @property
    def propensity_Q(self) -> FloatQ:
        """The probability with which each query's arm was chosen, in a log; 1 where several arms were asked."""
        drawn_Q = self.keys.of(self._propensities[0])[self.keys.query.first]
        return np.where(self._choices.arms_Q == 1, drawn_Q, 1.0)

    @cached_property
    def _propensities(self) -> tuple[FloatQ, list[str]]:
        """Those of the whole file (NaN where there is none), and what is wrong in them."""
        problems: list[str] = []
        return propensities(self.columns, problems), problems

    def _too_sparse(self) -> list[str]:
        n_queries, n_arms = self.keys.shape
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
        query = self.keys.query
        feature_Q = np.array([{} for _ in query.first], dtype=object)
        for name in names:
            column = self.columns.columns[name]
            assert isinstance(column, Coded)
            text_V = [feature_text(value) for value in column.values]
            rank = {text: code for code, text in enumerate(dict.fromkeys(text_V))}
            text_N = np.array([rank[text] for text in text_V], dtype=np.int32)[self.keys.of(column.code_N)]
            text_Q = text_N[query.first]
            torn = np.flatnonzero(text_N != text_Q[query.group_N])
            if len(torn):
                n_torn = len(np.unique(query.group_N[torn]))
                first = self._name(torn[0], "task", "query_id")
                problems.append(f"{name} has more than one value in {counted(n_torn, 'query')} (first: {first})")
            texts = list(rank)
            for row, code in enumerate(text_Q.tolist()):
                text = texts[code]
                if text is not None:
                    feature_Q[row][name.removeprefix(FEATURE_PREFIX)] = text
        return feature_Q

    def summary(self) -> tuple[str, ...]:
        """Counts and coverage, one line each."""
        lines = [f"rows: {self.columns.n_rows:,}"]
        if len(self.keys):
            n_queries, n_arms = self.keys.shape
            n_cells = n_queries * n_arms
            has_splits = self.keys.texts["split"].labels != [""]
            lines += [
                f"queries: {n_queries:,}",
                f"arms: {n_arms:,}",
                f"tasks: {self._tallied('task')}",
                f"splits: {self._tallied('split') if has_splits else 'none'}",
                f"observed: {share(len(self.keys.outcome.first), n_cells)} of {n_cells:,} outcomes",
                f"cost known: {share(int((~np.isnan(self.cost_N)).sum()), len(self.cost_N))} of the rows",
                *([self._log()] if self.logged else []),
            ]
        return tuple(lines)

    def _tallied(self, name: str) -> str:
        """How many queries have each text of a column."""
        labels = self.keys.texts[name].labels
        count_V = np.bincount(self.keys.code(name)[self.keys.query.first], minlength=len(labels)).tolist()
        return tallied_counts({label: count for label, count in zip(labels, count_V, strict=True) if count})

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
        if not self.keys.repeats:
            return []
        draws = np.bincount(self.keys.outcome.group_N)
        return [
            f"{int((draws > 1).sum()):,} of {len(draws):,} outcomes have several draws (sample, up to {draws.max()}): "
            "score and cost are means over them"
        ]
