"""Counts, shares, lists and foreign text as part of a message, a table or a picture."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal


def show(value: Any, width: int = 60) -> str:
    """A value from a file as part of a one-line message: shortened, nothing unprintable in it."""
    text = value if isinstance(value, str) else repr(value)
    text = text if text.isprintable() else f"'{harmless(text)}'"
    return text if len(text) <= width else f"{text[:width]}..."


Place = Literal["terminal", "markdown", "code", "csv", "picture"]
_ACTIVE = re.compile(r"[\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_])")
_FORMULA = ("=", "+", "-", "@")


def harmless(text: str, place: Place = "terminal") -> str:
    """Text that others wrote (names, ids, prompts, messages), so that nothing in it acts where it is shown.

    Control characters, invisible ones and line breaks are written as escapes in every place. In markdown what would
    be markup is escaped too, HTML included; `code` is the text between backticks, with them. A cell of CSV that a
    spreadsheet would take for a formula gets an apostrophe. In a picture `$` starts no formula.
    """
    shown = "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)
    if place == "markdown":
        return _ACTIVE.sub(r"\\\g<0>", shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    if place == "code":
        fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
        pad = " " if len(fence) > 1 else ""
        return f"{fence}{pad}{shown}{pad}{fence}"
    if place == "csv":
        return f"'{shown}" if shown.startswith(_FORMULA) and not _is_number(shown) else shown
    return shown.replace("$", r"\$") if place == "picture" else shown


def place_of(markdown: bool) -> Place:
    """Where a table is shown: in markdown or on the terminal."""
    return "markdown" if markdown else "terminal"


def _escaped(letter: str) -> str:
    return " " if letter.isspace() and ord(letter) > 0xFF else letter.encode("unicode_escape").decode()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
    return tallied_counts(Counter(labels), noun)


def tallied_counts(counts: Mapping[str, int], noun: str = "") -> str:
    """`tallied`, of labels that are counted already."""
    shown = sorted(counts.items())
    return ", ".join(f"{show(label)} ({counted(n, noun) if noun else f'{n:,}'})" for label, n in shown)
