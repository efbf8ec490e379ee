"""How many threads a computation uses."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread meanwhile.

    The policy's steps and single queries are too small to share out: threads cost more than they bring (most of all
    beside other work), and would add up in another order on another number of cores.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let numpy and scipy multiply and solve in one thread meanwhile: more add up in another order, so that what is
    learnt would differ in its last bits between machines, and between one job and several."""
    import scipy.linalg  # noqa: F401, for only a library that is loaded can be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


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


def use_one_thread() -> None:
    """Let this process compute in one thread from now on, for it is one of several at work."""
    from threadpoolctl import threadpool_limits

    # Libraries that are loaded later read the environment, the others are told.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    threadpool_limits(1)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
