"""Counts, shares, lists and values as part of a one-line message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any


def show(value: Any, width: int = 60) -> str:
    """A value from a file as part of a one-line message: shortened, nothing unprintable in it."""
    text = value if isinstance(value, str) else repr(value)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= width else f"{text[:width]}..."


def counted(n: int, noun: str) -> str:
    """`1 row`, `2 rows`, `3 queries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{n:,} {noun if n == 1 else plural}"


def share(part: int, whole: int) -> str:
    """A percentage that says 0% and 100% only where they are exact."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 1:
        return "<1%"
    return ">99%" if 99 < percent < 100 else f"{percent:.0f}%"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def some_of(names: Sequence[str], most: int) -> str:
    """`a, b, c`; of more than `most` names `a, b and 3 more`; `none` of none."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}" or "none"


def tallied(labels: Iterable[str], noun: str = "") -> str:
    """How often each label occurs, in their order: `test (2), train (5)`, or with a noun `test (2 queries)`."""
    counts = sorted(Counter(labels).items())
    return ", ".join(f"{show(label)} ({counted(n, noun) if noun else f'{n:,}'})" for label, n in counts)
