"""One policy for every price of cost against one policy for each: utility on test at each alpha (embedded, simulated).

    python benchmarks/one_policy.py [--seeds 10] [--world-seed 34]

Both are `recal` at its defaults; the conditioned one is trained once. Differences are paired by seed and query, with
95% intervals over both.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from recal_bench import provenance, routers
from recal_bench.evaluation.statistics import crossed_interval
from recal_bench.experiments.bench import Bench, load_bench, queries_of
from recal_bench.routers import Context, decide

ALPHAS = (0.0, 0.02, 0.05, 0.2, 0.6, 1.0, 2.0)


def fitted(bench: Bench, seeds: Sequence[int], mode: str) -> list[routers.Router]:
    made = [routers.create("recal", {"policy.alpha": mode}) for _ in seeds]
    with tempfile.TemporaryDirectory() as folder:
        contexts = [Context(seed, "cpu", Path(folder) / str(seed), lambda line: None) for seed in seeds]
        routers.fit_seeds(made, bench.train, bench.validation, contexts)
    return made


def utilities(bench: Bench, made: Sequence[routers.Router]) -> NDArray[np.float64]:
    """Utility of each seed's choice on each test query at the bench's alpha, `[S, Q]`."""
    test = bench.splits.test
    utility_QA = bench.objective.utility(test.score_QA, test.cost_QA)
    queries, rows = queries_of(test), np.arange(len(test))
    return np.stack([utility_QA[rows, decide(each, queries, bench.calls(test)).arm_Q] for each in made])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--world-seed", type=int, default=34)
    arguments = parser.parse_args()
    routers.discover()
    seeds = range(arguments.seeds)
    once = fitted(load_bench(world_seed=arguments.world_seed), seeds, "conditioned")
    rows = []
    for alpha in ALPHAS:
        bench = load_bench(world_seed=arguments.world_seed, alpha=alpha)
        one_SQ, each_SQ = utilities(bench, once), utilities(bench, fitted(bench, seeds, "fixed"))
        task_Q = bench.splits.test.task_Q
        values = [crossed_interval([value_SQ], task_Q).estimate for value_SQ in (one_SQ, each_SQ)]
        of = crossed_interval([one_SQ - each_SQ], task_Q)
        difference = f"{of.estimate:+.4f} [{of.low:+.4f}, {of.high:+.4f}]"
        rows.append([f"{alpha:g}", *(f"{value:.4f}" for value in values), difference])
    print(
        f"simulated: embedded pool, world seed {arguments.world_seed} ({bench.data.hash}), seeds 0-{seeds[-1]}, "
        f"{provenance.code_version()}"
    )
    print(
        tabulate(rows, ["alpha", "one policy", "a policy each", "difference"], tablefmt="github", disable_numparse=True)
    )


if __name__ == "__main__":
    main()
