"""The calibration study: every estimator, every ablation and the supervised baselines, tuned alike, on many seeds.

    RECAL_BENCH_DATA=folder python benchmarks/calibration_study.py [--only embedded] [--only routerdc] ...

For each set of outcomes: the same number of validation trials for every router, then 20 training seeds of each with
what they chose; then tables and curves. The embedded pool (simulated) is tuned on two worlds and judged on three
others. What is there already is found again, so parts may run side by side; the last one to end writes the report
(`benchmarks/calibration_report.py`). `--jobs` and `--backend` are those of `recal-bench run`. Takes some hours on two
cores.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recal_bench import provenance, routers
from recal_bench.calibration import ESTIMATORS
from recal_bench.experiments.bench import Bench, load_bench
from recal_bench.experiments.jobs import ONE_JOB, Jobs
from recal_bench.experiments.plans import RunPlan
from recal_bench.experiments.reference_runs import run_references
from recal_bench.experiments.runs import run_plans
from recal_bench.experiments.trials import Search, forget, tune, tune_ahead
from recal_bench.experiments.tuning import Trial, Tuned, write_tuned

COMMAND = "python benchmarks/calibration_study.py"
OUT = Path("leaderboards/calibration-study")
ABLATIONS = (
    "recal-plain",
    "recal-unbiased",
    "recal-no-components",
    "recal-no-reweighting",
    "recal-inverse-weights",
    "recal-no-dataset-norm",
    "recal-no-floor",
)
SUPERVISED = ("ridge", "knn", "mlp", "logistic")
ROUTERS = (*ESTIMATORS, *ABLATIONS, *SUPERVISED)
STANDARD = ("best-single", "random", "cheapest")
SEEDS = 20


@dataclass(frozen=True)
class Part:
    """One set of outcomes, or several worlds of the embedded pool. `fixed` settings are not searched for.

    Every router of a part has its number of `trials`; one, the defaults, where validation is so small that more would
    choose noise.
    """

    name: str
    file: str | None = None
    tuning_worlds: tuple[int, ...] = (0,)
    worlds: tuple[int, ...] = (0,)
    routers: tuple[str, ...] = ROUTERS
    fixed: tuple[tuple[str, str], ...] = ()
    trials: int = 8

    def benches(self, worlds: tuple[int, ...]) -> Iterator[Bench]:
        for world in worlds:
            path = Path(os.environ["RECAL_BENCH_DATA"]) / self.file if self.file else None
            yield load_bench(path, world_seed=world)

    @property
    def tuned_path(self) -> Path:
        return OUT / f"tuned-{self.name}.json"

    def runs(self, folder: Path) -> Path:
        return folder / self.name


PARTS = (
    Part("embedded", tuning_worlds=(21, 22), worlds=(31, 32, 33)),
    # Learning from nothing: what the prior would hide of speed and steadiness.
    Part(
        "embedded-no-prior",
        tuning_worlds=(21, 22),
        worlds=(31, 32, 33),
        routers=(
            "grpo",
            "dr-grpo",
            "gdpo",
            "dvao",
            "hero",
            "expected",
            "recal",
            "recal-plain",
            "recal-unbiased",
            "recal-no-components",
            "recal-inverse-weights",
        ),
        fixed=(("prior.kind", "none"),),
    ),
    Part("routerdc", "routerdc_7llm.parquet"),
    Part("nq500", "routerr1_pool_nq500.parquet", trials=1),
    Part("bamboogle", "bamboogle_model_x_strategy.parquet", trials=1),
)


def tune_part(part: Part, jobs: Jobs = ONE_JOB) -> dict[str, Tuned]:
    """The same trials for every router; on several worlds, by the mean of their validation utilities."""
    done = {}
    if part.tuned_path.exists():
        parsed = [Tuned.model_validate(each) for each in json.loads(part.tuned_path.read_text(encoding="utf-8"))]
        done = {each.router: each for each in parsed}
    benches = list(part.benches(part.tuning_worlds))
    searches = {}
    for name in part.routers:
        fixed = {key: value for key, value in part.fixed if key in routers.setting_names(type(routers.create(name)))}
        if name not in done:
            searches[name] = [Search.of(bench, name, part.trials, "cpu", fixed) for bench in benches]
    kept = part.tuned_path.with_name(f".{part.tuned_path.name}.trials")
    tune_ahead([each for of_worlds in searches.values() for each in of_worlds], kept, jobs)
    for name, of_worlds in searches.items():
        each_world = [tune(search, kept=kept) for search in of_worlds]
        trials = [
            Trial(
                settings=same[0].settings,
                validation_utility=float(np.mean([trial.validation_utility for trial in same])),
            )
            for same in zip(*(tuned.trials for tuned in each_world), strict=True)
        ]
        hashes = "+".join(tuned.data_hash for tuned in each_world)
        done[name] = each_world[0].model_copy(update={"trials": trials, "data_hash": hashes})
        write_tuned(list(done.values()), part.tuned_path)
        for search in of_worlds:
            forget(search, kept)
        print(part.name, name, done[name].settings, flush=True)
    return done


def run_part(part: Part, tuned: dict[str, Tuned], folder: Path, jobs: Jobs = ONE_JOB) -> None:
    """The final runs. Test outcomes are seen here for the first time."""
    for bench in part.benches(part.worlds):
        runs = part.runs(folder)
        runs.mkdir(parents=True, exist_ok=True)
        run_references(bench, runs, COMMAND)
        plans = []
        for name in (*STANDARD, *dict.fromkeys((*part.routers, "knn"))):
            if name == "cheapest" and not bench.objective.has_cost:
                continue
            chosen = tuned.get(name)
            router = routers.create(name, chosen.settings if chosen else {})
            each = RunPlan(
                name,
                router,
                seeds=tuple(range(1 if router.deterministic else SEEDS)),
                device="cpu",
                command=f"{COMMAND} --only {part.name}",
                tuned=f"{len(chosen.trials)} trials" if chosen and len(chosen.trials) > 1 else None,
            )
            plans.append(each)

        def tell(plan: RunPlan, bench: Bench = bench) -> None:
            print(part.name, bench.data.name, plan.name, flush=True)

        run_plans(bench, plans, runs, on_plan=tell, jobs=jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[part.name for part in PARTS], help="repeatable")
    parser.add_argument("--runs", type=Path, default=Path("runs/calibration-study"))
    parser.add_argument("--jobs", type=int, default=1, help="fits done at once")
    parser.add_argument("--backend", default="loky", help="loky, threading, ray or dask")
    arguments = parser.parse_args()
    jobs = Jobs(arguments.jobs, arguments.backend)
    routers.discover()
    OUT.mkdir(parents=True, exist_ok=True)
    wanted = [part for part in PARTS if not arguments.only or part.name in arguments.only]
    for part in wanted:
        run_part(part, tune_part(part, jobs), arguments.runs, jobs)
    if all(part.tuned_path.exists() and any(part.runs(arguments.runs).glob("*-s0")) for part in PARTS):
        from calibration_report import write_report

        for path in write_report(PARTS, arguments.runs, OUT, COMMAND):
            print(path)
    print(f"code {provenance.code_version()}")


if __name__ == "__main__":
    main()
