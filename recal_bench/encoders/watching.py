"""How far a long encoding is: for whoever wants to show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

Tell: TypeAlias = Callable[[int, int], None]
"""Is given how many prompts are encoded, and of how many; the two are equal when it is over."""

_TELL: ContextVar[Tell | None] = ContextVar("tell", default=None)


@contextmanager
def watched(tell: Tell) -> Iterator[None]:
    """Within it long encodings are told of."""
    before = _TELL.set(tell)
    try:
        yield
    finally:
        _TELL.reset(before)


def told(done: int, total: int) -> None:
    """Say how far an encoding is."""
    tell = _TELL.get()
    if tell is not None:
        tell(done, total)
