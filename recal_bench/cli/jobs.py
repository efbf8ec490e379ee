"""What `run` and `tune` take of jobs: how many at once, and by which backend of joblib."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from recal_bench.errors import SettingsError


def jobs_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--jobs` and `--backend`; the command takes them as one argument, `jobs`."""

    @wraps(function)
    def with_jobs(**values: Any) -> Any:
        from recal_bench.experiments.jobs import Jobs

        number, backend = values.pop("jobs"), values.pop("backend")
        jobs = Jobs(number, backend or "loky")
        if backend and number == 1:
            raise SettingsError(f"--backend {backend} shares out several jobs: say how many with --jobs")
        return function(jobs=jobs, **values)

    decorated = click.option(
        "--backend",
        metavar="loky|threading|ray|dask",
        help="By what the jobs are done: processes or threads of this machine, or a cluster.  [default: loky]",
    )(with_jobs)
    return click.option(
        "--jobs",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="How many fits are done at once, each in one thread. Results are the same with any number.",
    )(decorated)
