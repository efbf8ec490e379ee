"""Every router over several real logs: its rank on each, its mean rank, and on how many it does harm.

    python benchmarks/over_logs.py runs [--boards routerdc,llmrouter14,...] [--out leaderboards/over-logs.md]

`runs` holds a folder of runs for each board, as `benchmarks/boards.py` leaves them (`runs`, or `FOLDER/BOARD/runs` of
`--untuned FOLDER`). A router is ranked by its macro utility on the log's test split, the mean of its seeds. Harm is a
log on which it is below best-single, by the 95% interval of the paired difference. The interval of a mean rank is that
of 1,000 bootstraps of the queries within their tasks, the same for all routers; a router is tied with the first where
the interval of the difference of their mean ranks contains 0. Only routers that ran on every log are ranked.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from recal_bench.evaluation.statistics import crossed_interval
from recal_bench.experiments.records import read_runs
from recal_bench.reporting.figures.entries import read_groups

BOARDS = ("routerdc", "llmrouter14-by-prompt", "strategies", "mmlu-pro", "zeroeval", "nq500")
BASELINE = "best-single"
RESAMPLED = 1_000


class Log(NamedTuple):
    """What each router reached on the test queries of one log, the mean of its seeds; `harm_R` against best-single."""

    name: str
    hash: str
    names: tuple[str, ...]
    value_RQ: NDArray[np.float64]
    task_Q: NDArray[np.int64]
    harm_R: NDArray[np.bool_]


def read_log(folder: Path) -> Log:
    (group,) = read_groups(read_runs(folder))
    rows_Q = group.split_Q == "test"
    task_Q = np.unique(group.task_Q[rows_Q], return_inverse=True)[1]
    of_name = {entry.router: entry.utility_SQ[:, rows_Q] for entry in group.entries if not entry.record.reference}
    values = [value_SQ.mean(axis=0) for value_SQ in of_name.values()]
    return Log(group.data.name, group.data.hash, tuple(of_name), np.stack(values), task_Q, harm(of_name, task_Q))


def harm(of_name: dict[str, NDArray[np.float64]], task_Q: NDArray[np.int64]) -> NDArray[np.bool_]:
    base_SQ = of_name[BASELINE]
    highs = [crossed_interval([value_SQ - base_SQ], task_Q).high for value_SQ in of_name.values()]
    return np.array(highs) < 0


def macro(value_RQ: NDArray[np.float64], weight_BQ: NDArray[np.float64], task_Q: NDArray[np.int64]) -> NDArray:
    """Macro means of every router under every weighing of the queries, `[B, R]`."""
    of_task = [
        weight_BQ[:, task_Q == task] @ value_RQ[:, task_Q == task].T / weight_BQ[:, task_Q == task].sum(axis=1)[:, None]
        for task in np.unique(task_Q)
    ]
    return np.mean(of_task, axis=0)


def resampled(task_Q: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each query is drawn, `[RESAMPLED, Q]`."""
    weight_BQ = np.zeros((RESAMPLED, len(task_Q)))
    for task in np.unique(task_Q):
        (place_N,) = np.nonzero(task_Q == task)
        weight_BQ[:, place_N] = rng.multinomial(len(place_N), np.full(len(place_N), 1 / len(place_N)), RESAMPLED)
    return weight_BQ


def ranks(value_BR: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for the highest; the mean of their places for those that tie."""
    above = (value_BR[:, None, :] > value_BR[:, :, None] + 1e-12).sum(axis=2)
    level = (np.abs(value_BR[:, None, :] - value_BR[:, :, None]) <= 1e-12).sum(axis=2)
    return above + (level + 1) / 2


def report(logs: list[Log]) -> str:
    names = [name for name in logs[0].names if all(name in log.names for log in logs)]
    rng = np.random.default_rng(0)
    drawn_LBR, rank_LR, harm_LR = [], [], []
    for log in logs:
        rows_R = [log.names.index(name) for name in names]
        value_RQ = log.value_RQ[rows_R]
        drawn_LBR.append(ranks(macro(value_RQ, resampled(log.task_Q, rng), log.task_Q)))
        rank_LR.append(ranks(macro(value_RQ, np.ones((1, len(log.task_Q))), log.task_Q))[0])
        harm_LR.append(log.harm_R[rows_R])
    mean_BR, mean_R = np.mean(drawn_LBR, axis=0), np.mean(rank_LR, axis=0)
    first = int(mean_R.argmin())
    low_R, high_R = np.quantile(mean_BR, [0.025, 0.975], axis=0)
    ahead_R = np.quantile(mean_BR - mean_BR[:, [first]], 0.025, axis=0)
    rows = []
    for place in np.argsort(mean_R, kind="stable"):
        harmed = int(np.sum([harm_R[place] for harm_R in harm_LR]))
        tied = "=" if ahead_R[place] <= 0 else ""
        of_logs = [f"{rank_R[place]:g}" for rank_R in rank_LR]
        interval = f"[{low_R[place]:.1f}, {high_R[place]:.1f}]"
        rows.append([names[place], tied, f"{mean_R[place]:.1f}", interval, *of_logs, harmed])
    headers = ["router", "tied first", "mean rank", "95%", *(log.name for log in logs), "harmed"]
    hashes = ", ".join(f"{log.name} ({log.hash[:12]})" for log in logs)
    return f"Logs: {hashes}.\n\n" + tabulate(rows, headers, "github", disable_numparse=True)


def folder_of(runs: Path, board: str) -> Path:
    return runs / board / "runs" if (runs / board / "runs").is_dir() else runs / board


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--boards", type=lambda text: tuple(text.split(",")), default=BOARDS)
    parser.add_argument("--out", type=Path, help="a markdown file to write")
    asked = parser.parse_args()
    text = report([read_log(folder_of(asked.runs, board)) for board in asked.boards])
    print(text)
    if asked.out:
        head = "# Every router over the logs\n\nWritten by `python benchmarks/over_logs.py`; do not edit."
        asked.out.write_text(f"{head}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
