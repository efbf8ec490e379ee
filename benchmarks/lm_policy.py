"""The language model as the router, measured: what RL adds to its supervised start, by the policy that it samples.

    python benchmarks/lm_policy.py study                          # tiny, five seeds, on a CPU: about an hour
    python benchmarks/lm_policy.py gpu-tiny --device cuda         # 1,024 rollouts a step: at most 5 minutes
    python benchmarks/lm_policy.py gpu-smollm2 --device cuda      # SmolLM2, bfloat16: at most 7 minutes
    python benchmarks/lm_policy.py gpu-tiny --small --out FOLDER  # a start and two steps, to see that the paths work

All on the embedded pool (simulated), whose true expected utility judges: of the likeliest replies (greedy), and of the
whole distribution (sampled). Of tiny that is exact, the probability of each arm's reply times that arm's expectation,
and best-single's for what is left; of SmolLM2, whose thoughts are free, it is one draw a query. Runs are kept in
`--runs` and found again; tables, curves and the stability report go to `--out`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lm_policy_report import CONTROL, START, write_part
from lm_speed import Speed, speed_of

from recal_bench import routers
from recal_bench.evaluation.statistics import Interval, crossed_interval
from recal_bench.experiments.bench import Bench, load_bench, queries_of
from recal_bench.experiments.deployed import DeployedRouter
from recal_bench.experiments.plans import RunPlan
from recal_bench.experiments.records import Run, read_log
from recal_bench.experiments.reference_runs import run_references
from recal_bench.experiments.runs import run_router

ARMS_START = "start, arms"
OUT = Path("leaderboards/lm-policy")


@dataclass(frozen=True)
class Row:
    """One row of a part's table: a router with settings besides the part's own; `start` is the row that it began as.

    A control has `seeds` of its own, fewer than the part.
    """

    label: str
    router: str
    settings: dict[str, Any]
    start: str | None = None
    seeds: int | None = None


def _rows(*estimators: str) -> tuple[Row, ...]:
    return (
        Row(START, "recal-lm", {"steps": 0}),
        *(Row(name, f"{name}-lm", {}, START) for name in estimators),
    )


UNBIASED = Row(
    "recal-unbiased",
    "recal-lm",
    {"calibration.standardise": False, "calibration.reweighting": False, "entropy": 0.03},
    START,
)
BY_ARMS = (
    Row(ARMS_START, "recal-lm-arms", {"steps": 0}),
    Row("recal, arms", "recal-lm-arms", {}, ARMS_START),
    Row("expected, arms", "expected-lm-arms", {}, ARMS_START),
)
CONTROLS = (
    Row("recal without shrinkage", "recal-lm", {"trust": 1.0}, START, 1),
    Row(CONTROL, "recal-lm", {"steps": 0, "warm_start": "format"}, None, 1),
    Row("recal from a format start", "recal-lm", {"warm_start": "format"}, CONTROL, 1),
)


@dataclass(frozen=True)
class Part:
    """Rows that are compared, with the settings and the number of seeds of all."""

    name: str
    rows: tuple[Row, ...]
    settings: dict[str, Any]
    seeds: int


MANY = {"batch_size": 64, "group_size": 16}
PARTS = (
    Part("study", (*_rows("recal", "grpo", "dr-grpo", "gdpo"), *BY_ARMS, *CONTROLS), {}, 5),
    Part("gpu-tiny", (*_rows("recal", "grpo", "dr-grpo"), UNBIASED), {**MANY, "steps": 60}, 3),
    Part(
        "gpu-smollm2",
        _rows("recal", "grpo"),
        {"policy": "smollm2", "token_price": 0.0, **MANY, "steps": 30, "evaluate_every": 15},
        3,
    ),
)
SMALL = {"examples": 256, "batch_size": 4, "group_size": 4, "evaluate_every": 2}
FEW = 60
"""Queries of each split in `--small`."""


@dataclass
class Measured:
    """What one row's runs show. `[S, Q]`: true expected utility on test of S seeds, macro over tasks when averaged."""

    greedy_SQ: np.ndarray
    sampled_SQ: np.ndarray
    malformed_S: np.ndarray
    sampled_malformed_S: np.ndarray
    top_share_S: np.ndarray
    logs: list[list[dict[str, Any]]]
    runs: list[Run]
    speed: Speed | None


def run_row(part: Part, row: Row, bench: Bench, runs: Path, device: str, small: bool, most: int) -> Measured:
    """Train and route by every seed of a row, at most so many, or find the runs, and measure them."""
    own = {**part.settings, **(SMALL if small else {}), **row.settings}
    own["steps"] = min(own.get("steps", 60), 2) if small else own.get("steps", 60)
    router = routers.create(row.router, own)
    seeds = range(1 if small else min(row.seeds or part.seeds, most))
    moments: list[tuple[int, float, bool]] = []

    def on_step(line: dict[str, Any]) -> None:
        moments.append((line["step"], time.perf_counter(), "validation_utility" in line))

    command = f"python benchmarks/lm_policy.py {part.name}"
    found: list[Run] = []
    for seed in seeds:
        plan = RunPlan(row.router, router, (seed,), device, command)
        found += run_router(bench, plan, runs, on_step=on_step)
    measured = [of_run(bench, run) for run in found]
    arrays = [np.array(column) for column in zip(*measured, strict=True)]
    logs = [read_log(run.folder / "metrics.jsonl") if own["steps"] else [] for run in found]
    rollouts, questions = router.batch_size * router.group_size, bench.splits.train.prompt_Q[:200]
    speed = speed_of(_typical_step(moments), logs, rollouts, questions, found[0], device)
    return Measured(*arrays, logs, found, speed)


