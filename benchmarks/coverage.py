"""How often does the 95% interval hold the truth? Simulated differences of seeds crossed with queries.

Seven tasks of unequal size share their seeds (so tasks are correlated), each seed also deviates per task, queries are
a random sample, and seeds disagree on single queries. Four tables: the methods for the macro mean; those for a single
seed; those for the interquartile mean, whose tasks are of different difficulty; and the power of the test at the
minimum detectable difference. Run with `python benchmarks/coverage.py [repetitions]`; benchmarks/intervals.py times
the same functions.
"""

import sys

import numpy as np
from scipy.stats import t
from tabulate import tabulate

from recal_bench.evaluation.bootstrap import calibrated_interval, crossed_bootstrap, iqm, percentile_interval
from recal_bench.evaluation.metrics import task_means
from recal_bench.evaluation.statistics import crossed_interval, mde

TASK_Q = np.repeat(np.arange(7), (30, 50, 60, 100, 100, 150, 200))
LEVEL_T = np.array([0.25, 0.3, 0.45, 0.5, 0.62, 0.7, 0.9])
RESAMPLES = 1000
OTHER_SEEDS = 5
# Standard deviations: of a seed over all tasks, of a seed on one task, of a query, of a seed on a query.
SCENARIOS = {
    "seeds and queries": (0.015, 0.02, 0.3, 0.3),
    "queries dominate": (0.002, 0.004, 0.4, 0.1),
    "seeds dominate": (0.05, 0.03, 0.1, 0.1),
    "interaction dominates": (0.0, 0.0, 0.05, 0.5),
    "sparse: few queries differ": (0.01, 0.01, None, 0.0),
}


def seed_effects(rng: np.random.Generator, n_seeds: int, scenario: str) -> np.ndarray:
    """What each seed does on each task, `[S, T]`, over all queries there could be."""
    seed_sd, task_sd, _, _ = SCENARIOS[scenario]
    of_seed_S = rng.normal(0, seed_sd, n_seeds)
    return of_seed_S[:, None] + rng.normal(0, task_sd, (n_seeds, 7))


def draw(
    rng: np.random.Generator, n_seeds: int, scenario: str, task_Q: np.ndarray = TASK_Q
) -> tuple[np.ndarray, np.ndarray]:
    """Values of mean 0, `[S, Q]`, and the seeds' effects behind them, `[S, T]`."""
    _, _, query_sd, interaction_sd = SCENARIOS[scenario]
    effect_ST = seed_effects(rng, n_seeds, scenario)
    if query_sd is None:  # +1, 0, -1 as exact-match outcomes differ; the mean is 0
        of_query_Q = rng.choice([-1.0, 0.0, 1.0], len(task_Q), p=[0.06, 0.88, 0.06])
    else:
        of_query_Q = rng.normal(0, query_sd, len(task_Q))
    noise_SQ = rng.normal(0, interaction_sd, (n_seeds, len(task_Q)))
    return effect_ST[:, task_Q] + of_query_Q + noise_SQ, effect_ST


def seeds_only(value_SQ: np.ndarray) -> tuple[float, float]:
    """The t interval of the seeds' macro means, which takes the queries as fixed."""
    macro_S = task_means(value_SQ, TASK_Q).mean(axis=1)
    half = t.ppf(0.975, len(macro_S) - 1) * macro_S.std(ddof=1) / np.sqrt(len(macro_S))
    return macro_S.mean() - half, macro_S.mean() + half


def holds(interval: tuple[float, ...], truth: float) -> bool:
    low, high = interval[1:3] if len(interval) > 2 else interval
    return low <= truth <= high


def resample(rng: np.random.Generator, *values: np.ndarray) -> list[np.ndarray]:
    """Each router's task means on common queries, `[B, S, T]`; each has seeds of its own."""
    names = [tuple(range(100 * index, 100 * index + len(value_SQ))) for index, value_SQ in enumerate(values)]
    return crossed_bootstrap(values, names, TASK_Q, RESAMPLES, int(rng.integers(2**32)))


def of_means(rng: np.random.Generator, n_seeds: int, scenario: str) -> list[bool]:
    value_SQ, _ = draw(rng, n_seeds, scenario)
    other_SQ, _ = draw(rng, OTHER_SEEDS, scenario)
    macro_B, other_B = (mean_BST.mean(axis=(1, 2)) for mean_BST in resample(rng, value_SQ, other_SQ))
    return [
        holds(crossed_interval([value_SQ], TASK_Q), 0),
        holds(crossed_interval([value_SQ, -other_SQ], TASK_Q), 0),
        holds(percentile_interval(macro_B), 0),
        holds(percentile_interval(macro_B - other_B), 0),
        holds(seeds_only(value_SQ), 0),
        holds(crossed_interval([value_SQ.mean(axis=0, keepdims=True)], TASK_Q), 0),
    ]


