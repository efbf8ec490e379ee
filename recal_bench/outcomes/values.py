"""Columns to texts and numbers: each value is checked, and what is wrong is said once for each reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from recal_bench.arrays import FloatQ, IntQ
from recal_bench.outcomes.columns import Column, Columns
from recal_bench.outcomes.reading import WHOLE_RANGE, Reading
from recal_bench.outcomes.schema import LATENCY, WITHOUT
from recal_bench.wording import show, some_of

DEAREST_USD = 1e6
NO_NUMBER = frozenset(("", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"))
"""What programs write for a number that is not known, in lower case."""
_SCALE = "--score-range LO,HI names the ends of another scale, as in 1,5 or 0,100"
_TEXTS = ("split", "task", "query_id", "prompt", "model", "strategy")


@dataclass(frozen=True)
class Labels:
    """A column of text: `labels[code_N[row]]`, labels sorted; the code is -1 where the row has no usable text."""

    code_N: IntQ
    labels: list[str]


def texts(columns: Columns, problems: list[str]) -> dict[str, Labels]:
    """The columns that a query and an arm are named by; adds what is wrong in them to `problems`.

    Of those that a file may leave out (`schema.WITHOUT`) every row has the same text there.
    """
    return {name: _labels(name, columns, problems) for name in _TEXTS}


def numbers(columns: Columns, problems: list[str], reading: Reading) -> tuple[FloatQ, FloatQ]:
    """Score (0..1) and cost (USD) of each row, NaN where unknown; adds what is wrong in them to `problems`."""
    low, high = reading.score_range
    found: list[str] = []
    score_N = _numbers("score", columns, partial(_score_reason, low=low, high=high), found)
    problems += [f"{line}: {_SCALE}" if "is outside" in line else line for line in found]
    cost_N = _numbers("cost_usd", columns, partial(_number_reason, least=0.0, most=DEAREST_USD), problems)
    return (score_N - low) / (high - low), cost_N


def other_numbers(names: Sequence[str], columns: Columns, problems: list[str]) -> dict[str, FloatQ]:
    """Other columns that are asked for, as numbers (NaN where unknown); adds what is wrong in them to `problems`."""
    for name in names:
        if name not in columns.names:
            problems.append(f"column {show(name)} is asked for and not there (it has {some_of(columns.names, 20)})")
    return {name: _numbers(name, columns, _finite_reason, problems) for name in names}


def latencies(columns: Columns, notes: list[str]) -> dict[str, FloatQ]:
    """The column of latencies, where there is one. Where it does not hold seconds it is left out, with a note."""
    if LATENCY not in columns.names:
        return {}
    problems: list[str] = []
    found = _numbers(LATENCY, columns, _seconds_reason, problems)
    if problems:
        notes.append(f"latencies are not used: {problems[0]}")
        return {}
    return {} if np.isnan(found).all() else {LATENCY: found}


def propensities(columns: Columns, problems: list[str]) -> FloatQ:
    """The probability with which each row's arm was chosen; adds what is wrong in them to `problems`."""
    return _numbers("propensity", columns, _propensity_reason, problems)


def _finite_reason(value: Any) -> str:
    return _number_reason(value, least=-math.inf, most=math.inf)


def _seconds_reason(value: Any) -> str:
    return _number_reason(value, least=0.0, most=math.inf)


def _propensity_reason(value: Any) -> str:
    return _number_reason(value, least=0.0, most=1.0) or ("is 0, though the arm was chosen," if value == 0 else "")


def _score_reason(value: Any, low: float, high: float) -> str:
    if isinstance(value, bool) and (low, high) == WHOLE_RANGE:
        return ""
    return _number_reason(value, least=low, most=high)


def _labels(name: str, columns: Columns, problems: list[str]) -> Labels:
    column = columns.columns.get(name)
    reasons = [_text_reason(name, value) for value in column.values] if column else []
    if name in WITHOUT and (name not in columns.names or (name == "split" and set(reasons) <= {"is empty"})):
        return Labels(np.zeros(len(columns.number_N), dtype=np.int64), [WITHOUT[name]])
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
        return 'holds "|", which separates model and strategy in the name of an arm,'
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
    value_V = [math.nan if r or unknown(v) else float(v) for v, r in zip(column.values, reasons, strict=True)]
    value_N: FloatQ = np.array(value_V, dtype=np.float64)[column.code_N]
    return value_N


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


def _number_reason(value: Any, least: float, most: float) -> str:
    if unknown(value):
        return ""
    if isinstance(value, (str, bytes, bool)):
        return "is not a number"
    try:
        number = float(value)
    except (TypeError, ValueError):
        return "is not a number"
    except OverflowError:
        number = math.inf
    if math.isnan(number):
        return ""
    if math.isinf(number):
        return "is infinite"
    return "" if least <= number <= most else f"is outside {least:,g}..{most:,.10g}"


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
