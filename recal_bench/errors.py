"""The one error that users see, and the hint for a mistyped name."""

from __future__ import annotations

from collections.abc import Iterable


class RecalBenchError(Exception):
    """Bad input or usage. The message is one line: what is wrong, where, and what to do. The CLI exits with 2."""


def near_miss(word: str, known: Iterable[str]) -> str:
    """' (did you mean X?)', or nothing where no known word is close."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
