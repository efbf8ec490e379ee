"""Routers judged within train and validation alone: by folds of the prompts, or by leaving out whole tasks.

    python benchmarks/cross_validation.py mot_gpt4_strategies.parquet --routers ridge,hierarchy,recal
    python benchmarks/cross_validation.py mot_gpt4_strategies.parquet --leave out-tasks --routers ridge,hierarchy,recal

What is chosen by these figures has not seen test. Every fold is split, checked and fitted as `recal-bench run` does; a
setting is given as in recal:trust=0.5. Printed are macro utilities, and the paired differences to the reference
`task-best` (which knows the tasks) with their 95% intervals over queries within tasks. Files are looked for in the
folder that the environment variable RECAL_BENCH_DATA names, and here; `world:61` is a world of the embedded pool.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from tabulate import tabulate

from recal_bench import routers
from recal_bench.errors import OutcomesError
from recal_bench.evaluation import references
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.evaluation.statistics import crossed_interval
from recal_bench.experiments.bench import Bench, load_bench, queries_of
from recal_bench.outcomes import Objective, Outcomes, mean_over_observed
from recal_bench.outcomes.splits import assign, normalized_prompts, prepare
from recal_bench.routers import Context, decide

FOLDS, MISSING = 5, "restrict"


def bench_of(name: str) -> Bench:
    if name.startswith("world:"):
        return load_bench(world_seed=int(name.removeprefix("world:")))
    path = Path(os.environ.get("RECAL_BENCH_DATA", ".")) / name
    try:
        return load_bench(path)
    except OutcomesError:  # outcomes are missing
        return load_bench(path, missing=MISSING)


def learnt_from(bench: Bench) -> Outcomes:
    """Train and validation in one piece."""
    parts = (bench.splits.train, bench.splits.validation)
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name, value in vars(parts[0]).items()
        if isinstance(value, np.ndarray)
    }
    return replace(parts[0], **joined)


def folds_of(outcomes: Outcomes, leave: str) -> Iterator[np.ndarray]:
    """Which rows are judged, one fold after the other."""
    if leave == "out-tasks":
        yield from (outcomes.task_Q == task for task in outcomes.tasks)
        return
    prompt_Q = normalized_prompts(outcomes.prompt_Q)
    shares = {str(fold): 100 // FOLDS for fold in range(FOLDS)}
    fold_Q = assign(prompt_Q, outcomes.task_Q, shares)
    yield from (fold_Q == fold for fold in shares)


def bench_of_fold(bench: Bench, outcomes: Outcomes, judged_Q: np.ndarray) -> Bench:
    split_Q = np.where(judged_Q, "test", "train").astype(object)
    splits = prepare(replace(outcomes, split_Q=split_Q), (), bench.data.missing)
    train = splits.train
    return replace(
        bench,
        splits=splits,
        objective=Objective.from_train(train.score_QA, train.cost_QA, bench.objective.alpha),
        mean_score_A=mean_over_observed(train.score_QA),
        mean_cost_A=mean_over_observed(train.cost_QA),
    )


def decided(bench: Bench, word: str, n_seeds: int) -> np.ndarray:
    """The utility of what a router decides on the fold's test, the mean of its seeds, `[Q]`."""
    test, train = bench.splits.test, bench.splits.train
    utility_QA = bench.objective.utility(test.score_QA, test.cost_QA)
    rows = np.arange(len(test))
    if word == "task-best":
        of_train_QA = bench.objective.utility(train.score_QA, train.cost_QA)
        arm_Q = references.task_best(of_train_QA, train.task_Q, test.task_Q, test.observed_QA, bench.mean_cost_A)
        return utility_QA[rows, arm_Q]
    name, _, assigned = word.partition(":")
    settings = dict(each.split("=") for each in assigned.split(";") if each)
    made = [routers.create(name, settings) for _ in range(n_seeds)]
    made = made[:1] if made[0].deterministic else made
    with tempfile.TemporaryDirectory() as folder:
        contexts = []
        for seed in range(len(made)):
            (own := Path(folder) / str(seed)).mkdir()
            contexts.append(Context(seed, "cpu", own, lambda line: None))
        routers.fit_seeds(made, bench.train, bench.validation, contexts)
    arms = [np.asarray(decide(each, queries_of(test), bench.calls(test, each)).arm_Q) for each in made]
    return np.mean([utility_QA[rows, arm_Q] for arm_Q in arms], axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="+", metavar="LOG")
    parser.add_argument("--leave", choices=["out-folds", "out-tasks"], default="out-folds")
    parser.add_argument("--routers", default="best-single,ridge,hierarchy,recal-from-knn,recal")
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    routers.discover()
    for log in asked.logs:
        bench = bench_of(log)
        outcomes = learnt_from(bench)
        folds = [bench_of_fold(bench, outcomes, judged_Q) for judged_Q in folds_of(outcomes, asked.leave)]
        task_Q = np.concatenate([fold.splits.test.task_Q for fold in folds]).astype(str)
        lines, base_Q = [], np.zeros(0)
        for word in ["task-best", *asked.routers.split(",")]:
            value_Q = np.concatenate([decided(fold, word, asked.seeds) for fold in folds])
            base_Q = value_Q if word == "task-best" else base_Q
            found = crossed_interval([(value_Q - base_Q)[None]], task_Q)
            difference = "" if word == "task-best" else f"{found.estimate:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
            lines.append([word, f"{macro_mean(value_Q, task_Q):.4f}", difference])
        print(f"\n{log} ({bench.data.hash[:12]}), {len(folds)} folds, {len(task_Q):,} queries\n", flush=True)
        print(tabulate(lines, ["router", "utility", "vs task-best [95%]"], "pipe"), flush=True)


if __name__ == "__main__":
    main()