def of_one_seed(rng: np.random.Generator, scenario: str) -> list[bool]:
    value_SQ, effect_ST = draw(rng, 1, scenario)
    (mean_BST,) = resample(rng, value_SQ)
    truth = effect_ST.mean()
    return [
        holds(crossed_interval([value_SQ], TASK_Q), truth),
        holds(percentile_interval(mean_BST.mean(axis=(1, 2))), truth),
    ]


def of_iqm(rng: np.random.Generator, n_seeds: int, scenario: str, truth: float) -> list[bool]:
    value_SQ, other_SQ = (draw(rng, n_seeds, scenario)[0] + LEVEL_T[TASK_Q] for _ in range(2))
    mean_BST, other_BST = resample(rng, value_SQ, other_SQ)
    iqm_B, macro_B = iqm(mean_BST), mean_BST.mean(axis=(1, 2))
    difference_B, of_macro_B = iqm_B - iqm(other_BST), macro_B - other_BST.mean(axis=(1, 2))
    found, other = (float(iqm(task_means(each_SQ, TASK_Q))) for each_SQ in (value_SQ, other_SQ))
    of_mean, of_difference = crossed_interval([value_SQ], TASK_Q), crossed_interval([value_SQ, -other_SQ], TASK_Q)
    return [
        holds(calibrated_interval(found, iqm_B, macro_B, of_mean), truth),
        holds(calibrated_interval(found - other, difference_B, of_macro_B, of_difference), 0),
        holds(percentile_interval(iqm_B), truth),
        holds(percentile_interval(difference_B), 0),
    ]


def of_power(rng: np.random.Generator, n_seeds: int, scenario: str, shift: float) -> list[bool]:
    return [crossed_interval([draw(rng, n_seeds, scenario)[0] + shift], TASK_Q).p < 0.05]


def share(trials: list[list[bool]]) -> list[str]:
    return [f"{100 * held:.1f}" for held in np.mean(trials, axis=0)]


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    means, singles, iqms, powers = [], [], [], []
    for index, scenario in enumerate(SCENARIOS):
        rng = np.random.default_rng([0, index])
        # A large pilot says which difference fewer seeds and a tenth of the queries can tell.
        pilot_Q = np.repeat(TASK_Q, 10)
        pilot_SQ, _ = draw(rng, 200, scenario, pilot_Q)
        for n_seeds in (5, 10, 20):
            head = [scenario, n_seeds]
            means.append(head + share([of_means(rng, n_seeds, scenario) for _ in range(repetitions)]))
            # The interquartile mean of this many seeds if there were no end of queries, which more seeds only smooth.
            endless_RST = np.stack([seed_effects(rng, n_seeds, scenario) for _ in range(20_000)])
            truth = float(iqm(LEVEL_T + endless_RST).mean())
            iqms.append(head + share([of_iqm(rng, n_seeds, scenario, truth) for _ in range(repetitions)]))
            shift = mde([pilot_SQ], pilot_Q, n_seeds, queries_factor=0.1)
            powered = share([of_power(rng, n_seeds, scenario, shift) for _ in range(repetitions)])
            powers.append([*head, f"{shift:.4f}", *powered])
        singles.append([scenario, *share([of_one_seed(rng, scenario) for _ in range(repetitions)])])
    both = ["scenario", "seeds"]
    other = f"vs {OTHER_SEEDS} other seeds"
    means_header = ["crossed", f"crossed, {other}", "bootstrap", f"bootstrap, {other}", "seeds only", "queries only"]
    for title, headers, rows in (
        ("Macro mean, % of intervals that hold the truth", both + means_header, means),
        ("One seed, % that hold the truth of that seed", ["scenario", "crossed", "bootstrap"], singles),
        (
            "Interquartile mean, % that hold the truth",
            [*both, "calibrated", "calibrated, difference", "percentile", "percentile, difference"],
            iqms,
        ),
        ("Power at the minimum detectable difference, wanted 80%", [*both, "difference", "power %"], powers),
    ):
        print(f"{title}\n\n{tabulate(rows, headers, 'pipe', disable_numparse=True)}\n")
    print(
        f"nominal 95%, {repetitions} repetitions: the standard error of a share near it is "
        f"{100 * np.sqrt(0.95 * 0.05 / repetitions):.1f} points, near 80% {100 * np.sqrt(0.8 * 0.2 / repetitions):.1f}"
    )


if __name__ == "__main__":
    main()
