"""Columns to texts and numbers: each value is checked, and what is wrong is said once for each reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from recal_bench.arrays import BoolN, CodeN, FloatQ
from recal_bench.outcomes.coding import Column, Numbers
from recal_bench.outcomes.columns import Columns
from recal_bench.outcomes.reading import WHOLE_RANGE, Reading
from recal_bench.outcomes.schema import LATENCY, WITHOUT
from recal_bench.wording import show, some_of

DEAREST_USD = 1e6
NO_NUMBER = frozenset(("", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"))
"""What programs write for a number that is not known, in lower case."""
_SCALE = "--score-range LO,HI names the ends of another scale, as in 1,5 or 0,100"
QUERY, ARM = ("split", "task", "query_id"), ("model", "strategy")
_TEXTS = (*QUERY, "prompt", *ARM)


@dataclass(frozen=True)
class Labels:
    """A column of text: `labels[code_N[row]]`, distinct; the code is -1 where the row has no usable text.

    Labels are sorted, but for prompts, whose order nothing depends on.
    """

    code_N: CodeN
    labels: list[str]


class Limits(NamedTuple):
    """What numbers a column may hold. `truths`: true and false are 1 and 0; `above_zero`: it names the chosen arm."""

    least: float
    most: float
    truths: bool = False
    above_zero: bool = False


def texts(columns: Columns, problems: list[str]) -> dict[str, Labels]:
    """The columns that a query and an arm are named by; adds what is wrong in them to `problems`.

    Of those that a file may leave out (`schema.WITHOUT`) every row has the same text there.
    """
    return {name: _labels(name, columns, problems) for name in _TEXTS}


def numbers(columns: Columns, problems: list[str], reading: Reading) -> tuple[FloatQ, FloatQ]:
    """Score (0..1) and cost (USD) of each row, NaN where unknown; adds what is wrong in them to `problems`."""
    low, high = reading.score_range
    whole = reading.score_range == WHOLE_RANGE
    found: list[str] = []
    score_N = _numbers("score", columns, Limits(low, high, truths=whole), found)
    problems += [f"{line}: {_SCALE}" if "is outside" in line else line for line in found]
    cost_N = _numbers("cost_usd", columns, Limits(0.0, DEAREST_USD), problems)
    return score_N if whole else (score_N - low) / (high - low), cost_N


def other_numbers(names: Sequence[str], columns: Columns, problems: list[str]) -> dict[str, FloatQ]:
    """Other columns that are asked for, as numbers (NaN where unknown); adds what is wrong in them to `problems`."""
    for name in names:
        if name not in columns.names:
            problems.append(f"column {show(name)} is asked for and not there (it has {some_of(columns.names, 20)})")
    return {name: _numbers(name, columns, Limits(-math.inf, math.inf), problems) for name in names}


def latencies(columns: Columns, notes: list[str]) -> dict[str, FloatQ]:
    """The column of latencies, where there is one. Where it does not hold seconds it is left out, with a note."""
    if LATENCY not in columns.names:
        return {}
    problems: list[str] = []
    found = _numbers(LATENCY, columns, Limits(0.0, math.inf), problems)
    if problems:
        notes.append(f"latencies are not used: {problems[0]}")
        return {}
    return {} if np.isnan(found).all() else {LATENCY: found}


def propensities(columns: Columns, problems: list[str]) -> FloatQ:
    """The probability with which each row's arm was chosen; adds what is wrong in them to `problems`."""
    return _numbers("propensity", columns, Limits(0.0, 1.0, above_zero=True), problems)


def _labels(name: str, columns: Columns, problems: list[str]) -> Labels:
    column = columns.columns.get(name)
    assert not isinstance(column, Numbers)
    reasons = _text_reasons(name, column.values) if column else {}
    empty = column is None or (len(reasons) == len(column.values) and set(reasons.values()) <= {"is empty"})
    if name in WITHOUT and (name not in columns.names or (name == "split" and empty)):
        return Labels(np.zeros(columns.n_rows, dtype=np.int32), [WITHOUT[name]])
    if column is None:
        return Labels(np.full(columns.n_rows, -1, dtype=np.int32), [])
    for reason in dict.fromkeys(reasons.values()):
        hit_V = np.zeros(len(column.values), dtype=bool)
        hit_V[[code for code, each in reasons.items() if each == reason]] = True
        problems += _explain(name, columns, column, [(reason, hit_V[column.code_N])])
    if not reasons and set(map(type, column.values)) == {str}:
        found = labels = list(column.values)
        if name == "prompt":
            return Labels(column.code_N, labels)
    else:
        found = [None if code in reasons else str(value) for code, value in enumerate(column.values)]
        labels = list(dict.fromkeys(text for text in found if text is not None))
    labels = labels if name == "prompt" else sorted(labels)
    rank: dict[str | None, int] = {label: code for code, label in enumerate(labels)}
    code_V = np.array([*map(rank.get, found, [-1] * len(found))], dtype=np.int32)
    return Labels(code_V[column.code_N], labels)


