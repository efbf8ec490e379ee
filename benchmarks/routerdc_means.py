"""The two means of the RouterDC paper for every row of leaderboards/routerdc, in points of accuracy.

In-distribution: MMLU, GSM8K, CMMLU, ARC-C and HumanEval (the test split also has ARC-E). Out-of-distribution: MATH
prealgebra, MBPP and C-EVAL. Intervals hold the luck of seeds alone (t over the seeds' means).

Run with `python benchmarks/routerdc_means.py runs/routerdc` after `python benchmarks/boards.py routerdc`.
"""

import sys
from pathlib import Path

import numpy as np
from tabulate import tabulate

from recal_bench.evaluation.statistics import t_interval
from recal_bench.experiments.records import read_runs
from recal_bench.reporting.figures.entries import Entry, Group, read_groups

IN_DISTRIBUTION = ("mmlu", "gsm8k", "cmmlu", "arc_challenge", "humaneval")
OUT_OF_DISTRIBUTION = ("MATH_prealgebra", "mbpp", "ceval")
PUBLISHED = ("RouterDC, *published* (arXiv 2409.19886)", "fine-tuned mDeBERTa", "58.54", "45.85")


def seed_means(group: Group, entry: Entry, tasks: tuple[str, ...]) -> np.ndarray:
    """Mean of the tasks' accuracies, in points, one for each seed."""
    of_task = [entry.score_SQ[:, (group.task_Q == task) & (group.split_Q != "train")].mean(axis=1) for task in tasks]
    return 100 * np.mean(of_task, axis=0)


def shown(mean_S: np.ndarray) -> str:
    if len(mean_S) == 1:
        return f"{mean_S[0]:.2f}"
    error = float(mean_S.std(ddof=1) / np.sqrt(len(mean_S)))
    found = t_interval(float(mean_S.mean()), error, len(mean_S) - 1)
    return f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]"


def main() -> None:
    (group,) = read_groups(read_runs(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/routerdc")))
    rows = []
    for entry in group.entries:
        means = [seed_means(group, entry, tasks) for tasks in (IN_DISTRIBUTION, OUT_OF_DISTRIBUTION)]
        name = f"*{entry.router}* (reference)" if entry.record.reference else entry.router
        rows.append((means[0].mean(), [name, entry.record.encoder or "", *map(shown, means)]))
    lines = [line for _, line in sorted(rows, key=lambda row: -row[0])]
    headers = ["router", "encoder", "in-distribution", "out-of-distribution"]
    print(
        tabulate(
            [*lines, PUBLISHED], headers, "pipe", disable_numparse=True, colalign=("left", "left", "right", "right")
        )
    )


if __name__ == "__main__":
    main()
