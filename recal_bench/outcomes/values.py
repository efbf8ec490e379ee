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
from recal_bench.wording import show, some_of

DEAREST_USD = 1e6
_TEXTS = ("split", "task", "query_id", "prompt", "model", "strategy")


@dataclass(frozen=True)
class Labels:
    """A column of text: `labels[code_N[row]]`, labels sorted; the code is -1 where the row has no usable text."""

    code_N: IntQ
    labels: list[str]


def texts(columns: Columns, problems: list[str]) -> dict[str, Labels]:
    """The columns that a query and an arm are named by; adds what is wrong in them to `problems`."""
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
            problems.append(f"column {show(name)} is asked for and not there (it has {some_of(columns.names, 20)})")
    return {name: _numbers(name, columns, _finite_reason, problems) for name in names}


def propensities(columns: Columns, problems: list[str]) -> FloatQ:
    """The probability with which each row's arm was chosen; adds what is wrong in them to `problems`."""
    return _numbers("propensity", columns, _propensity_reason, problems)


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
