"""Units of work shared out to several processes, of this machine or of a cluster, through joblib."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

from recal_bench.errors import RecalBenchError, SettingsError, near_miss
from recal_bench.toolbox.threads import one_blas_thread, one_thread, use_one_thread

# What each backend of joblib needs beside joblib; the extra that installs it has the backend's name.
BACKENDS = {"loky": (), "threading": (), "ray": ("ray",), "dask": ("dask", "distributed")}
DEATHS = 3
"""So many times in a row processes may die before anything else is finished."""
_Unit = TypeVar("_Unit", bound=tuple[Any, ...])


@dataclass(frozen=True)
class Jobs:
    """How many units of work are done at once, and by what: one of `BACKENDS`.

    Raises SettingsError on a backend that is not known or not installed.
    """

    number: int = 1
    backend: str = "loky"

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            hint = near_miss(self.backend, BACKENDS)
            raise SettingsError(f"--backend {self.backend}{hint}: it is one of {', '.join(BACKENDS)}")
        if self.number < 1:
            raise SettingsError(f"--jobs {self.number}: give 1 or more")
        absent = [name for name in BACKENDS[self.backend] if find_spec(name) is None]
        if absent:
            raise SettingsError(
                f"--backend {self.backend} needs {' and '.join(absent)}: pip install 'recal-bench[{self.backend}]'"
            )


ONE_JOB = Jobs()


class WorkerError(SettingsError):
    """A worker that would not do what this process would do."""


class _UnitError(Exception):
    """A unit raised something. What it was is met again by whoever goes through the units in their order."""


def work_ahead(
    jobs: Jobs,
    work: Callable[..., None],
    units: Sequence[_Unit],
    is_done: Callable[[_Unit], bool],
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Do units of work side by side, each by `work(*unit)`, which leaves its result where `is_done` finds it.

    Whoever then goes through the same units one after the other finds them done, and in the same order as ever. So
    what a unit raises is not raised here: no more are begun, and that unit raises it again in its turn. Where a process
    dies, the units that are not done are done again. `tell` is given how many units are over, and of how many.

    With one job nothing is done ahead. Raises SettingsError where the backend cannot work, WorkerError where processes
    die again and again, and what `work` raises of it.
    """
    todo = [unit for unit in units if jobs.number > 1 and not is_done(unit)]
    if not todo:
        return
    total, deaths = len(todo), 0

    def over(done: int) -> None:
        tell(total - len(todo) + done, total)

    with _working(jobs) as died:
        while todo:
            try:
                _in_parallel(jobs, work, todo, over)
                break
            except _UnitError:
                break
            except died as error:
                left = [unit for unit in todo if not is_done(unit)]
                deaths = deaths + 1 if len(left) == len(todo) else 1
                todo = left
                if deaths == DEATHS:
                    raise WorkerError(
                        f"worker processes died {DEATHS} times in a row ({type(error).__name__}): if memory is short, "
                        "take fewer with --jobs; what is finished is kept"
                    ) from error
            except RecalBenchError:
                raise
            except Exception as error:
                raise SettingsError(f"--backend {jobs.backend}: {_first_line(error)}") from error
    tell(total, total)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}".rstrip(": ")


def _in_parallel(
    jobs: Jobs, work: Callable[..., None], units: Sequence[tuple[Any, ...]], tell: Callable[[int], None]
) -> None:
    from joblib import Parallel, delayed

    class Told(Parallel):  # type: ignore[misc]
        """joblib calls this whenever a unit is over, in the process that shares out."""

        def print_progress(self) -> None:
            tell(self.n_completed_tasks)

    # Copied where they are written to, for routers may take their arrays for their own.
    parallel = Told(n_jobs=jobs.number, batch_size=1, mmap_mode="c")
    parallel(delayed(_one)(jobs.backend, work, unit) for unit in units)


def _one(backend: str, work: Callable[..., None], unit: tuple[Any, ...]) -> None:
    """What a worker does."""
    if backend != "threading":
        use_one_thread()
    if backend == "loky":
        # Ctrl-C reaches all processes of a terminal: the first of them ends the others.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        work(*unit)
    except WorkerError:
        raise
    except Exception as error:
        raise _UnitError(_first_line(error)) from None


@contextmanager
def _working(jobs: Jobs) -> Iterator[tuple[type[Exception], ...]]:
    """joblib set to the backend; what it raises where a worker died."""
    from joblib import parallel_config

    with ExitStack() as stack:
        try:
            died = _started(jobs, stack)
            stack.enter_context(parallel_config(jobs.backend, n_jobs=jobs.number))
        except Exception as error:
            raise SettingsError(f"--backend {jobs.backend}: {_first_line(error)}") from error
        yield died


def _started(jobs: Jobs, stack: ExitStack) -> tuple[type[Exception], ...]:
    """Start or find what a backend works with, to be left when `stack` is; returns as `_working`."""
    if jobs.backend == "threading":
        stack.enter_context(one_thread())
        stack.enter_context(one_blas_thread())
        return ()
    if jobs.backend == "ray":
        import ray
        from ray.util.joblib import register_ray

        register_ray()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to others unasked
        if not ray.is_initialized():
            own = {} if os.environ.get("RAY_ADDRESS") else _LOCAL_RAY | {"num_cpus": jobs.number}
            ray.init(log_to_driver=False, logging_level="error", **own)
            stack.callback(ray.shutdown)
        return ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError
    if jobs.backend == "dask":
        from distributed import Client, KilledWorker

        own = {"n_workers": jobs.number, "threads_per_worker": 1, "dashboard_address": None}
        stack.enter_context(Client(**({} if os.environ.get("DASK_SCHEDULER_ADDRESS") else own)))
        return (KilledWorker,)
    from concurrent.futures.process import BrokenProcessPool

    return (BrokenProcessPool,)


_LOCAL_RAY = {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
