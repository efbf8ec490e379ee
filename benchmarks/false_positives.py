"""How often are two equally good routers told apart? Layouts of tiny and large tasks, few and many differing queries.

Every difference is simulated with a true mean of 0. The shares of tests with p below .05 and below .001 should be 5%
and .1%, and no more than 7% and .3%; where hardly any query differs they are lower, down to none below 6 differing
queries, whose signs are all equal too often by chance. Three kinds of difference: of deterministic routers that differ
by a right answer; of such that also differ by what they pay; and of a router with five seeds, which disagree on half of
the differing queries. The last column is that of "P(improvement) is one half".
Run with `python benchmarks/false_positives.py [repetitions]`; it exits 1 where a share is above the bounds.
"""

import sys
from collections.abc import Callable

import numpy as np
from tabulate import tabulate

from recal_bench.evaluation.metrics import task_means
from recal_bench.evaluation.statistics import crossed_interval, improvement

LAYOUTS = {
    "2 x 1": [1] * 2,
    "2 x 5": [5] * 2,
    "2 x 30": [30] * 2,
    "2 x 500": [500] * 2,
    "7 x 2": [2] * 7,
    "7 x 100": [100] * 7,
    "20 x 1": [1] * 20,
    "20 x 5": [5] * 20,
    "80 x 1": [1] * 80,
    "80 x 3": [3] * 80,
    "80 x 20": [20] * 80,
    "1 and 500": [1, 500],
    "1 and 6 x 100": [1] + [100] * 6,
    "38 x 1 and 23 of 2 to 7": [1] * 38 + [2] * 12 + [3] * 5 + [4, 4, 5, 6, 6, 7],
    "1, 2, 4 to 256": [2**power for power in range(9)],
    "40 x 1 and 40 x 50": [1] * 40 + [50] * 40,
}
SHARES = (0.005, 0.05, 0.2, 0.5)
LEVELS = (0.05, 0.001)
MOST = (0.07, 0.003)
SEEDS = 5


def of_answers(rng: np.random.Generator, n_queries: int, share: float) -> np.ndarray:
    return rng.choice([-1.0, 0.0, 1.0], (1, n_queries), p=[share / 2, 1 - share, share / 2])


def of_answers_and_costs(rng: np.random.Generator, n_queries: int, share: float) -> np.ndarray:
    """Every choice of another arm costs something else; in half of them the answer differs too."""
    other_Q = rng.random((1, n_queries)) < share
    answer_Q = rng.choice([-1.0, 0.0, 0.0, 1.0], (1, n_queries))
    return np.where(other_Q, answer_Q + rng.normal(0, 0.05, (1, n_queries)), 0.0)


def of_seeds(rng: np.random.Generator, n_queries: int, share: float) -> np.ndarray:
    agreed_Q, own_SQ = of_answers(rng, n_queries, share), rng.choice([-1.0, 1.0], (SEEDS, n_queries))
    return np.where(rng.random((SEEDS, n_queries)) < 0.5, agreed_Q, np.abs(agreed_Q) * own_SQ)


KINDS: dict[str, Callable[[np.random.Generator, int, float], np.ndarray]] = {
    "answers": of_answers,
    "answers and costs": of_answers_and_costs,
    "five seeds": of_seeds,
}


def rejected(p_R: np.ndarray) -> list[float]:
    return [float((p_R < level).mean()) for level in LEVELS]


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rng = np.random.default_rng(0)
    rows, worst = [], np.zeros((len(KINDS) + 1, len(LEVELS)))
    for layout, sizes in LAYOUTS.items():
        task_Q = np.repeat(np.arange(len(sizes)), sizes)
        for share in SHARES:
            drawn = {name: [draw(rng, len(task_Q), share) for _ in range(repetitions)] for name, draw in KINDS.items()}
            p_KR = [[crossed_interval([value_SQ], task_Q).p for value_SQ in values] for values in drawn.values()]
            means = [task_means(value_SQ, task_Q) for value_SQ in drawn["five seeds"]]
            p_KR.append([improvement(mean_ST, np.zeros((1, len(sizes)))).p for mean_ST in means])
            found_KL = np.array([rejected(np.array(p_R)) for p_R in p_KR])
            worst = np.maximum(worst, found_KL)
            cells = [f"{100 * at_5:.1f} / {100 * at_1:.2f}" for at_5, at_1 in found_KL]
            rows.append([layout, f"{100 * share:g}%", f"{share * len(task_Q):.3g}", *cells])
    headers = ["tasks x queries", "differing", "queries", *KINDS, "P(improvement)"]
    print("False positives in %, at 5% and at 0.1%\n")
    print(tabulate(rows, headers, "pipe", disable_numparse=True))
    errors = [np.sqrt(level * (1 - level) / repetitions) for level in LEVELS]
    print(f"\n{repetitions} repetitions: standard errors of {100 * errors[0]:.1f} and {100 * errors[1]:.2f} points")
    print("worst: " + "; ".join(f"{100 * at_5:.1f} / {100 * at_1:.2f}" for at_5, at_1 in worst))
    allowed = [most + 3 * error for most, error in zip(MOST, errors, strict=True)]
    if (worst > allowed).any():
        sys.exit("some shares are above the bounds of 7% and 0.3%, by more than chance")


if __name__ == "__main__":
    main()
