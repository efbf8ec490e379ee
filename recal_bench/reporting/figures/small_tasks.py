"""What a reader should know where tasks have few queries: how their luck is judged, and what no data can tell."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recal_bench.evaluation.strata import SMALL_TASK
from recal_bench.wording import counted


def small_task_notes(task_Q: NDArray[Any]) -> list[str]:
    """A note with the count of the tasks that have too few queries for an interval of their own; else none."""
    count_T = np.unique(task_Q, return_counts=True)[1]
    n_small, n_single = int((count_T < SMALL_TASK).sum()), int((count_T == 1).sum())
    if not n_small:
        return []
    single = f", {n_single:,} of them a single one" if n_single else ""
    return [
        f"{n_small:,} of {counted(len(count_T), 'task')} have fewer than {SMALL_TASK} test queries{single}: "
        "what differs between these tasks counts as luck in the intervals, and no difference is significant where "
        "fewer than 6 queries differ"
    ]