def _text_reasons(name: str, values: Sequence[Any]) -> dict[int, str]:
    """Why values are no usable text, by their places."""
    if _all_usable(name, values):
        return {}
    return {place: reason for place, value in enumerate(values) if (reason := _text_reason(name, value))}


def _all_usable(name: str, values: Sequence[Any]) -> bool:
    """Whether `_text_reason` has nothing against any of the values, told of all at once; false where it may have."""
    if set(map(type, values)) != {str} or not all(map(str.strip, values)):
        return False
    whole = "".join(values)
    try:
        whole.encode()
    except UnicodeEncodeError:
        return False
    return name not in ARM or "|" not in whole


def _text_reason(name: str, value: Any) -> str:
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return "is empty"
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        return f"is not text ({type(value).__name__})"
    if name in ARM and "|" in str(value):
        return 'holds "|", which separates model and strategy in the name of an arm,'
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return ""


def _numbers(name: str, columns: Columns, limits: Limits, problems: list[str]) -> FloatQ:
    column = columns.columns.get(name)
    if column is None:
        return np.full(columns.n_rows, np.nan)
    value_V, odd_V = _floats(column, limits.truths)
    value_N: FloatQ = value_V if isinstance(column, Numbers) else value_V[column.code_N]
    odd_N = odd_V if isinstance(column, Numbers) else odd_V[column.code_N]
    with np.errstate(invalid="ignore"):
        outside_N = (value_N < limits.least) | (value_N > limits.most)
    infinite_N, none_N = np.isinf(value_N), value_N == 0 if limits.above_zero else np.zeros_like(odd_N)
    found = [
        ("is not a number", odd_N),
        ("is infinite", infinite_N),
        (f"is outside {limits.least:,g}..{limits.most:,.10g}", outside_N & ~infinite_N),
        ("is 0, though the arm was chosen,", none_N),
    ]
    problems += _explain(name, columns, column, found)
    bad_N = outside_N | infinite_N | none_N
    return np.where(bad_N, np.nan, value_N) if bad_N.any() else value_N


def _floats(column: Column, truths: bool) -> tuple[FloatQ, BoolN]:
    """What a column holds as numbers, NaN where there is none, and where something else stands, row by row.

    Of a coded column value by value. A number that is too large for a float is infinite. `truths`: true is 1.
    """
    if isinstance(column, Numbers):
        odd_N = ~column.null_N if column.value_N.dtype == bool and not truths else np.zeros_like(column.null_N)
        value_N = column.value_N.astype(np.float64, copy=False)
        unknown_N = odd_N | column.null_N
        return np.where(unknown_N, np.nan, value_N) if unknown_N.any() else value_N, odd_N
    found = [_float(value, truths) for value in column.values]
    odd_V = np.array([number is None for number in found], dtype=bool)
    return np.array([math.nan if number is None else number for number in found], dtype=np.float64), odd_V


def _float(value: Any, truths: bool) -> float | None:
    """A value as a number, NaN where it says that none is known, None where it is something else."""
    if type(value) is float:
        return value
    if unknown(value):
        return math.nan
    if isinstance(value, (str, bytes)) or (isinstance(value, bool) and not truths):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
    except OverflowError:
        return math.inf


def given(column: Column) -> bool:
    """Whether any row of a column of numbers has something there."""
    if isinstance(column, Numbers):
        return not column.null_N.all()
    return not all(map(unknown, column.values))


def unknown(value: Any) -> bool:
    """Whether a value of a column of numbers says that the number is not known."""
    return value is None or (isinstance(value, str) and value.strip().lower() in NO_NUMBER)


def feature_text(value: Any) -> str | None:
    """What a feature's value is called, whatever type a file gives it; None where it is not known."""
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers with gaps is one of floats
    return str(value).strip() or None


def _explain(name: str, columns: Columns, column: Column, found: Sequence[tuple[str, BoolN]]) -> list[str]:
    """One line for each reason why rows of a column are unusable, with their number and the first of them."""
    lines: dict[int, str] = {}
    for reason, hit_N in found:
        if hit_N.any():
            row = int(np.argmax(hit_N))
            value = column.at(row)
            shown = "" if value is None else f": {show(value)}"
            count = f"{int(hit_N.sum()):,} of {columns.n_rows:,} rows"
            lines[row] = f"{name} {reason} in {count} (first: row {columns.place(row)}{shown})"
    return [lines[row] for row in sorted(lines)]
