"""A split by a column: what came first is learnt from, what came last is judged on. N rows, Q queries."""

from __future__ import annotations

import math
from datetime import date, datetime, timezone
from typing import Any

import numpy as np

from recal_bench.arrays import BoolN, CodeN, FloatQ, StrQ
from recal_bench.errors import OutcomesError, near_miss
from recal_bench.outcomes.coding import Column, Numbers
from recal_bench.outcomes.columns import Columns
from recal_bench.outcomes.values import unknown
from recal_bench.wording import counted, show, some_of

PERCENT = {"train": 60, "validation": 10, "test": 30}


def ordered(name: str, columns: Columns, problems: list[str]) -> FloatQ:
    """A column of numbers or of times (ISO 8601, or a file's own type) as numbers that have its order, `[N]`.

    Times become seconds; those without a zone are not mixed with others. Adds to `problems` why that cannot be done:
    there is no such column, or a value is neither. A value that is not known becomes NaN.
    """
    column = columns.columns.get(name)
    if column is None:
        has = f"it has {some_of([*map(show, columns.names)], 20)}"
        problems.append(
            f"--split-by {name}: there is no such column{near_miss(name, columns.names)} ({has}): name one that holds "
            "numbers or times"
        )
        return np.full(columns.n_rows, np.nan)
    if isinstance(column, Numbers):
        return _of_numbers(name, column, columns, problems)
    places = [None if _absent(value) else _place(value) for value in column.values]
    bad_V = np.array([place is None and not _absent(value) for place, value in zip(places, column.values, strict=True)])
    _explain(name, bad_V[column.code_N] if len(bad_V) else np.zeros(0, dtype=bool), column, columns, problems)
    kinds = sorted({place[0] for place in places if place is not None})
    if len(kinds) > 1:
        problems.append(f"--split-by {name} holds {' and '.join(kinds)}, which have no common order: write all alike")
    place_V = np.array([math.nan if place is None else place[1] for place in places], dtype=np.float64)
    return place_V[column.code_N]


def _of_numbers(name: str, column: Numbers, columns: Columns, problems: list[str]) -> FloatQ:
    """The places of a column that its file types as numbers, or as truth values, which have no order."""
    place_N = np.where(column.null_N, np.nan, column.value_N.astype(np.float64))
    bad_N = ~column.null_N if column.value_N.dtype == bool else np.isinf(place_N)
    _explain(name, bad_N, column, columns, problems)
    return np.where(bad_N, np.nan, place_N)


def _explain(name: str, bad_N: BoolN, column: Column, columns: Columns, problems: list[str]) -> None:
    if bad_N.any():
        row = int(np.argmax(bad_N))
        problems.append(
            f"--split-by {name} is neither a number nor a time (ISO 8601) in {int(bad_N.sum()):,} of "
            f"{counted(len(bad_N), 'row')} (first: row {columns.place(row)}: {show(column.at(row))}): such values have "
            "no order"
        )


def _absent(value: Any) -> bool:
    return unknown(value) or (isinstance(value, float) and math.isnan(value))


def _place(value: Any) -> tuple[str, float] | None:
    """What kind of order a value has, and its place in it; None where it has none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        try:
            return _place(float(text))
        except ValueError:
            pass
        try:
            value = datetime.fromisoformat(f"{text[:-1]}+00:00" if text[-1] in "zZ" else text)
        except ValueError:
            return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        kind = "times without a zone" if value.tzinfo is None else "times with a zone"
        return kind, (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return ("numbers", number) if math.isfinite(number) else None


def first_of(place_N: FloatQ, query_N: CodeN, n_queries: int) -> FloatQ:
    """The least place among the rows of each query, `[Q]`; NaN where none is known."""
    place_Q = np.full(n_queries, np.inf)
    np.minimum.at(place_Q, query_N, np.where(np.isnan(place_N), np.inf, place_N))
    return np.where(np.isinf(place_Q), np.nan, place_Q)


def split_in_order(place_Q: FloatQ, name: str) -> tuple[StrQ, str]:
    """The split of every query, and what to say of it: the first 60% train, the next 10% validation, the last 30% test.

    Queries of the same place stay together: they go where most of them would. Raises OutcomesError where a place is not
    known, and where a split would be empty.
    """
    unplaced = int(np.isnan(place_Q).sum())
    if unplaced:
        raise OutcomesError(
            f"--split-by {name}: {counted(unplaced, 'query')} of {len(place_Q):,} have no value there: give "
            "them one, or leave them out"
        )
    values, block_Q, count_B = np.unique(place_Q, return_inverse=True, return_counts=True)
    middle_B = (np.cumsum(count_B) - count_B / 2) / len(place_Q) * 100
    ends = np.cumsum([*PERCENT.values()])[:-1]
    split_B = np.array([*PERCENT], dtype=object)[np.searchsorted(ends, middle_B, side="right")]
    split_Q: StrQ = split_B[block_Q]
    empty = [split for split in PERCENT if split not in split_Q]
    if empty:
        raise OutcomesError(
            f"--split-by {name}: {counted(len(values), 'distinct value')} over {counted(len(place_Q), 'query')} leave "
            f"no {' and no '.join(empty)}, as queries of one value stay together: name a column with more values"
        )
    shares = ", ".join(f"{split} {int((split_Q == split).sum()):,}" for split in PERCENT)
    return split_Q, f"split by {name}: the earliest queries are train, the next validation, the last test ({shares})"
