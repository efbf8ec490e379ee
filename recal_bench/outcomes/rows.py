"""Columns to outcomes: the checks of values and keys, and the dense view. N rows of the file, Q queries, A arms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from recal_bench.arrays import FloatQ, FloatQA, IntQ, ObjectQA
from recal_bench.outcomes import single_choices
from recal_bench.outcomes.columns import Column, Columns
from recal_bench.outcomes.dense import Arm, Outcomes, content_hash
from recal_bench.wording import counted, share, show

DEAREST_USD = 1e6
MOST_CELLS = 50_000_000
_TEXTS = ("split", "task", "query_id", "prompt", "model", "strategy")


@dataclass(frozen=True)
class Labels:
    """A column of text: `labels[code_N[row]]`, labels sorted; the code is -1 where the row has no usable text."""

    code_N: IntQ
    labels: list[str]


def texts(columns: Columns, problems: list[str]) -> dict[str, Labels]:
    """The text columns by name; adds what is wrong in them to `problems`."""
    return {name: _labels(name, columns, problems) for name in _TEXTS}


def numbers(columns: Columns, problems: list[str]) -> tuple[FloatQ, FloatQ]:
    """Score and cost (USD; NaN where unknown) of each row; adds what is wrong in them to `problems`."""
    return (
        _numbers("score", columns, partial(_number_reason, most=1.0, needed=True), problems),
        _numbers("cost_usd", columns, partial(_number_reason, most=DEAREST_USD, needed=False), problems),
    )


def other_numbers(names: Sequence[str], columns: Columns, problems: list[str]) -> dict[str, FloatQ]:
    """Other columns that are asked for, as numbers (NaN where unknown); adds what is wrong in them to `problems`."""
    for name in names:
        if name not in columns.names:
            problems.append(f"column {show(name)} is asked for and not there (it has {', '.join(columns.names)})")
    return {name: _numbers(name, columns, _finite_reason, problems) for name in names}


def _finite_reason(value: Any) -> str:
    return _number_reason(value, least=-math.inf, most=math.inf, needed=False)


def _propensity_reason(value: Any) -> str:
    return _number_reason(value, most=1.0, needed=True) or ("is 0, though the arm was chosen," if value == 0 else "")


def _labels(name: str, columns: Columns, problems: list[str]) -> Labels:
    column = columns.columns.get(name)
    reasons = [_text_reason(name, value) for value in column.values] if column else []
    if name == "split" and set(reasons) <= {"is empty"}:
        return Labels(np.zeros(len(columns.number_N), dtype=np.int64), [""])
    if column is None:
        return Labels(np.full(len(columns.number_N), -1), [])
    problems += _explain(name, columns, column, reasons)
    labels = sorted({str(value) for value, reason in zip(column.values, reasons, strict=True) if not reason})
    rank = {label: code for code, label in enumerate(labels)}
    code_V = [-1 if reason else rank[str(value)] for value, reason in zip(column.values, reasons, strict=True)]
    return Labels(np.array(code_V, dtype=np.int64)[column.code_N], labels)


def _text_reason(name: str, value: Any) -> str:
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return "is empty"
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        return f"is not text ({type(value).__name__})"
    if name in ("model", "strategy") and "|" in str(value):
        return 'holds "|", which stands between model and strategy in the name of an arm,'
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return ""


def _numbers(name: str, columns: Columns, reason_of: Callable[[Any], str], problems: list[str]) -> FloatQ:
    column = columns.columns.get(name)
    if column is None:
        return np.full(len(columns.number_N), np.nan)
    reasons = [reason_of(value) for value in column.values]
    problems += _explain(name, columns, column, reasons)
    value_V = [math.nan if r or v is None else float(v) for v, r in zip(column.values, reasons, strict=True)]
    value_N: FloatQ = np.array(value_V, dtype=np.float64)[column.code_N]
    return value_N


def _number_reason(value: Any, most: float, needed: bool, least: float = 0.0) -> str:
    if isinstance(value, (str, bytes, bool)):
        return "is not a number"
    try:
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError):
        return "is not a number"
    except OverflowError:
        number = math.inf
    if math.isnan(number):
        return "is missing" if needed else ""
    if math.isinf(number):
        return "is infinite"
    return "" if least <= number <= most else f"is outside 0..{most:,.0f}"


def _explain(name: str, columns: Columns, column: Column, reasons: list[str]) -> list[str]:
    """One line for each reason why values of a column are unusable, with the count and the first row."""
    lines = []
    for reason in dict.fromkeys(filter(None, reasons)):
        hit_V = np.array([each == reason for each in reasons])
        rows = np.flatnonzero(hit_V[column.code_N])
        if len(rows):
            value = column.values[column.code_N[rows[0]]]
            shown = "" if value is None else f": {show(value)}"
            count = f"{len(rows):,} of {len(column.code_N):,} rows"
            lines.append(f"{name} {reason} in {count} (first: row {columns.number_N[rows[0]]:,}{shown})")
    return lines


def _group(*code: IntQ) -> tuple[IntQ, IntQ]:
    """Numbers the distinct combinations of codes in their lexicographic order; with the first row of each."""
    group_N, first = np.zeros(len(code[0]), dtype=np.int64), np.zeros(0, dtype=np.int64)
    for code_N in code:
        key_N = group_N * (code_N.max(initial=0) + 1) + code_N
        _, first, group_N = np.unique(key_N, return_index=True, return_inverse=True)
    return group_N.astype(np.int64), first.astype(np.int64)


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
        names = ("split", "task", "query_id", "model", "strategy")
        return np.flatnonzero(np.logical_and.reduce([self.texts[name].code_N >= 0 for name in names]))

    def _code(self, name: str) -> IntQ:
        return self.texts[name].code_N[self.keyed]

    def _label(self, name: str, rows: IntQ) -> list[str]:
        return [self.texts[name].labels[code] for code in self._code(name)[rows]]

    @cached_property
    def _query(self) -> tuple[IntQ, IntQ]:
        return _group(self._code("split"), self._code("task"), self._code("query_id"))

    @cached_property
    def _arm(self) -> tuple[IntQ, IntQ]:
        return _group(self._code("model"), self._code("strategy"))

    @cached_property
    def _outcome(self) -> tuple[IntQ, IntQ]:
        return _group(self._query[0], self._arm[0])

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self._query[1]), len(self._arm[1])

    def _number(self, row: int) -> str:
        return f"{self.columns.number_N[self.keyed[row]]:,}"

    def _name(self, row: int, *names: str) -> str:
        return " ".join(show(self._label(name, np.array([row]))[0], 30) for name in names)

    def problems(self) -> list[str]:
        """What is wrong with the rows taken together."""
        if not len(self.keyed):
            return []
        return [*self._repeated(), *self._two_prompts(), *self._single_choices(), *self._too_sparse()]

    def _repeated(self) -> list[str]:
        sample = self.columns.columns.get("sample")
        codes = (self._outcome[0],) if sample is None else (self._outcome[0], sample.code_N[self.keyed])
        draw_N, first = _group(*codes)
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
        prompt_N = self._code("prompt")
        known = np.flatnonzero(prompt_N >= 0)
        if not len(known):
            return []
        query_N = self._query[0][known]
        _, first = _group(query_N, prompt_N[known])
        queries, n_prompts = np.unique(query_N[first], return_counts=True)
        torn = queries[n_prompts > 1]
        if not len(torn):
            return []
        row, other = np.sort(known[first[query_N[first] == torn[0]]])[:2]
        return [
            f"more than one prompt in {counted(len(torn), 'query')} (first: {self._name(row, 'task', 'query_id')}, "
            f"rows {self._number(row)} and {self._number(other)}): give each prompt a query_id of its own"
        ]

    @cached_property
    def logged(self) -> bool:
        """Whether the file is a log of single choices: propensities, several arms, one row a query."""
        return single_choices.is_log(*self._choices)

    @cached_property
    def _choices(self) -> tuple[IntQ, int, bool]:
        """The number of arms that each query shows, of all arms, and whether there are propensities."""
        column = self.columns.columns.get("propensity")
        drawn = column is not None and any(value is not None for value in column.values)
        return np.bincount(self._query[0][self._outcome[1]]), self._shape[1], drawn

    def _single_choices(self) -> list[str]:
        if not self.logged:
            return single_choices.problems(*self._choices)
        problems = list(self._propensities[1])
        if len(self.keyed) > self._shape[0]:
            problems.append(
                "a log of single choices has one row a query, and here draws repeat (column sample): keep one"
            )
        return problems

    @cached_property
    def _propensities(self) -> tuple[FloatQ, list[str]]:
        """The probability with which each row's arm was chosen, and what is wrong in them."""
        problems: list[str] = []
        return _numbers("propensity", self.columns, _propensity_reason, problems), problems

    def _too_sparse(self) -> list[str]:
        n_queries, n_arms = self._shape
        if n_queries * n_arms <= MOST_CELLS:
            return []
        return [
            f"{n_queries:,} queries x {n_arms:,} arms are more than the {MOST_CELLS:,} outcomes that can be held: "
            "are model and strategy names, with few distinct values?"
        ]

    def summary(self) -> tuple[str, ...]:
        """Counts and coverage, one line each."""
        lines = [f"rows: {len(self.columns.number_N):,}"]
        if len(self.keyed):
            n_queries, n_arms = self._shape
            first_Q = self._query[1]
            n_outcomes = len(self._outcome[1])
            lines += [
                f"queries: {n_queries:,}",
                f"arms: {n_arms:,}",
                f"tasks: {_counts(self._label('task', first_Q))}",
                f"splits: {_counts(self._label('split', first_Q)) if self.texts['split'].labels != [''] else 'none'}",
                f"observed: {share(n_outcomes, n_queries * n_arms)} of {n_queries * n_arms:,} outcomes",
                f"cost known: {share(int((~np.isnan(self.cost_N)).sum()), len(self.cost_N))} of the rows",
                *(["a log of single choices: one arm a query, with its propensity"] if self.logged else []),
            ]
        return tuple(lines)

    def notes(self) -> list[str]:
        """What the dense view no longer shows: repeated draws."""
        draws = np.bincount(self._outcome[0])
        if draws.max() == 1:
            return []
        return [
            f"{int((draws > 1).sum()):,} of {len(draws):,} outcomes have several draws (sample, up to {draws.max()}): "
            "score and cost are means over them"
        ]

    def dense(self, name: str) -> Outcomes:
        """The dense view, of a file without problems."""
        first_Q, first_A = self._query[1], self._arm[1]
        column = {each: np.array(self._label(each, first_Q), dtype=object) for each in _TEXTS[:4]}
        arms = map(Arm, self._label("model", first_A), self._label("strategy", first_A))
        outcomes = Outcomes(
            column["task"],
            column["query_id"],
            column["prompt"],
            column["split"],
            tuple(arms),
            self._mean(self.score_N),
            self._mean(self.cost_N),
            name,
            data_hash="",
            response_QA=self._responses(),
            propensity_Q=self._propensities[0][self.keyed[first_Q]] if self.logged else None,
            column_QA={name: self._mean(value_N) for name, value_N in self.other.items()},
        )
        return replace(outcomes, data_hash=content_hash(outcomes))

    def _responses(self) -> ObjectQA | None:
        """The text of each outcome, None where it has none; of several draws the one that comes first by its text."""
        column = self.columns.columns.get("response")
        if column is None:
            return None
        n_queries, n_arms = self._shape
        cell_N = self._query[0] * n_arms + self._arm[0]
        texts = [value if isinstance(value, str) else None for value in column.values]
        order_V = np.argsort(np.argsort(np.array([text or "" for text in texts], dtype=object), kind="stable"))
        code_N = column.code_N[self.keyed]
        last_first_N = np.lexsort((-order_V[code_N], cell_N))
        response_C = np.full(n_queries * n_arms, None, dtype=object)
        for row in last_first_N:
            response_C[cell_N[row]] = texts[code_N[row]]
        return response_C.reshape(n_queries, n_arms)

    def _mean(self, value_N: FloatQ) -> FloatQA:
        """Mean over the rows of an outcome; NaN where there is none or one of them is NaN."""
        n_queries, n_arms = self._shape
        cell_N = self._query[0] * n_arms + self._arm[0]
        # Summed in the order of the values, so that the order of the file does not show in the last digit.
        order = np.lexsort((value_N, cell_N))
        total = np.bincount(cell_N[order], weights=value_N[order], minlength=n_queries * n_arms)
        count = np.bincount(cell_N, minlength=n_queries * n_arms)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(n_queries, n_arms)


def _counts(labels: list[str]) -> str:
    names, counts = np.unique(np.array(labels, dtype=object), return_counts=True)
    return ", ".join(f"{show(name)} ({count:,})" for name, count in zip(names, counts, strict=True))
