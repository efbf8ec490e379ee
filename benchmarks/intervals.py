"""How long do the intervals take? 20 routers x 10 seeds x 10,000 queries of 7 tasks, 2,000 resamples, on one core.

Run with `python benchmarks/intervals.py`; benchmarks/coverage.py measures whether the intervals are right.
"""

import os
import time
from collections.abc import Callable
from typing import Any

# Before numpy is imported, so that the matrix products use one core too.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import numpy as np
from tabulate import tabulate

from recal_bench.evaluation.bootstrap import RESAMPLES, crossed_bootstrap, iqm, percentile_interval
from recal_bench.evaluation.statistics import crossed_interval, mde
from recal_bench.evaluation.ties import crossed_pairs, ties

ROUTERS, SEEDS, QUERIES, TASKS = 20, 10, 10_000, 7


def timed(what: str, work: Callable[[], Any]) -> tuple[list[str], Any]:
    start = time.perf_counter()
    result = work()
    return [what, f"{time.perf_counter() - start:.2f}"], result


def main() -> None:
    rng = np.random.default_rng(0)
    task_Q = rng.integers(TASKS, size=QUERIES)
    values = [(rng.random((SEEDS, QUERIES)) < 0.5).astype(np.float64) for _ in range(ROUTERS)]
    differences = [value_SQ - values[0] for value_SQ in values[1:]]
    seeds = [tuple(range(SEEDS))] * ROUTERS
    resampling, resampled = timed("crossed bootstrap: all resamples", lambda: crossed_bootstrap(values, seeds, task_Q))
    rows = [
        resampling,
        timed("... percentiles of all means", lambda: [percentile_interval(m.mean(axis=(1, 2))) for m in resampled])[0],
        timed("... interquartile means", lambda: [iqm(mean_BST) for mean_BST in resampled])[0],
        timed("crossed intervals of all differences", lambda: [crossed_interval([d], task_Q) for d in differences])[0],
        timed("minimum detectable differences", lambda: [mde([d], task_Q, n_seeds=20) for d in differences])[0],
    ]
    both = [(value_SQ, None) for value_SQ in values]
    rows.append(timed("ties and ranks, from all pairs", lambda: ties(crossed_pairs(both, seeds, task_Q)))[0])
    print(
        f"{ROUTERS} routers, {SEEDS} seeds, {QUERIES:,} queries of {TASKS} tasks, {RESAMPLES:,} resamples, one core\n"
    )
    print(tabulate(rows, ["work", "seconds"], "pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
