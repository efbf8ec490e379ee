"""How many threads a computation uses."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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


def use_one_thread() -> None:
    """Let this process compute in one thread from now on, for it is one of several at work."""
    from threadpoolctl import threadpool_limits

    # Libraries that are loaded later read the environment, the others are told.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    threadpool_limits(1)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
