"""How often `recal-bench drift` cries wolf, and what it finds: logs made of the embedded pool's queries (simulated).

A ridge router is fitted to one world without one task. Each log holds queries of test that the run does not hold, with
the arm that the router chose, its score and its cost. Logs of the same kind say how often drift is found where there is
none; others hold some queries of the left-out task, only queries of one known task, or come from another world (other
questions of the same kind, other models behind the same names).

    python -m benchmarks.drift
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from recal_bench import load_bench, read_runs, run
from recal_bench.experiments.drift import compare_with, prepare_before
from recal_bench.experiments.records import Run
from recal_bench.experiments.traffic import Traffic
from recal_bench.outcomes import Outcomes
from recal_bench.reporting.text.layout import markdown_table
from recal_bench.simulation import embedded_outcomes

LEFT_OUT, SAME = "musique", "same world, no drift"
CHECKS = ("queries", "foreign", "score", "cost", "arms")


def fitted(folder: Path) -> tuple[Run, Outcomes, Outcomes]:
    """A run on half of a world's test queries, without one task; the other half; that task's test queries."""
    outcomes = embedded_outcomes(0)
    test_Q, left_out_Q = outcomes.split_Q == "test", outcomes.task_Q == LEFT_OUT
    unseen_Q = test_Q & (np.random.default_rng(0).random(len(outcomes)) < 0.5)
    path = folder / "world.parquet"
    as_rows(outcomes.take(~left_out_Q & ~unseen_Q)).to_parquet(path, index=False)
    run(load_bench(path), ["ridge"], runs=folder / "runs")
    found = next(each for each in read_runs(folder / "runs") if each.record.configuration.router == "ridge")
    return found, outcomes.take(unseen_Q & ~left_out_Q), outcomes.take(test_Q & left_out_Q)


def as_rows(outcomes: Outcomes) -> pd.DataFrame:
    query, arm = (index.ravel() for index in np.indices(outcomes.score_QA.shape))
    columns = {
        name: np.asarray(getattr(outcomes, f"{name}_Q"))[query] for name in ("task", "query_id", "prompt", "split")
    }
    for number, name in enumerate(("model", "strategy")):
        columns[name] = np.array([each[number] for each in outcomes.arms], dtype=object)[arm]
    return pd.DataFrame(columns | {"score": outcomes.score_QA.ravel(), "cost_usd": outcomes.cost_QA.ravel()})


def log_of(outcomes: Outcomes, rows: np.ndarray, choose: Callable[[Outcomes], np.ndarray]) -> Traffic:
    drawn = outcomes.take(rows)
    chosen = (np.arange(len(drawn)), choose(drawn))
    arm_N = np.array([str(drawn.arms[arm]) for arm in chosen[1]], dtype=object)
    return Traffic("log", drawn.prompt_Q, arm_N, drawn.score_QA[chosen], drawn.cost_QA[chosen])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=int, default=30, help="logs of each kind")
    parser.add_argument("--without", type=int, default=150, help="logs of the kind without drift")
    parser.add_argument("--size", type=int, nargs="+", default=[100, 400], help="queries of a log")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found, same, left_out = fitted(Path(folder))
        other = embedded_outcomes(1)
        other = other.take((other.split_Q == "test") & (other.task_Q != LEFT_OUT))
        before = prepare_before(found)
        names = [str(arm) for arm in before.router.arms]

        def choose(drawn: Outcomes) -> np.ndarray:
            places = np.array([list(map(str, drawn.arms)).index(name) for name in names])
            return places[before.router.rank(tuple(drawn.prompt_Q)).arm_QA[:, 0]]

        one = same.take(same.task_Q == same.tasks[0])
        worse = replace(
            same, score_QA=np.where(np.random.default_rng(1).random(same.score_QA.shape) < 0.15, 0.0, same.score_QA)
        )
        dearer = replace(same, cost_QA=1.2 * same.cost_QA)
        kinds = {
            SAME: [(same, 1.0)],
            f"10% of a task left out ({LEFT_OUT})": [(same, 0.9), (left_out, 0.1)],
            f"30% of a task left out ({LEFT_OUT})": [(same, 0.7), (left_out, 0.3)],
            f"half the log from one task ({one.tasks[0]})": [(same, 0.5), (one, 0.5)],
            "another world": [(other, 1.0)],
            "same queries, 15% of right answers lost": [(worse, 1.0)],
            "same queries, 20% dearer": [(dearer, 1.0)],
        }
        lines = []
        for size in options.size:
            for kind, mixture in kinds.items():
                rng, results = np.random.default_rng(size), []
                for _ in range(options.without if kind == SAME else options.logs):
                    logs = [
                        log_of(part, rng.choice(len(part), min(round(share * size), len(part)), replace=False), choose)
                        for part, share in mixture
                    ]
                    log = Traffic(
                        "log",
                        *(
                            np.concatenate([getattr(each, column) for each in logs])
                            for column in ("prompt_N", "arm_N", "score_N", "cost_N")
                        ),
                    )
                    results.append(compare_with(before, log))
                auc = np.mean([each.queries.auc.value for each in results])
                held = np.mean([each.queries.auc.low <= 0.5 <= each.queries.auc.high for each in results])
                shares = [np.mean([name in each.changed for each in results]) for name in CHECKS]
                shares.append(np.mean([bool(each.changed) for each in results]))
                lines.append([kind, f"{size:,}", *(f"{each:.0%}" for each in shares), f"{auc:.2f}", f"{held:.0%}"])
                print(*lines[-1], sep=" | ", flush=True)
    headers = ["the log", "size", *CHECKS, "any", "mean AUC", "its interval holds 0.5"]
    print()
    print(markdown_table(headers, lines))


if __name__ == "__main__":
    main()
