"""The share of a training step of `recal-lm` that its advantages take, on the tiny policy.

    python benchmarks/lm_advantages.py [--estimator recal] [--steps 8] [--batch-size 16] [--group-size 8]

A step draws the rollouts, judges them, and updates the policy. Counted are the estimator, with what goes into it and
comes out, and what is measured of advantages for the log. The smallest model is the least favourable case.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recal_bench import routers
from recal_bench.language_model import router as _registers  # noqa: F401
from recal_bench.outcomes import Arm, Objective, Outcomes

SKIPPED = 2
"""First steps, in which things are set up."""


def split(rows: int, arms: int, seed: int) -> routers.Train:
    rng = np.random.default_rng(seed)
    outcomes = Outcomes(
        task_Q=np.array([f"task{row % 4}" for row in range(rows)], dtype=object),
        query_id_Q=np.array([f"q{row}" for row in range(rows)], dtype=object),
        prompt_Q=np.array([f"question {rng.integers(999)} of {rng.integers(99)}" for _ in range(rows)], dtype=object),
        split_Q=np.array(["train"] * rows, dtype=object),
        arms=tuple(Arm(f"model-{number}", "direct") for number in range(arms)),
        score_QA=rng.integers(0, 2, (rows, arms)).astype(float),
        cost_QA=rng.random((rows, arms)),
        name="random",
        data_hash="",
    )
    objective = Objective.from_train(outcomes.score_QA, outcomes.cost_QA)
    return routers.Train(routers.Queries(tuple(outcomes.query_id_Q), tuple(outcomes.prompt_Q)), outcomes, objective)


def timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        begin = time.process_time()
        result = function(*args, **kwargs)
        seconds.append(time.process_time() - begin)
        return result

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--estimator", default="recal")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=8)
    given = parser.parse_args()

    from recal_bench.language_model.trainer import Advantages, ComponentTrainer
    from recal_bench.language_model.training import Run

    seconds: dict[str, list[float]] = defaultdict(list)
    Advantages.__call__ = timed(Advantages.__call__, seconds["advantages"])  # type: ignore[method-assign]
    Run._watch = timed(Run._watch, seconds["measured of them"])  # type: ignore[method-assign]
    ComponentTrainer.training_step = timed(ComponentTrainer.training_step, seconds["step"])
    settings = {
        "estimator": given.estimator, "steps": given.steps, "batch_size": given.batch_size,
        "group_size": given.group_size, "warm_start": "format", "examples": 2048, "trust": 1.0,
        "evaluate_every": 10**6,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RECAL_BENCH_CACHE"] = folder
        context = routers.Context(0, "cpu", Path(folder), lambda line: None)
        routers.create("recal-lm", settings).fit(split(200, 8, 0), split(20, 8, 1), context)
    median = {name: float(np.median(values[SKIPPED:])) for name, values in seconds.items()}
    print(
        f"{given.batch_size} queries x {given.group_size} rollouts, {given.steps - SKIPPED} steps, medians of CPU time"
    )
    for name, value in median.items():
        print(f"{name:18} {1000 * value:9.2f} ms  {100 * value / median['step']:6.2f}% of a step")


if __name__ == "__main__":
    main()
