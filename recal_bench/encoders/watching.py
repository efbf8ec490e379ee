"""How far a long encoding is: for whoever wants to show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

import numpy as np

from recal_bench.arrays import Float32QE

Tell: TypeAlias = Callable[[int, int], None]
"""Is given how many prompts are encoded, and of how many; the two are equal when it is over."""

PART = 2_048
"""Prompts that are encoded at once. Fewer take too short a time to tell of."""
_TELL: ContextVar[Tell | None] = ContextVar("tell", default=None)


@contextmanager
def watched(tell: Tell) -> Iterator[None]:
    """Within it long encodings are told of."""
    before = _TELL.set(tell)
    try:
        yield
    finally:
        _TELL.reset(before)


def in_parts(encode: Callable[[Sequence[str]], Float32QE], prompts: Sequence[str], part: int = PART) -> Float32QE:
    """The encoding of all prompts, `part` of them at a time, telling how far it is. No row may depend on another."""
    total = len(prompts)
    if total <= part:
        return encode(prompts)
    done = []
    for start in range(0, total, part):
        told(start, total)
        done.append(encode(prompts[start : start + part]))
    told(total, total)
    return np.concatenate(done)


def told(done: int, total: int) -> None:
    """Say how far an encoding is, to whoever wants to show it."""
    tell = _TELL.get()
    if tell is not None:
        tell(done, total)
