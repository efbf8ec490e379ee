"""How often does the set of the best hold the best router, and a rank interval the true rank? Simulated tables.

Routers decide on the same queries of seven tasks of unequal size. A query is hard for all of them, suits one more than
another, and with several seeds each router also has its luck of training, over all queries and on single ones. Of the
routers all are equally good, or the upper half (the others are worse by four standard errors of a difference), or none
(each is worse than the one before by two). The first table goes through sizes; the second through kinds of luck, for
ten routers that are all equally good, where a set holds the best least often.

Run with `python benchmarks/ties.py [repetitions]`, on one core; it exits 1 where equally good routers are in the set
less often than in 93% of the tables, or with the usual luck more often than in 97%, by more than chance.
"""

import os
import sys
import time
from typing import NamedTuple

# Before numpy is imported, so that the matrix products use one core too.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import numpy as np
from tabulate import tabulate

from recal_bench.evaluation.ties import Ties, crossed_pairs, paired_means, ties

SHARE_T = np.array([30, 50, 60, 100, 100, 150, 200]) / 690
RESAMPLES = 1000
LEAST, MOST = 0.93, 0.97


class Luck(NamedTuple):
    """Standard deviations: of a seed over all tasks, of a query for all routers, of a query for one, of a seed on one.

    `shared`: the part of the seeds' variance that routers with the same seed have in common. `differing`: the share of
    the queries on which routers differ at all, by a right answer. `fixed`: every other router is deterministic.
    """

    seed: float
    query: float
    router: float
    single: float
    shared: float = 0.0
    differing: float | None = None
    fixed: bool = False


USUAL = Luck(0.01, 0.4, 0.2, 0.2)
KINDS = {
    "seeds and queries": USUAL,
    "seeds dominate": Luck(0.05, 0.1, 0.05, 0.05),
    "seeds dominate, and are shared by half": Luck(0.05, 0.1, 0.05, 0.05, 0.5),
    "seeds dominate in every other router, the rest have none": Luck(0.05, 0.1, 0.05, 0.05, fixed=True),
    "queries dominate": Luck(0.001, 0.4, 0.3, 0.05),
    "interaction dominates": Luck(0.0, 0.05, 0.02, 0.5),
    "routers differ on 10% of the queries": Luck(0.0, 0.4, 0.0, 0.0, 0.0, 0.1),
    "routers differ on 3% of the queries": Luck(0.0, 0.4, 0.0, 0.0, 0.0, 0.03),
}


def tasks(n_queries: int) -> np.ndarray:
    return np.repeat(np.arange(7), np.round(n_queries * SHARE_T).astype(int))


def draw(
    rng: np.random.Generator, luck: Luck, mean_R: np.ndarray, n_seeds: int, task_Q: np.ndarray
) -> list[np.ndarray]:
    """Each router's values, `[S, Q]`. One seed is that of a deterministic router, without any luck of training."""
    n_queries = len(task_Q)
    query_Q = rng.normal(0, luck.query, n_queries)
    common_S = rng.normal(0, luck.seed * np.sqrt(luck.shared), n_seeds)
    values = []
    for place, mean in enumerate(mean_R):
        if luck.differing is None:
            own_Q = rng.normal(0, luck.router, n_queries)
        else:
            own_Q = rng.choice(
                [-1.0, 0.0, 1.0], n_queries, p=[luck.differing / 2, 1 - luck.differing, luck.differing / 2]
            )
        value_SQ = np.tile(mean + query_Q + own_Q, (n_seeds, 1))
        if n_seeds > 1 and not (luck.fixed and place % 2):
            own_S = common_S + rng.normal(0, luck.seed * np.sqrt(1 - luck.shared), n_seeds)
            value_SQ += own_S[:, None] + rng.normal(0, luck.single, (n_seeds, n_queries))
        values.append(value_SQ)
    return values


def error(luck: Luck, n_seeds: int, task_Q: np.ndarray) -> float:
    """The true standard error of a difference of two routers."""
    of_query = luck.router**2
    of_seed = 0.0
    if n_seeds > 1:
        of_query, of_seed = of_query + luck.single**2 / n_seeds, luck.seed**2 * (1 - luck.shared) / n_seeds
    return float(np.sqrt(2 * (of_seed + of_query * (1 / np.bincount(task_Q)).sum() / 49)))


