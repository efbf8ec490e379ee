"""Stress test of the estimators: tasks of very different success rate, reward spread, cost and size. Simulated.

    python benchmarks/stress.py [--prior none|hierarchy] [--jobs 2] [--out leaderboards/calibration-study] [--report]

`benchmarks/stress_world.py` makes the outcomes. Every estimator and every ablation of ReCal learns from nothing (no
prior) or from the hierarchical prior, with its learning rate and entropy bonus chosen on a world of its own, at the
same budget for all; then on fresh worlds, with several budgets of steps, for each of which the learning rate falls to
0. Policies are judged by the true expected utility of their decisions on held-out texts. Writes stress.json with
everything (stress-hierarchy.json from that prior), and from it a .md, .svg and .png; `--report` writes these three
alone. Takes about half an hour on one free core; `--jobs` trains several at once.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from stress_figure import draw
from stress_report import report
from stress_world import SLOTS, Array, World, same_world

from recal_bench import provenance, routers
from recal_bench.calibration import ESTIMATORS
from recal_bench.recal import RecalRouter
from recal_bench.routers import Context, decide

OUT = Path("leaderboards/calibration-study")
ABLATIONS = (
    "recal-unbiased",
    "recal-plain",
    "recal-no-components",
    "recal-no-reweighting",
    "recal-inverse-weights",
    "recal-no-dataset-norm",
    "recal-no-floor",
)
OF_THE_PRIOR = ("recal-no-shrinkage", "recal-no-balance")
TITLES = {
    "none": "Stress test of the estimators (simulated)",
    "hierarchy": "Stress test of the estimators on the hierarchical prior (simulated)",
}
DECIMALS = 5


@dataclass(frozen=True)
class Plan:
    """What is run. `fixed` settings are those of every estimator; `shrink` divides the numbers of queries.

    `untrained`: routers without steps and settings, to hold the others against. `family`: the study worlds are run
    again with these at several entropy bonuses, to see how much the choice matters.
    """

    prior: str = "none"
    names: tuple[str, ...] = (*ESTIMATORS, *ABLATIONS)
    untrained: tuple[str, ...] = ()
    tuning_world: int = 100
    tuning_seeds: int = 3
    tuning_steps: int = 400
    learning_rates: tuple[float, ...] = (3e-3, 8e-3)
    entropies: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    worlds: tuple[int, ...] = (101, 102, 103)
    seeds: int = 10
    steps: tuple[int, ...] = (25, 50, 100, 200, 400, 800, 1600)
    family: tuple[str, ...] = ("grpo", "dr-grpo", "dapo", "recal", *ABLATIONS)
    family_entropies: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    family_seeds: int = 5
    fixed: tuple[tuple[str, Any], ...] = (
        *(("prior.kind", "none"), ("trust", 1.0), ("balance", False)),
        *(("batch_size", 64), ("group_size", 8)),
    )
    alpha: float = 0.2
    shrink: int = 1


PLANS = {
    "none": Plan(),
    "hierarchy": replace(
        Plan(),
        prior="hierarchy",
        names=(*("grpo", "dr-grpo", "gdpo", "dvao", "hero", "expected", "recal"), *ABLATIONS, *OF_THE_PRIOR),
        untrained=("hierarchy",),
        family=("grpo", "dr-grpo", "recal", "recal-unbiased"),
        fixed=(("batch_size", 64), ("group_size", 8)),
    ),
}


def trained(world: World, name: str, n_seeds: int, settings: dict[str, Any]) -> Array:
    """True expected utility on the test texts of policies trained from each seed, `[S, T]`."""
    routers.discover()
    fitted = [routers.create(name, settings) for _ in range(n_seeds)]
    with tempfile.TemporaryDirectory() as folder:
        contexts = [Context(seed, "cpu", Path(folder) / str(seed), lambda line: None) for seed in range(n_seeds)]
        routers.fit_seeds(fitted, world.train, world.validation, contexts)
    return np.stack([world.task_utilities(decide(each, world.test, world.calls).arm_Q) for each in fitted])


def side_by_side(jobs: int, work: Callable[..., Any], units: Iterable[tuple[Any, ...]]) -> list[Any]:
    """What `work(*unit)` returns for every unit, in their order."""
    from joblib import Parallel, delayed

    return list(Parallel(n_jobs=jobs)(delayed(work)(*unit) for unit in units))


def tuned(plan: Plan, name: str) -> dict[str, Any]:
    """The learning rate and entropy bonus of the highest macro utility, and all trials."""
    world = same_world(plan.tuning_world, plan.alpha, plan.shrink)
    trials = []
    for learning_rate, entropy in product(plan.learning_rates, plan.entropies):
        chosen = {"learning_rate": learning_rate, "entropy": entropy}
        value_ST = trained(world, name, plan.tuning_seeds, dict(plan.fixed) | chosen | {"steps": plan.tuning_steps})
        trials.append({"settings": chosen, "utility": round(float(value_ST.mean()), DECIMALS)})
    best = max(trials, key=lambda trial: trial["utility"])["settings"]
    print(f"tuned {name} {best}", flush=True)
    return {"settings": best, "trials": trials}


def on_world(plan: Plan, seed: int, name: str, n_seeds: int, settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """`[S, T]` on a study world, for each of several settings by their names."""
    world = same_world(seed, plan.alpha, plan.shrink)
    if name in plan.untrained:
        value_ST = np.repeat(trained(world, name, 1, {}), n_seeds, axis=0)
        found = dict.fromkeys(settings, value_ST)
    else:
        found = {key: trained(world, name, n_seeds, dict(plan.fixed) | each) for key, each in settings.items()}
    print(f"world {seed} {name}: {', '.join(settings)}", flush=True)
    return {key: value_ST.round(DECIMALS).tolist() for key, value_ST in found.items()}


def described(world: World) -> dict[str, Any]:
    """A world's tasks as the report shows them, in the order of the utilities' last axis."""
    names = sorted(world.tasks)
    return {
        "data_hash": world.splits.train.data_hash,
        "cost_ref": world.objective.cost_ref,
        "tasks": names,
        "n_train": [int((world.splits.train.task_Q == name).sum()) for name in names],
        "mean_cost_usd": [world.tasks[name].mean_cost_usd for name in names],
        "score_sd": [float(world.splits.train.score_QA[world.splits.train.task_Q == name].std()) for name in names],
        **{key: getattr(world, key).round(DECIMALS).tolist() for key in ("bayes_T", "best_single_T", "random_T")},
    }


def study(plan: Plan, jobs: int = 1) -> dict[str, Any]:
    """Everything, as stress.json keeps it: settings, worlds and `utility[name][world][steps]`, `[S, T]`."""
    start = time.perf_counter()
    found = side_by_side(jobs, tuned, [(plan, name) for name in plan.names])
    tuning = dict(zip(plan.names, found, strict=True))
    at_steps, at_entropies = [], []
    for seed, name in product(plan.worlds, (*plan.names, *plan.untrained)):
        chosen = tuning[name]["settings"] if name in tuning else {}
        at_steps.append((plan, seed, name, plan.seeds, {str(steps): chosen | {"steps": steps} for steps in plan.steps}))
    for seed, name in product(plan.worlds, plan.family):
        chosen = tuning[name]["settings"] | {"steps": plan.tuning_steps}
        tried = {f"{entropy:g}": chosen | {"entropy": entropy} for entropy in plan.family_entropies}
        at_entropies.append((plan, seed, name, plan.family_seeds, tried))
    found = side_by_side(jobs, on_world, [*at_steps, *at_entropies])
    utility: dict[str, Any] = {name: {} for name in (*plan.names, *plan.untrained)}
    entropies: dict[str, Any] = {
        name: {f"{entropy:g}": {} for entropy in plan.family_entropies} for name in plan.family
    }
    for (_, seed, name, *_), by_steps in zip(at_steps, found[: len(at_steps)], strict=True):
        utility[name][str(seed)] = by_steps
    for (_, seed, name, *_), by_entropy in zip(at_entropies, found[len(at_steps) :], strict=True):
        for entropy, value in by_entropy.items():
            entropies[name][entropy][str(seed)] = value
    worlds = {
        str(seed): described(same_world(seed, plan.alpha, plan.shrink)) for seed in (plan.tuning_world, *plan.worlds)
    }
    content = {
        "title": TITLES[plan.prior],
        "command": f"OMP_NUM_THREADS=1 python benchmarks/stress.py --prior {plan.prior}",
        "code": f"{provenance.code_version()}, source {provenance.source_hash(RecalRouter)}",
        "packages": provenance.package_versions(),
        "plan": asdict(plan),
        "slots": [slot._asdict() for slot in SLOTS],
        "tuning": tuning,
        "entropies": entropies,
        "worlds": worlds,
        "utility": utility,
    }
    return content | {"seconds": round(time.perf_counter() - start)}


def stem_of(prior: str) -> str:
    return "stress" if prior == "none" else f"stress-{prior}"


def write_report(content: dict[str, Any], out: Path) -> None:
    """Write stress.md, stress.svg and stress.png, or those of the plan's prior."""
    stem = stem_of(content["plan"]["prior"])
    (out / f"{stem}.md").write_text(report(content, stem), encoding="utf-8")
    draw(content, out / stem)


def main() -> None:
    parser = argparse.ArgumentParser(description="Stress test of the estimators on simulated, unequal tasks.")
    parser.add_argument("--prior", choices=list(PLANS), default="none", help="what the policies start from")
    parser.add_argument("--jobs", type=int, default=1, help="trainings done at once")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--report", action="store_true", help="write the report of what is there")
    options = parser.parse_args()
    path = options.out / f"{stem_of(options.prior)}.json"
    if not options.report:
        content = study(PLANS[options.prior], options.jobs)
        options.out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    write_report(json.loads(path.read_text(encoding="utf-8")), options.out)


if __name__ == "__main__":
    main()
