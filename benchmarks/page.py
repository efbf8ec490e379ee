"""How big is the page of a big board, and how long does a browser take to open it?

    python benchmarks/page.py [--queries 10000] [--routers 40] [--seeds 5] [--keep FOLDER]

Writes run records of routers that choose at random among 24 arms, each with a training log, and the outcomes file that
their commands name; then the page, as `recal-bench view` does. Prints the sizes, and where Chromium is installed the
time from the navigation to the load event, the time until the query list is shown, and the longest answer to a
keystroke in its text filter.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from recal_bench.experiments.bench import load_outcomes
from recal_bench.experiments.records import Configuration, Data, RunRecord, read_runs
from recal_bench.outcomes import Objective
from recal_bench.reporting.page.write import INDEX, view_page

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "reporting"))
import chromium

ARMS, TASKS, STEPS, ALPHA = 24, 20, 400, 0.2


def write_outcomes(path: Path, queries: int, rng: np.random.Generator) -> None:
    words = np.array([f"word{number}" for number in range(2000)])
    prompts = [" ".join(words[rng.integers(0, 2000, rng.integers(10, 60))]) for _ in range(queries)]
    arms = [f"model-{number // 4}|strategy-{number % 4}" for number in range(ARMS)]
    row_Q = np.repeat(np.arange(queries), ARMS)
    frame = pd.DataFrame(
        {
            "task": [f"task-{row % TASKS}" for row in row_Q],
            "query_id": [f"query-{row:08}" for row in row_Q],
            "prompt": [prompts[row] for row in row_Q],
            "model": [arm.partition("|")[0] for arm in arms] * queries,
            "strategy": [arm.partition("|")[2] for arm in arms] * queries,
            "score": rng.random(len(row_Q)).round(3),
            "cost_usd": rng.lognormal(-8, 1, len(row_Q)),
            "split": "test",
        }
    )
    frame.to_parquet(path, index=False)


def write_runs(folder: Path, path: Path, routers: int, seeds: int, rng: np.random.Generator) -> None:
    outcomes = load_outcomes(path)
    arms = np.array([str(arm) for arm in outcomes.arms], dtype=object)
    objective = Objective(ALPHA, float(outcomes.cost_QA.mean(axis=0).max()), 0)
    data = Data(
        name=outcomes.name, hash=outcomes.data_hash, simulated=False, tasks=outcomes.tasks, missing="error",
        alpha=ALPHA, cost_ref=objective.cost_ref, unknown_costs=0, arms=tuple(arms),
        n_queries={"train": 0, "test": len(outcomes)},
    )  # fmt: skip
    rows = np.arange(len(outcomes))
    utility_QA = objective.utility(outcomes.score_QA, outcomes.cost_QA)
    for number in range(-2, routers - 2):
        name = {-2: "best-single", -1: "oracle"}.get(number, f"router-{number}")
        for seed in range(seeds if number >= 0 else 1):
            configuration = Configuration(
                router=name, settings={}, seed=seed, device="cpu", data=data, source="0", versions={}
            )
            arm_Q = rng.integers(0, ARMS, len(outcomes))
            arm_Q = {-2: np.zeros_like(arm_Q), -1: utility_QA.argmax(axis=1)}.get(number, arm_Q)
            target = folder / f"{name}-{configuration.key}-s{seed}"
            target.mkdir(parents=True)
            record = RunRecord(
                configuration=configuration, reference=number == -1, deterministic=number < 0, code="0", packages={},
                command=f"recal-bench run --router {name} --outcomes {path}", device_name="", started="",
                steps=STEPS if number >= 0 else None, mean_score_A=(None,) * ARMS, mean_cost_A=(None,) * ARMS,
            )  # fmt: skip
            pd.DataFrame(
                {
                    "split": "test",
                    "task": outcomes.task_Q,
                    "query_id": outcomes.query_id_Q,
                    "arm": arms[arm_Q],
                    "calls": 1,
                    "answer": None,
                    "score": outcomes.score_QA[rows, arm_Q],
                    "cost_usd": outcomes.cost_QA[rows, arm_Q],
                    "router_cost_usd": 0.0,
                    "utility": utility_QA[rows, arm_Q],
                    "regret": np.nan,
                }
            ).to_parquet(target / "decisions.parquet", index=False)
            (target / "run.json").write_text(record.model_dump_json(), encoding="utf-8")
            if number >= 0:
                names = ("validation_utility", "validation_score", "entropy", "kl", "gradient_norm", "reward", "loss")
                lines = [{"step": step, **{name: rng.normal() for name in names}} for step in range(STEPS + 1)]
                (target / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def measure(board: Path, profile: Path) -> None:
    with chromium.browser(profile) as page:
        page.open("about:blank")
        page.open(f"file://{board / INDEX}")
        opened = page.run("performance.getEntriesByType('navigation')[0].loadEventEnd")
        begin = time.monotonic()
        page.run("document.querySelector('#load button').click()")
        page.until("!filters.hidden")
        listed = time.monotonic() - begin
        typed = [
            page.run(
                f"(() => {{ const begin = performance.now(); words.value = {text!r}; "
                "words.dispatchEvent(new Event('input')); return performance.now() - begin; })()"
            )
            for text in ("w", "word1", "word19", "nothing like it", "")
        ]
        print(f"opened in {opened / 1000:.2f} s; queries listed in {listed:.2f} s; filtered in {max(typed):.0f} ms")
        print(f"errors: {page.errors or 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--routers", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where to leave the board")
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_outcomes(folder / "log.parquet", asked.queries, rng)
        write_runs(folder / "runs", folder / "log.parquet", asked.routers, asked.seeds, rng)
        board = asked.keep or folder / "board"
        board.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        view_page(read_runs(folder / "runs"), board, "recal-bench view runs", "best-single")
        print(f"written in {time.monotonic() - begin:.1f} s")
        for path in sorted(board.iterdir()):
            print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
        if chromium.FOUND is None:
            print("no Chromium is installed: not opened")
        else:
            measure(board, folder / "profile")


if __name__ == "__main__":
    main()