def means(layout: str, n_routers: int, step: float) -> np.ndarray:
    place_R = np.arange(n_routers)
    return {
        "all tied": np.zeros(n_routers),
        "half tied": np.where(place_R < (n_routers + 1) // 2, 0.0, -4 * step),
        "separated": -2 * step * place_R,
    }[layout]


def judged(found: Ties, mean_R: np.ndarray) -> list[float]:
    """Share of the truly best in the set, its size, share of the ranks held by their intervals, and mean width."""
    better_R = (mean_R > mean_R[:, None]).sum(axis=1)
    worse_R = (mean_R < mean_R[:, None]).sum(axis=1)
    low_R, high_R = found.rank_R2.T
    held_R = (low_R <= 1 + better_R) & (high_R >= len(mean_R) - worse_R)
    return [found.best_R[better_R == 0].mean(), found.best_R.sum(), held_R.mean(), (high_R - low_R + 1).mean()]


def table(rng: np.random.Generator, luck: Luck, mean_R: np.ndarray, n_seeds: int, task_Q: np.ndarray) -> list[float]:
    values = draw(rng, luck, mean_R, n_seeds, task_Q)
    if luck.fixed:  # every other router is deterministic
        values = [value_SQ[:1] if place % 2 else value_SQ for place, value_SQ in enumerate(values)]
    pairs = crossed_pairs([(value_SQ, None) for value_SQ in values], [range(len(each)) for each in values], task_Q)
    return judged(ties(pairs, RESAMPLES), mean_R)


def worlds(rng: np.random.Generator, n_worlds: int, n_routers: int) -> list[float]:
    value_WR = rng.normal(0, 0.1, (n_worlds, 1)) + rng.normal(0, 0.02, (n_worlds, n_routers))
    return judged(ties(paired_means(value_WR), RESAMPLES), np.zeros(n_routers))


def cells(found: list[list[float]]) -> list[str]:
    set_held, size, rank_held, width = np.mean(found, axis=0)
    # Over tables, since the routers of one table share its queries.
    chance = np.std([each[0] for each in found], ddof=1) / np.sqrt(len(found))
    return [f"{100 * set_held:.1f} ± {100 * chance:.1f}", f"{size:.1f}", f"{100 * rank_held:.1f}", f"{width:.1f}"]


def outside(found: list[list[float]], most: float = 1.0) -> bool:
    held = np.array([each[0] for each in found])
    chance = 3 * held.std(ddof=1) / np.sqrt(len(held))
    return not LEAST - chance <= held.mean() <= most + chance


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 150
    started, wrong = time.perf_counter(), []
    sizes, kinds = [], []
    for n_routers in (3, 10, 40):
        # Of more routers each table says more.
        times = max(2, repetitions * 10 // (n_routers if n_routers > 3 else 10) // (2 if n_routers > 10 else 1))
        for n_seeds in (1, 5):
            for n_queries in (200, 2000):
                task_Q = tasks(n_queries)
                for layout in ("all tied", "half tied", "separated"):
                    rng = np.random.default_rng([n_routers, n_seeds, n_queries])
                    mean_R = means(layout, n_routers, error(USUAL, n_seeds, task_Q))
                    found = [table(rng, USUAL, mean_R, n_seeds, task_Q) for _ in range(times)]
                    sizes.append([n_routers, n_seeds, n_queries, layout, times, *cells(found)])
                    wrong += [str(sizes[-1][:4])] if layout == "all tied" and outside(found, MOST) else []
    for kind, luck in KINDS.items():
        for n_seeds in (3, 5, 10):
            if luck.differing is not None and n_seeds > 3:
                continue
            rng = np.random.default_rng(n_seeds)
            n_seeds = 1 if luck.differing is not None else n_seeds
            found = [table(rng, luck, np.zeros(10), n_seeds, tasks(500)) for _ in range(repetitions)]
            kinds.append([kind, n_seeds, *cells(found)])
            wrong += [str(kinds[-1][:2])] if outside(found) else []
    for n_worlds in (3, 5, 10):
        rng = np.random.default_rng(n_worlds)
        found = [worlds(rng, n_worlds, 10) for _ in range(repetitions)]
        kinds.append(["worlds", n_worlds, *cells(found)])
        wrong += [str(kinds[-1][:2])] if outside(found) else []
    figures = ["best in the set, %", "size of the set", "rank held, %", "ranks in an interval"]
    for title, headers, rows in (
        ("Sizes", ["routers", "seeds", "queries", "truth", "tables", *figures], sizes),
        ("Kinds of luck, 10 routers that are equally good, 500 queries", ["luck", "seeds or worlds", *figures], kinds),
    ):
        print(f"{title}\n\n{tabulate(rows, headers, 'pipe', disable_numparse=True)}\n")
    print(f"nominal 95%; ± is the standard error of the share; {time.perf_counter() - started:.0f} seconds")
    if wrong:
        sys.exit(f"the set holds equally good routers too rarely or too often: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
