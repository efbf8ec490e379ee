"""A log of single choices through the whole harness: what routers learn from it, and how near the estimates are.

Outcomes that are known for every arm are logged by a known policy, a softmax (temperature 0.1) of the arms' mean
utilities on train: of each query of every split the outcome of one arm, with its propensity, written to a file. Routers
are run on that file as on any log. What they chose on test is then looked up in the complete outcomes: that is the
truth, and beside it is what the same router is worth when it is fitted to the complete train split (a bandit: when
it may choose itself which arm to ask).

Run with `python benchmarks/logged_runs.py [repetitions]`: on the embedded pool (simulated) and, where the environment
variable RECAL_BENCH_DATA names their folder, on two logs of real models.
"""

import os
import sys
import tempfile
from pathlib import Path

# Before numpy is imported, so that the matrix products use one core.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import numpy as np
import pandas as pd
from tabulate import tabulate

from recal_bench.evaluation.metrics import macro_mean
from recal_bench.experiments.bench import Bench, load_bench
from recal_bench.experiments.plans import RunPlan
from recal_bench.experiments.records import Run
from recal_bench.experiments.runs import run_router
from recal_bench.folders import shipped
from recal_bench.outcomes import Objective, Outcomes
from recal_bench.reporting.figures.logged import logged_tables
from recal_bench.routers import create, load_folder

LOGS = ("routerdc_7llm.parquet", "llmrouter_default14.parquet")
ROUTERS = ("best-single", "knn", "ridge", "mlp", "linucb", "thompson", "pilot")
TEMPERATURE = 0.1


def write_log(bench: Bench, path: Path, rng: np.random.Generator) -> None:
    """One outcome of each query of every split."""
    mean_A = np.nanmean(bench.train.utility_QA, axis=0)
    propensity_A = np.exp((mean_A - mean_A.max()) / TEMPERATURE)
    propensity_A /= propensity_A.sum()
    frames = [_one_each(name, part, propensity_A, rng) for name, part in bench.splits.parts.items()]
    pd.concat(frames).to_parquet(path, index=False)


def _one_each(split: str, part: Outcomes, propensity_A: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    rows, arm_Q = np.arange(len(part)), rng.choice(len(part.arms), size=len(part), p=propensity_A)
    return pd.DataFrame(
        {
            "split": split,
            "task": part.task_Q,
            "query_id": part.query_id_Q,
            "prompt": part.prompt_Q,
            "model": [part.arms[arm].model for arm in arm_Q],
            "strategy": [part.arms[arm].strategy for arm in arm_Q],
            "score": part.score_QA[rows, arm_Q],
            "cost_usd": part.cost_QA[rows, arm_Q],
            "propensity": propensity_A[arm_Q],
        }
    )


def truth(run: Run, bench: Bench, objective: Objective) -> float:
    """The macro utility on test of what a run chose there, by the complete outcomes."""
    test = bench.splits.test
    decided = run.decisions()
    decided = decided[decided["split"] == "test"].set_index(["task", "query_id"])
    arms = {str(arm): index for index, arm in enumerate(test.arms)}
    keys = list(zip(test.task_Q, test.query_id_Q, strict=True))
    arm_Q = decided["arm"].loc[keys].map(arms).to_numpy()
    rows = np.arange(len(test))
    return float(macro_mean(objective.utility(test.score_QA[rows, arm_Q], test.cost_QA[rows, arm_Q]), test.task_Q))


def measured(path: Path | None, repetitions: int, folder: Path) -> tuple[Bench, list[list[str]]]:
    bench = load_bench(path)
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in ROUTERS}
    full: dict[str, list[float]] = {name: [] for name in ROUTERS}
    for repetition in range(repetitions):
        work = folder / f"{bench.data.name}-{repetition}"
        work.mkdir()
        write_log(bench, work / "log.parquet", np.random.default_rng(repetition))
        log = load_bench(work / "log.parquet")
        runs = []
        for name in ROUTERS:
            runs += run_router(log, RunPlan(name, create(name), (repetition,)), work)
            if repetition < 5:
                (complete,) = run_router(bench, RunPlan(name, create(name), (repetition,)), folder / "complete")
                full[name].append(truth(complete, bench, log.objective))
        rows = {row.router: row for row in logged_tables(runs)[0].rows}
        for run in runs:
            name = run.record.configuration.router
            true, row = truth(run, bench, log.objective), rows[name]
            if row.snips is None or row.dr is None:
                found[name].append((true, np.nan, np.nan, np.nan, np.nan, row.effective_queries))
                continue
            held = [each.ci[0] <= true <= each.ci[1] for each in (row.snips, row.dr) if each.ci]
            errors = (row.snips.value - true, row.dr.value - true)
            found[name].append((true, *errors, *map(float, held), row.effective_queries))
    lines = []
    for name in ROUTERS:
        values = np.array(found[name])
        kept = values[~np.isnan(values[:, 1])]
        line = [name, f"{np.mean(full[name]):.3f}", f"{values[:, 0].mean():.3f}", f"{values[:, 5].mean():.0f}"]
        line.append(f"{100 * (1 - len(kept) / len(values)):.0f}")
        for error, held in ((1, 3), (2, 4)):
            if len(kept):
                line += [f"{kept[:, error].mean():+.4f}", f"{np.sqrt((kept[:, error] ** 2).mean()):.4f}"]
                line.append(f"{100 * kept[:, held].mean():.0f}")
            else:
                line += ["", "", ""]
        lines.append(line)
    return bench, lines


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    load_folder(shipped("baselines"))
    data = os.environ.get("RECAL_BENCH_DATA")
    headers = ["router", "utility, fit on all outcomes", "fit on the log", "effective queries", "refused %"]
    headers += [f"{name} {what}" for name in ("SNIPS", "DR") for what in ("error", "RMSE", "held %")]
    for path in [None, *([Path(data) / name for name in LOGS] if data else [])]:
        with tempfile.TemporaryDirectory() as folder:
            bench, lines = measured(path, repetitions, Path(folder))
        simulated = " (simulated)" if bench.data.simulated else ""
        size = f"{len(bench.splits.test):,} test queries, {len(bench.data.arms)} arms, {repetitions} logs"
        print(f"{bench.data.name}{simulated}, {bench.data.hash}: {size}\n")
        print(tabulate(lines, headers, "pipe", disable_numparse=True), "\n", flush=True)


if __name__ == "__main__":
    main()
