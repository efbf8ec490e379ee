"""The calibration study: every estimator, every ablation and the supervised baselines, tuned alike, on many seeds.

    RECAL_BENCH_DATA=folder python benchmarks/calibration_study.py [--only hierarchy] [--only routerdc] ...

The embedded pool (simulated) is tuned with the same number of validation trials for every router on three worlds, and
judged on three others with 20 training seeds, from each of three priors: the hierarchy, the nearest train queries, and
none. A log is tuned on its own validation queries; what its leaderboard tuned (`benchmarks/boards.py`) is taken from
there. Then tables and curves (`benchmarks/calibration_report.py`). What is there already is found again, and each part
has files of its own, so parts may run side by side and on different days. `--jobs` and `--backend` are those of
`recal-bench run`. Takes some hours on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boards import BOARDS, MISSING, log_of

from recal_bench import provenance, routers
from recal_bench.calibration import ESTIMATORS
from recal_bench.experiments.bench import Bench, load_bench
from recal_bench.experiments.jobs import ONE_JOB, Jobs
from recal_bench.experiments.plans import RunPlan
from recal_bench.experiments.reference_runs import run_references
from recal_bench.experiments.runs import run_plans
from recal_bench.experiments.trials import Search, forget, tune, tune_ahead
from recal_bench.experiments.tuning import Tuned, keep_tuned, read_tuned

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
OF_THE_PRIOR = ("recal-no-shrinkage", "recal-no-task", "recal-no-balance", "recal-from-knn")
SUPERVISED = ("hierarchy", "ridge-tasks", "ridge", "knn", "mlp", "logistic")
ROUTERS = (*ESTIMATORS, *ABLATIONS, *OF_THE_PRIOR, *SUPERVISED)
ON_OTHER_PRIORS = (
    *("grpo", "dr-grpo", "gdpo", "dvao", "hero", "expected", "recal", "recal-plain", "recal-unbiased"),
    *("recal-no-components", "recal-inverse-weights"),
)
ON_LOGS = ("recal", "recal-plain", "recal-from-knn", "expected", "grpo", "dr-grpo", "gdpo", "dvao", "hero", *SUPERVISED)
STANDARD = ("best-single", "random", "cheapest")
TUNING_WORLDS, WORLDS = (61, 62, 63), (81, 82, 83)
SEEDS, TRIALS = 20, 8


@dataclass(frozen=True)
class Part:
    """Worlds of the embedded pool, with a prior; or a log, by its leaderboard's name.

    `fixed` settings are not searched for.
    """

    name: str
    file: str | None = None
    routers: tuple[str, ...] = ROUTERS
    fixed: tuple[tuple[str, Any], ...] = ()

    def benches(self, worlds: tuple[int, ...]) -> Iterator[Bench]:
        if self.file:
            yield load_bench(log_of(self.name), missing=MISSING.get(self.name, "error"))
            return
        for world in worlds:
            yield load_bench(world_seed=world)

    def tuned(self, bench: Bench) -> dict[str, Tuned]:
        """Settings by router: those of the log's leaderboard, and the study's own. Raises SettingsError for others'."""
        board = [Path("leaderboards") / self.name / "tuned.json"] if self.file else []
        there = [read_tuned(path, bench) for path in (*board, self.tuned_path) if path.exists()]
        return {name: each for of in there for name, each in of.items() if name in self.routers}

    @property
    def tuned_path(self) -> Path:
        return OUT / f"tuned-{self.name}.json"


# Outcomes as they are, from queries as they come: how the policy was trained before it had the hierarchical prior.
AS_BEFORE = (("trust", 1.0), ("balance", False))
PARTS = (
    Part("hierarchy"),
    Part("knn", routers=ON_OTHER_PRIORS, fixed=(("prior.kind", "knn"), *AS_BEFORE)),
    # Learning from nothing: what a prior would hide of speed and steadiness.
    Part("none", routers=ON_OTHER_PRIORS, fixed=(("prior.kind", "none"), *AS_BEFORE)),
    *(
        Part(board, file, ON_LOGS)
        for board, file in BOARDS.items()
        if file and board not in ("bamboogle", "llmrouter14")  # 37 test queries; train prompts in test
    ),
)


def tune_part(part: Part, jobs: Jobs = ONE_JOB) -> dict[str, Tuned]:
    """The same trials for every router, judged by the mean over the worlds, or on the log. Returns all settings."""
    benches = list(part.benches(TUNING_WORLDS))
    done = part.tuned(benches[0])
    searches = []
    for name in (name for name in part.routers if name not in done):
        known = routers.setting_names(type(routers.create(name)))
        fixed = {key: value for key, value in part.fixed if key in known}
        searches.append(Search.of(benches, name, TRIALS, "cpu", fixed))
    kept = part.tuned_path.with_name(f".{part.tuned_path.name}.trials")
    tune_ahead(searches, kept, jobs)
    for search in searches:
        done[search.name] = tune(search, kept=kept)
        keep_tuned(done[search.name], benches[0], part.tuned_path)
        forget(search, kept)
        print(part.name, search.name, done[search.name].settings, flush=True)
    return done


def run_part(part: Part, tuned: dict[str, Tuned], runs: Path, jobs: Jobs = ONE_JOB) -> None:
    """The final runs. Test outcomes are seen here for the first time."""
    runs.mkdir(parents=True, exist_ok=True)
    for bench in part.benches(WORLDS):
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
    from calibration_report import write_index, write_part

    for part in wanted:
        runs = arguments.runs / part.name
        tuned = tune_part(part, jobs)
        run_part(part, tuned, runs, jobs)
        for path in write_part(part, tuned, runs, OUT, f"{COMMAND} --only {part.name}"):
            print(path)
        print(write_index(PARTS, OUT, COMMAND))
    print(f"code {provenance.code_version()}")


if __name__ == "__main__":
    main()
