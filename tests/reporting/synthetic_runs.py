"""Small run folders with known contents, written through the record models."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from recal_bench.experiments.points import Frontier, FrontierPoint, OperatingPoint
from recal_bench.experiments.records import (
    Configuration,
    Data,
    Run,
    RunRecord,
    read_run,
    read_runs,
)
from recal_bench.outcomes import Objective

ARMS = ("large|cot", "large|direct", "small|cot", "small|direct")
EXPECTED_A, MEAN_COST_A = np.array([0.7, 0.62, 0.55, 0.45]), np.array([0.004, 0.002, 0.0008, 0.0002])
REFERENCES = ("oracle", "task-best", "best-accuracy", "bayes")


@dataclass(frozen=True)
class World:
    """Outcomes of four arms on the queries of a few tasks. `small` arms are cheap, `large|cot` is the most accurate.

    `expected`: the decisions hold the truth behind the answers, as those of the embedded pool do.
    """

    name: str = "toy.parquet"
    data_hash: str = "0123456789ab"
    tasks: tuple[str, ...] = ("hotpotqa", "nq", "popqa")
    queries: int = 40
    splits: tuple[str, ...] = ("test",)
    cost: bool = True
    unknown_costs: int = 0
    simulated: bool = False
    expected: bool = False
    alpha: float = 0.2
    missing: str = "error"
    seed: int = 0
    keys: pd.DataFrame = field(init=False)
    score_QA: np.ndarray = field(init=False)
    cost_QA: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        keys = [
            (split, task, f"{split}-{task}-{index:03}")
            for split in self.splits
            for task in self.tasks
            for index in range(self.queries)
        ]
        score_QA = (rng.random((len(keys), 4)) < EXPECTED_A).astype(float)
        cost_QA = MEAN_COST_A * rng.uniform(0.8, 1.2, (len(keys), 4))
        object.__setattr__(self, "keys", pd.DataFrame(keys, columns=["split", "task", "query_id"]))
        object.__setattr__(self, "score_QA", score_QA)
        object.__setattr__(self, "cost_QA", cost_QA if self.cost else np.full_like(cost_QA, np.nan))

    @property
    def objective(self) -> Objective:
        known = self.cost and not self.unknown_costs
        return Objective(self.alpha, 0.004 if known else None, self.unknown_costs)

    @property
    def data(self) -> Data:
        return Data(
            name=self.name,
            hash=self.data_hash,
            simulated=self.simulated,
            tasks=self.tasks,
            missing=self.missing,
            alpha=self.alpha,
            cost_ref=self.objective.cost_ref,
            unknown_costs=self.unknown_costs,
            arms=ARMS,
            n_queries={"train": 100, "validation": 20} | dict.fromkeys(self.splits, self.queries * len(self.tasks)),
        )

    def decisions(self, arm_Q: np.ndarray, router_cost: float = 0.0) -> pd.DataFrame:
        rows = np.arange(len(arm_Q))
        score_Q, cost_Q = self.score_QA[rows, arm_Q], self.cost_QA[rows, arm_Q].copy()
        cost_Q[: self.unknown_costs] = np.nan
        utility_Q = self.objective.utility(score_Q, cost_Q + router_cost)
        truth_Q = self.objective.utility(EXPECTED_A[arm_Q], MEAN_COST_A[arm_Q] + router_cost)
        known = {"expected_utility": truth_Q} if self.expected else {}
        return self.keys.assign(
            **known,
            arm=np.array(ARMS)[arm_Q],
            calls=1,
            answer=None,
            score=score_Q,
            cost_usd=cost_Q,
            router_cost_usd=router_cost,
            utility=utility_Q if self.objective.reportable else np.nan,
            regret=np.linspace(0, 0.1, len(arm_Q)) * (arm_Q != 0) if self.simulated else np.nan,
        ).astype({"answer": object})


def write_run(
    folder: Path,
    world: World,
    router: str,
    arm_Q: np.ndarray,
    *,
    seed: int = 0,
    settings: dict | None = None,
    deterministic: bool = False,
    reference: bool = False,
    router_cost: float = 0.0,
    curve: list[float] | None = None,
    decisions: pd.DataFrame | None = None,
    device: str = "cpu",
    tuned: str | None = None,
    command: str | None = None,
    fit_seconds: float = 1.5,
    source: str = "0123456789ab",
    versions: dict | None = None,
    started: str = "2026-01-01T00:00:00+00:00",
) -> Run:
    configuration = Configuration(
        router=router,
        settings=settings or {},
        seed=seed,
        device=device,
        data=world.data,
        tuned=tuned,
        source=source,
        versions=versions or {"python": "3.11", "numpy": "2.0.0"},
    )
    target = folder / f"{router}-{configuration.key}-s{seed}"
    target.mkdir(parents=True)
    outcomes = "" if world.simulated else f" --outcomes {world.name}"
    record = RunRecord(
        configuration=configuration,
        reference=reference,
        deterministic=deterministic or reference,
        command=command or f"recal-bench run --router {'best-single' if reference else router}{outcomes}",
        code="0.1.0 (abcdef)",
        packages={"numpy": "2.0.0", "python": "3.11.1"},
        device_name="x86_64 CPU, 2 cores",
        started=started,
        fit_seconds=None if reference else fit_seconds,
        route_us_per_query=None if reference else 120.0 + seed,
        route_us_p95=None if reference else 300.0,
        encoder="tfidf" if router == "knn" else None,
        mean_score_A=(0.7, 0.62, 0.55, 0.45),
        mean_cost_A=(0.004, 0.002, 0.0008, 0.0002) if world.cost else (None,) * 4,
    )
    frame = world.decisions(arm_Q, router_cost) if decisions is None else decisions
    frame.to_parquet(target / "decisions.parquet", index=False)
    if curve is not None:
        lines = [json.dumps({"step": 10 * index, "validation_utility": value}) for index, value in enumerate(curve)]
        (target / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (target / "run.json").write_text(record.model_dump_json())
    return read_run(target)


def write_standard_runs(folder: Path, world: World, seeds: int = 3) -> list[Run]:
    """The rows that every leaderboard needs, and `recal` with a training curve."""
    count = len(world.keys)
    utility_QA = world.objective.utility(world.score_QA, world.cost_QA)
    single = np.zeros(count, dtype=int)
    runs = [
        write_run(folder, world, "best-single", single + 1, deterministic=True),
        write_run(folder, world, "oracle", utility_QA.argmax(axis=1), reference=True),
        write_run(folder, world, "task-best", single + 2, reference=True),
        write_run(folder, world, "best-accuracy", single, reference=True),
        write_run(folder, world, "knn", np.arange(count) % 2 + 1, settings={"k": 10}, deterministic=True),
    ]
    if world.cost and not world.unknown_costs:
        runs.append(write_run(folder, world, "cheapest", single + 3, deterministic=True))
    if world.simulated:
        runs.append(write_run(folder, world, "bayes", np.where(world.score_QA[:, 3] > 0, 3, 0), reference=True))
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        runs.append(write_run(folder, world, "random", rng.integers(0, 4, count), seed=seed))
        good = np.where(rng.random(count) < 0.7, utility_QA.argmax(axis=1), 1)
        curve = [0.4 + 0.02 * step + 0.01 * rng.standard_normal() for step in range(12)]
        runs.append(write_run(folder, world, "recal", good, seed=seed, settings={"steps": 12, "lr": 0.01}, curve=curve))
    return runs


ARM_POINTS = ((0.70, 4.0), (0.62, 2.0), (0.55, 0.8), (0.45, 0.2))


def swept(lift: float = 0.0, steps: int = 12) -> tuple[Frontier, ...]:
    """A curve from the cheapest arm to an accuracy of 0.74 + lift at 3 USD."""
    points = []
    for step in range(steps + 1):
        share = step / steps
        accuracy = 0.45 + (0.29 + lift) * share**0.5
        points.append(FrontierPoint(alpha=steps - step, accuracy=accuracy, cost_usd_per_1k=0.2 + 2.8 * share))
    arms = tuple(OperatingPoint(accuracy=accuracy, cost_usd_per_1k=cost) for accuracy, cost in ARM_POINTS)
    return (Frontier(split="test", points=tuple(points), arms=arms, best_accuracy=arms[0]),)


def sweep_runs(folder: Path, lifts: dict[tuple[str, int], float]) -> list[Run]:
    """Give runs, named by router and seed, the frontier of `swept`; the folder's runs."""
    for run in read_runs(folder):
        lift = lifts.get((run.record.configuration.router, run.record.configuration.seed))
        if lift is not None:
            record = run.record.model_copy(update={"frontier": swept(lift)})
            (run.folder / "run.json").write_text(record.model_dump_json())
    return read_runs(folder)
