"""Single values of a source made text, scores, money and counts, or refused with their place."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from recal_bench.errors import OutcomesError
from recal_bench.outcomes.reading import WHOLE_RANGE
from recal_bench.outcomes.values import DEAREST_USD, NO_NUMBER
from recal_bench.wording import show

RESCALE = "rescale it first (a percentage is divided by 100)"
SCALE_HINT = "; or name the ends of its scale with --score-range LO,HI"
"""Of formats that take this option."""
Scale = tuple[float, float] | None
_DEAREST_PER_TOKEN = 0.01
"""USD; ten times the highest price that any model ever had. A cost beyond it is in another unit."""


class Place(NamedTuple):
    """A place in a source: `unit` is row, line or entry, and `number` counts from 1."""

    path: Path
    unit: str
    number: int

    def __str__(self) -> str:
        return f"{self.path}, {self.unit} {self.number:,}"


def missing(value: Any) -> bool:
    """Is there no value: null, NaN, or text of blanks?"""
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    return isinstance(value, float) and math.isnan(value)


def text(value: Any, where: Place, what: str) -> str:
    """A name, an id or a prompt, of text or a whole number. Raises OutcomesError where it is neither, or blank."""
    if missing(value):
        raise OutcomesError(f"{where}: {what} is empty: fill it in, or leave the {where.unit} out")
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise OutcomesError(f"{where}: {what} is {show(value)}, which is not text: write it as text")
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise OutcomesError(f"{where}: {what} is not valid Unicode: save the source as UTF-8") from None
    return str(value)


def prose(value: Any) -> str | None:
    """A response: its text, or null. Halves of a character, which models do write, become `?`."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else None


def number(value: Any, where: Place, what: str, hint: str = "") -> float | None:
    """A number, also one written as text; true is 1 and false 0. None where there is no value, or NA, NULL or None."""
    if missing(value) or (isinstance(value, str) and value.strip().lower() in NO_NUMBER):
        return None
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return float(value.strip().lower() == "true")
    try:
        if isinstance(value, str) and "_" in value:
            raise ValueError
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        raise OutcomesError(
            f"{where}: {what} is {show(value)}, which is not a number: leave it empty where nothing is known{hint}"
        ) from None
    return None if math.isnan(found) else found


def score(value: Any, where: Place, what: str, hint: str = "", scale: Scale = None) -> float | None:
    """A score, of which the ends of `scale` become 0 and 1, or None where there is no outcome.

    `hint` says what else may be done.
    """
    found = number(value, where, what, hint)
    low, high = scale or WHOLE_RANGE
    if found is not None and not low <= found <= high:
        raise OutcomesError(f"{where}: {what} is {found:g}, outside {low:g}..{high:g}: {RESCALE}{hint}")
    return None if found is None else (found - low) / (high - low)


def amount(value: Any, where: Place, what: str) -> float | None:
    """An amount of USD or of seconds, or None where it is unknown."""
    found = number(value, where, what)
    if found is not None and not 0 <= found <= DEAREST_USD:
        raise OutcomesError(f"{where}: {what} is {found:g}, which is impossible: leave it empty where it is unknown")
    return found


def cost_of_tokens(value: Any, where: Place, what: str, n_tokens: int, hint: str = "") -> float | None:
    """The cost of a call in USD, or None where it is unknown. `n_tokens` are all of it; 0 where they are not known.

    Raises OutcomesError where no model costs as much. `hint` says what else may be done.
    """
    cost = amount(value, where, what)
    if cost is not None and n_tokens and cost > n_tokens * _DEAREST_PER_TOKEN:
        raise OutcomesError(
            f"{where}: {what} is {cost:g} for {n_tokens:,} tokens, more than any model costs: is it in USD? Convert "
            f"the column, or leave it out{hint}"
        )
    return cost


def count(value: Any, where: Place, what: str) -> int | None:
    """A whole number of tokens, or None where it is unknown."""
    found = number(value, where, what)
    if found is None:
        return None
    if found < 0 or found > 2**53 or found != int(found):
        raise OutcomesError(f"{where}: {what} is {found:g}, which is not a count: leave it empty where it is unknown")
    return int(found)


def texts(value: Any) -> list[str] | None:
    """The strings of a list of strings, itself or written as text in JSON or in Python; None for all else."""
    if isinstance(value, str):
        written = value.strip()
        if not (written.startswith("[") and written.endswith("]")):
            return None
        try:
            value = json.loads(written)
        except (ValueError, RecursionError):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    value = ast.literal_eval(written)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                return None
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)) and value and all(isinstance(each, str) for each in value):
        return list(value)
    return None


def gold(value: Any) -> str | None:
    """The accepted answers as the JSON list that an outcomes file holds, of one answer or of several."""
    if missing(value):
        return None
    if not isinstance(value, (str, list, tuple)) and not hasattr(value, "tolist"):
        value = str(value)
    found = texts(value) or [value if isinstance(value, str) else json.dumps(value, default=str)]
    return json.dumps(found, ensure_ascii=False).encode(errors="replace").decode()


def identity(*parts: Any) -> str:
    """16 hex digits that name a query by what it consists of, wherever it is in the source."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]
