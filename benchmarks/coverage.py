"""How often does the 95% interval hold the truth? Simulated paired differences of seeds crossed with queries.

Seven tasks of unequal size share their seeds (so tasks are correlated), each seed also deviates per task, queries are
a random sample, and seeds disagree on single queries. Beside the crossed interval stand the two that forget half of
the randomness: the t interval of the seeds' macro means (queries fixed) and the paired interval over queries (seeds
fixed). Run with `python benchmarks/coverage.py [repetitions]`.
"""

import sys

import numpy as np
from tabulate import tabulate

from recal_bench.evaluation.metrics import task_means
from recal_bench.evaluation.statistics import crossed_interval

TASK_Q = np.repeat(np.arange(7), (30, 50, 60, 100, 100, 150, 200))
# Standard deviations: of a seed over all tasks, of a seed on one task, of a query, of a seed on a query.
SCENARIOS = {
    "seeds and queries": (0.015, 0.02, 0.3, 0.3),
    "queries dominate": (0.002, 0.004, 0.4, 0.1),
    "seeds dominate": (0.05, 0.03, 0.1, 0.1),
    "interaction dominates": (0.0, 0.0, 0.05, 0.5),
    "sparse: few queries differ": (0.01, 0.01, None, 0.0),
}


def draw(rng: np.random.Generator, n_seeds: int, scenario: str) -> np.ndarray:
    seed_sd, task_sd, query_sd, interaction_sd = SCENARIOS[scenario]
    of_seed_S = rng.normal(0, seed_sd, n_seeds)
    of_task_ST = rng.normal(0, task_sd, (n_seeds, 7))
    if query_sd is None:  # +1, 0, -1 as exact-match outcomes differ; the mean is 0
        of_query_Q = rng.choice([-1.0, 0.0, 1.0], len(TASK_Q), p=[0.06, 0.88, 0.06])
    else:
        of_query_Q = rng.normal(0, query_sd, len(TASK_Q))
    noise_SQ = rng.normal(0, interaction_sd, (n_seeds, len(TASK_Q)))
    return of_seed_S[:, None] + of_task_ST[:, TASK_Q] + of_query_Q + noise_SQ


def seeds_only(value_SQ: np.ndarray) -> bool:
    from scipy.stats import t

    macro_S = task_means(value_SQ, TASK_Q).mean(axis=1)
    half = t.ppf(0.975, len(macro_S) - 1) * macro_S.std(ddof=1) / np.sqrt(len(macro_S))
    return bool(abs(macro_S.mean()) <= half)


def holds_zero(parts: list[np.ndarray]) -> bool:
    interval = crossed_interval(parts, TASK_Q)
    return interval.low <= 0 <= interval.high


def coverage(scenario: str, n_seeds: int, repetitions: int, seed: int = 0) -> tuple[float, float, float, float]:
    """Coverage of the crossed interval, of the same against a second router of other seeds, and of the two halves."""
    rng = np.random.default_rng([seed, n_seeds, list(SCENARIOS).index(scenario)])
    held = np.zeros(4)
    for _ in range(repetitions):
        value_SQ = draw(rng, n_seeds, scenario)
        other_SQ = draw(rng, 5, scenario)
        held += [
            holds_zero([value_SQ]),
            holds_zero([value_SQ, -other_SQ]),
            seeds_only(value_SQ),
            holds_zero([value_SQ.mean(axis=0, keepdims=True)]),
        ]
    return tuple(held / repetitions)


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    rows = [
        [scenario, n_seeds, *(f"{100 * share:.1f}" for share in coverage(scenario, n_seeds, repetitions))]
        for scenario in SCENARIOS
        for n_seeds in (5, 10, 20)
    ]
    headers = ["scenario", "seeds", "crossed %", "crossed, 5 other seeds %", "seeds only %", "queries only %"]
    print(tabulate(rows, headers, disable_numparse=True))
    print(
        f"\nnominal 95%, {repetitions} repetitions: the standard error of a share near it is "
        f"{100 * np.sqrt(0.95 * 0.05 / repetitions):.1f} points"
    )


if __name__ == "__main__":
    main()
