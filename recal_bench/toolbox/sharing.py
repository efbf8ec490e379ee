"""One computation on several threads. Apart from `threads`, so that a router that shares its work does not seem to use
torch, which that module needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")


def on_threads(compute: Callable[[Part], Result], parts: Iterable[Part]) -> list[Result]:
    """`compute` of every part, in their order, several at once: on the threads that OMP_NUM_THREADS allows, or else on
    all cores of this process. It must spend its time where Python's lock is released, as numpy does.

    The parts are the same on any number of threads, and with them the results.
    """
    parts = list(parts)
    threads = min(len(parts), _allowed())
    if threads < 2:
        return [compute(part) for part in parts]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(compute, parts))


def _allowed() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return len(cores)
