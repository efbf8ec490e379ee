"""What `trust` costs and what it saves: outcomes shrunk to the hierarchical prior, where the truth is known.

    python benchmarks/shrinkage.py

On worlds 0, 1 and 2 of the embedded pool (simulated). First table: an estimator without bias follows the arm of the
highest expected reward, `trust * utility + (1 - trust) * what the prior expects`; the regret of that arm, and how far a
reward is from the arm's expected utility. Second table: tabular policies that follow estimators through drawn groups of
such rewards, as in `benchmarks/bias.py`. Prints two tables; some minutes on one core. docs/bias.md has them.
"""

from pathlib import Path

import numpy as np
from bias import CLIMB_DRAWN, CLIMB_SEED, CLIMBED_EVERY, CLIMBS, EARLY_SCALE, Floats, drawn, rules
from tabulate import tabulate

from recal_bench import routers
from recal_bench.evaluation.bias import Climb, climb
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.experiments.bench import Bench, load_bench, queries_of
from recal_bench.routers import Context
from recal_bench.simulation import questions_by_prompt

WORLDS = (0, 1, 2)
TRUSTS = (1.0, 0.5, 0.2, 0.1, 0.0)
FOLLOWED = ("dr-grpo", "recal", "recal-no-reweighting", "grpo")
CLIMBED_TRUSTS = (1.0, 0.5, 0.2)


def prior_of(bench: Bench) -> tuple[Floats, Floats]:
    """Scores and costs (in units of `cost_ref`) that the router `hierarchy` expects of test, `[Q, A]`."""
    router = routers.create("hierarchy")
    router.fit(bench.train, bench.validation, Context(0, "cpu", Path(), lambda line: None))
    predicted = router.predict(queries_of(bench.splits.test))
    return predicted.score_QA, predicted.cost_QA / bench.objective.cost_ref


def regrets(bench: Bench) -> tuple[list[float], list[float], float]:
    """By trust: regret of the arm followed, and root mean squared error of a reward; and the ratio of variances."""
    test, alpha, cost_ref = bench.splits.test, bench.objective.alpha, bench.objective.cost_ref
    true_QA = test.expected_score_QA - alpha * test.expected_cost_QA / cost_ref
    drawn_QA = test.score_QA - alpha * test.cost_QA / cost_ref
    score_QA, cost_QA = prior_of(bench)
    prior_QA = score_QA - alpha * cost_QA
    regret, error = [], []
    for trust in TRUSTS:
        followed_Q = (trust * true_QA + (1 - trust) * prior_QA).argmax(axis=1)
        lost_Q = true_QA.max(axis=1) - true_QA[np.arange(len(followed_Q)), followed_Q]
        regret.append(macro_mean(lost_Q, test.task_Q))
        missed_QA = trust * drawn_QA + (1 - trust) * prior_QA - true_QA
        error.append(float(np.sqrt((missed_QA**2).mean())))
    ratio = float(((true_QA - prior_QA) ** 2).mean() / ((drawn_QA - prior_QA) ** 2).mean())
    return regret, error, ratio


def climbed(bench: Bench, world: int) -> list[list[str]]:
    """Regret of the likeliest arm that a policy comes to from the prior, by estimator and trust."""
    test, alpha, cost_ref = bench.splits.test, bench.objective.alpha, bench.objective.cost_ref
    rows, by_prompt = np.arange(0, len(test), CLIMBED_EVERY), questions_by_prompt(world)
    score_NQA, cost_NQA = drawn([by_prompt[prompt] for prompt in test.prompt_Q[rows]], CLIMB_DRAWN, CLIMB_SEED)
    expected_score_QA, expected_cost_QA = (part[rows] for part in prior_of(bench))
    true_QA = (test.expected_score_QA - alpha * test.expected_cost_QA / cost_ref)[rows]
    start_QA = EARLY_SCALE * (expected_score_QA - alpha * expected_cost_QA)
    made, table = rules(), []
    for name in FOLLOWED:
        line = [name]
        for trust in CLIMBED_TRUSTS:
            shrunk = trust * score_NQA + (1 - trust) * expected_score_QA
            costs = trust * cost_NQA / cost_ref + (1 - trust) * expected_cost_QA
            way = Climb(explore=CLIMBS["prior"])
            arm_Q = climb(made[name], alpha, shrunk, costs, start_QA, way, seed=0).argmax(axis=1)
            lost_Q = true_QA.max(axis=1) - true_QA[np.arange(len(rows)), arm_Q]
            line.append(f"{lost_Q.mean():.4f}")
        table.append(line)
    return table


def main() -> None:
    routers.discover()
    benches = [load_bench(world_seed=world) for world in WORLDS]
    found = [regrets(bench) for bench in benches]
    regret_WT, error_WT = np.array([each[0] for each in found]), np.array([each[1] for each in found])
    lines = [
        [f"{trust:g}", f"{regret.mean():.4f}", f"{regret.min():.4f} to {regret.max():.4f}", f"{error.mean():.3f}"]
        for trust, regret, error in zip(TRUSTS, regret_WT.T, error_WT.T, strict=True)
    ]
    hashes = ", ".join(f"world {world} {bench.data.hash}" for world, bench in zip(WORLDS, benches, strict=True))
    print(f"Simulated: {hashes}\n")
    print(tabulate(lines, ["trust", "regret", "worlds", "error of a reward"], "pipe", disable_numparse=True))
    print(f"\nratio of variances: {', '.join(f'{each[2]:.3f}' for each in found)}\n")
    headers = ["estimator", *(f"trust {trust:g}" for trust in CLIMBED_TRUSTS)]
    print(tabulate(climbed(benches[0], WORLDS[0]), headers, "pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
