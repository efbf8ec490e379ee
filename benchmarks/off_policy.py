"""Do estimates from a log of single choices find what a router is really worth, and do their intervals hold it?

The test outcomes are known for every arm, so the true utility of a router's choices is too. A log is drawn from them
again and again: queries of every task with replacement (as many as there are, or a tenth), of each the outcome of one
arm, chosen by a known policy. The policies are uniform, and a softmax of the arms' mean utilities on train at two
temperatures. The routers (best-single, kNN, ridge) were fitted on all train outcomes; what the doubly robust estimates
take for predictions is a ridge that saw one outcome a train query, chosen by the same policy. All logs count, those
that are refused for too little overlap included: where most are, one sees why.

Run with `python benchmarks/off_policy.py [repetitions]`: on the embedded pool (simulated) and, where the environment
variable RECAL_BENCH_DATA names their folder, on two logs of real models.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

# Before numpy is imported, so that the matrix products use one core.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import numpy as np
from tabulate import tabulate

from recal_bench.evaluation.metrics import macro_mean
from recal_bench.evaluation.offpolicy import Log, overlap, refusal, row_values, value
from recal_bench.experiments.bench import Bench, load_bench, queries_of
from recal_bench.folders import shipped
from recal_bench.outcomes import mean_over_observed
from recal_bench.routers import Context, Train, create, decide, fit_seeds, load_folder

LOGS = ("routerdc_7llm.parquet", "llmrouter_default14.parquet")
ROUTERS = ("best-single", "knn", "ridge")
TEMPERATURES = {"uniform": np.inf, "softmax 0.1": 0.1, "softmax 0.03": 0.03}
SIZES = {"all": 1.0, "a tenth": 0.1}
ESTIMATORS = {"IPS": (False, False), "SNIPS": (False, True), "DR": (True, False), "SN-DR": (True, True)}


def fitted(name: str, bench: Bench, train: Train) -> Any:
    router = create(name)
    fit_seeds([router], train, bench.validation, [Context(0, "cpu", Path(), lambda line: None)])
    return router


def drawn(propensity_A: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(len(propensity_A), size=rows, p=propensity_A)


def predicted_from_a_log(bench: Bench, propensity_A: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The utility of every arm on test, by a ridge that saw one outcome a train query."""
    outcomes = bench.splits.train
    hidden_QA = np.arange(len(propensity_A)) != drawn(propensity_A, len(outcomes), rng)[:, None]
    one_each = replace(
        outcomes,
        score_QA=np.where(hidden_QA, np.nan, outcomes.score_QA),
        cost_QA=np.where(hidden_QA, np.nan, outcomes.cost_QA),
    )
    router = fitted("ridge", bench, bench.train._replace(outcomes=one_each))
    return bench.objective.utility(*router.predict(queries_of(bench.splits.test)))


def resampled(task_Q: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Rows of every task, drawn with replacement; at least two."""
    rows = [np.flatnonzero(task_Q == task) for task in np.unique(task_Q)]
    return np.concatenate([rng.choice(each, size=max(2, round(share * len(each)))) for each in rows])


def measured(bench: Bench, repetitions: int) -> Iterator[list[str]]:
    test, rng = bench.splits.test, np.random.default_rng(0)
    utility_QA = bench.objective.utility(test.score_QA, test.cost_QA)
    task_Q = np.unique(test.task_Q, return_inverse=True)[1]
    mean_A = mean_over_observed(bench.train.utility_QA)
    chosen = {
        name: decide(fitted(name, bench, bench.train), queries_of(test), bench.calls(test)).arm_Q for name in ROUTERS
    }
    for policy, temperature in TEMPERATURES.items():
        propensity_A = np.exp((mean_A - mean_A.max()) / temperature)
        propensity_A /= propensity_A.sum()
        predicted_QA = predicted_from_a_log(bench, propensity_A, rng)
        for size, share in SIZES.items():
            found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
            overlaps: dict[str, list[tuple[float, bool]]] = {name: [] for name in ROUTERS}
            for _ in range(repetitions):
                rows = resampled(task_Q, share, rng)
                arm_N = drawn(propensity_A, len(rows), rng)
                log = Log(utility_QA[rows, arm_N], propensity_A[arm_N], arm_N, task_Q[rows])
                for name, arm_Q in chosen.items():
                    seen = overlap(log, arm_Q[rows])
                    overlaps[name].append((seen.ess, refusal(seen) is not None))
                    for estimator, (predicts, self_normalised) in ESTIMATORS.items():
                        predicted_NA = predicted_QA[rows] if predicts else None
                        interval = value(row_values(log, arm_Q[rows], predicted_NA, self_normalised), log.task_N)
                        found.setdefault((name, estimator), []).append(interval[:3])
            for name, arm_Q in chosen.items():
                truth = macro_mean(utility_QA[np.arange(len(test)), arm_Q], task_Q)
                ess, refused = np.mean(overlaps[name], axis=0)
                line = [policy, size, name, f"{truth:.4f}", f"{ess:.0f}", f"{100 * refused:.0f}"]
                for estimator in ESTIMATORS:
                    line += summed_up(np.array(found[name, estimator]), truth)
                yield line


def summed_up(found_R3: np.ndarray, truth: float) -> list[str]:
    """Bias, root mean squared error, and % of intervals that hold the truth, over all logs; blank where any is NaN."""
    estimate_R, low_R, high_R = found_R3.T
    if np.isnan(low_R).any():
        return ["", "", ""]
    bias, rmse = np.mean(estimate_R - truth), np.sqrt(np.mean((estimate_R - truth) ** 2))
    return [f"{bias:+.4f}", f"{rmse:.4f}", f"{100 * np.mean((low_R <= truth) & (truth <= high_R)):.0f}"]


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    load_folder(shipped("baselines"))
    folder = os.environ.get("RECAL_BENCH_DATA")
    paths = [None, *([Path(folder) / name for name in LOGS] if folder else [])]
    headers = ["logged by", "rows", "router", "truth", "effective rows", "refused %"]
    headers += [f"{estimator} {what}" for estimator in ESTIMATORS for what in ("bias", "RMSE", "held %")]
    for path in paths:
        bench = load_bench(path)
        title = f"{bench.data.name}{' (simulated)' if bench.data.simulated else ''}"
        print(f"{title}: {len(bench.splits.test):,} test queries, {len(bench.data.arms)} arms, {repetitions} logs\n")
        print(tabulate(list(measured(bench, repetitions)), headers, "pipe", disable_numparse=True), "\n")
    error = 100 * np.sqrt(0.95 * 0.05 / repetitions)
    print(f"intervals are nominal 95%: the standard error of a share near it is {error:.1f} points")


if __name__ == "__main__":
    main()
