"""Where a router does harm: the tasks on which one would have done better to always take the best single arm."""

from __future__ import annotations

import numpy as np

from recal_bench.defaults import BASELINE
from recal_bench.evaluation.statistics import crossed_interval
from recal_bench.reporting.figures.differences import headline_metrics, parts_of
from recal_bench.reporting.figures.entries import Group


def harms(group: Group) -> list[float | None]:
    """Of every entry the share of the tasks of all evaluated splits on which it is below best-single, at 95%.

    Each task is judged by itself, by the paired interval of the metric that rows are ranked by, whatever the baseline
    of the table is. None for best-single, where there is none, and for values that are not known.
    """
    best = group.find(BASELINE)
    if best is None:
        return [None] * len(group.entries)
    below: list[list[bool | None]] = [[] for _ in group.entries]
    for split in np.unique(group.split_Q):
        of_split_Q = group.split_Q == split
        metric_R = headline_metrics(group, best, of_split_Q)
        for task in np.unique(group.task_Q[of_split_Q]):
            rows_Q = of_split_Q & (group.task_Q == task)
            task_Q = np.zeros(int(rows_Q.sum()), dtype=np.int64)
            for found, entry, metric in zip(below, group.entries, metric_R, strict=True):
                parts = parts_of(entry, best, metric, rows_Q)
                found.append(None if parts is None else crossed_interval(parts, task_Q).high < 0)
    return [float(np.mean([bool(each) for each in found])) if None not in found else None for found in below]