def _typical_step(moments: list[tuple[int, float, bool]]) -> float | None:
    """Median seconds of a step without an evaluation in it."""
    gaps = [
        there - here
        for (step, here, _), (following, there, judged) in itertools.pairwise(moments)
        if following == step + 1 and not judged
    ]
    return float(np.median(gaps)) if gaps else None


def of_run(bench: Bench, run: Run) -> tuple[np.ndarray, np.ndarray, float, float, float]:
    """Expected utility of the likeliest and of the sampled reply to each test query; malformed and top-arm shares."""
    import torch

    from recal_bench.language_model.rollouts import roll_out
    from recal_bench.language_model.scoring import arm_log_probs, expected_utility, named_log_probs

    outcomes = bench.splits.evaluation["test"]
    expected_QA = bench.objective.utility(outcomes.expected_score_QA, outcomes.expected_cost_QA)
    router = DeployedRouter(run)._router
    by_arms = router.decode == "arms"
    dialogue, queries = router._dialogue, queries_of(outcomes)
    prompts = [dialogue.prompt_ids(each) for each in queries.prompt]
    rows = np.arange(len(prompts))
    expected_QA = expected_QA[:, [list(outcomes.arms).index(arm) for arm in router.arms]]
    fallback = [str(arm) for arm in router.arms].index(router._fallback[0])

    def chosen(sample: torch.Generator | None) -> tuple[np.ndarray, float]:
        replies = roll_out(dialogue, prompts, rows.tolist(), lambda prompts: dialogue.generate(prompts, sample))
        arm_Q = np.array([each.calls[-1] if each.well_formed else fallback for each in replies])
        return arm_Q, float(np.mean([not each.well_formed for each in replies]))

    if by_arms:
        log_prob_QA = named_log_probs(dialogue, prompts)
        prob_QA = np.exp(log_prob_QA - log_prob_QA.max(axis=1, keepdims=True))
        sampled_Q = (prob_QA / prob_QA.sum(axis=1, keepdims=True) * expected_QA).sum(axis=1)
        arm_Q, malformed, sampled_malformed = log_prob_QA.argmax(axis=1), 0.0, 0.0
        return expected_QA[rows, arm_Q], sampled_Q, malformed, sampled_malformed, _top_share(arm_Q)
    arm_Q, malformed = chosen(None)
    if dialogue.short:
        log_prob_QA = arm_log_probs(dialogue, queries.prompt)
        sampled_Q = expected_utility(log_prob_QA, expected_QA, np.full(len(rows), fallback))
        sampled_malformed = float(1 - np.exp(log_prob_QA).sum(axis=1).mean())
    else:
        drawn_Q, sampled_malformed = chosen(torch.Generator().manual_seed(0))
        sampled_Q = expected_QA[rows, drawn_Q]
    return expected_QA[rows, arm_Q], sampled_Q, malformed, sampled_malformed, _top_share(arm_Q)


def _top_share(arm_Q: np.ndarray) -> float:
    return float(np.bincount(arm_Q).max() / len(arm_Q))


def compared(one: np.ndarray, other: np.ndarray, task_Q: np.ndarray) -> Interval:
    """The mean difference of two `[S, Q]`, paired by seed and query; by query alone where their seeds differ."""
    parts = [one - other] if one.shape == other.shape else [one, -other]
    return crossed_interval(parts, task_Q)


def few(bench: Bench) -> Bench:
    """The first queries of each split."""
    splits = bench.splits
    train, validation, test = (part.take(np.arange(FEW)) for part in (splits.train, splits.validation, splits.test))
    data = bench.data.model_copy(update={"n_queries": dict.fromkeys(splits.parts, FEW)})
    return replace(
        bench, data=data, splits=replace(splits, train=train, validation=validation, evaluation={"test": test})
    )


def best_single_Q(bench: Bench) -> np.ndarray:
    """The expected utility on test of the arm that is best on train."""
    from recal_bench.evaluation.references import best_single
    from recal_bench.outcomes import mean_over_observed

    train, test = bench.splits.train, bench.splits.evaluation["test"]
    utility_QA = bench.objective.utility(train.score_QA, train.cost_QA)
    arm = best_single(utility_QA, train.task_Q, mean_over_observed(train.cost_QA))
    return bench.objective.utility(test.expected_score_QA[:, arm], test.expected_cost_QA[:, arm])


def main(words: list[str] | None = None, say: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[part.name for part in PARTS])
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--small", action="store_true", help="a start and two steps of few rollouts on few queries, one seed"
    )
    parser.add_argument("--seeds", type=int, default=5, help="at most so many seeds a row")
    parser.add_argument("--backwards", action="store_true", help="the last row first: a second process beside another")
    parser.add_argument("--world-seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/lm-policy"))
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(words)
    part = next(each for each in PARTS if each.name == asked.part)
    routers.discover()
    bench = load_bench(None, world_seed=asked.world_seed, tasks=("bamboogle",) if asked.small else ())
    if asked.small:
        part, bench = replace(part, rows=part.rows[:2]), few(bench)
    run_references(bench, asked.runs)
    measured: dict[str, Measured] = {}
    for row in reversed(part.rows) if asked.backwards else part.rows:
        begin = time.perf_counter()
        measured[row.label] = run_row(part, row, bench, asked.runs, asked.device, asked.small, asked.seeds)
        say(f"{part.name}, {row.label}: {time.perf_counter() - begin:.0f} s")
    measured = {row.label: measured[row.label] for row in part.rows}
    write_part(part, measured, bench, best_single_Q(bench), compared, asked)
    say(json.dumps({"written": str(asked.out)}))


if __name__ == "__main__":
    main()
