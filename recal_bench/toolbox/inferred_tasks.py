"""Which task of train a text most likely belongs to, for routers that think in tasks: no router is told one."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatQA, IntQ, StrQ
from recal_bench.encoders.cache import Arrays, through_cache

PENALTY = 10.0
"""In queries."""
VERSION = 1
"""Of the posterior: part of its key in the cache, raised whenever its weights change."""
INVERSE_PENALTY = 10.0
"""Of the logistic regression; large, since confident tasks serve better than timid ones."""
ITERATIONS = 300


def fit_posterior(encoding_QE: NDArray[np.floating], task_Q: NDArray[Any]) -> NDArray[np.float64]:
    """Weights `[E + 1, T]` of a multinomial logistic regression; the last row is the intercept. Tasks sorted.

    `softmax(x @ weights)` is the probability of each task. Every task has the same weight in the fit.

    Variants of a router, and the next run on the same outcomes, ask for the same weights: they are kept in the cache.
    """
    names, number_Q = np.unique(task_Q, return_inverse=True)
    shape = (encoding_QE.shape[1] + 1, len(names))
    if len(names) == 1:
        return np.zeros(shape)
    input_QE: NDArray[np.float64] = np.ascontiguousarray(encoding_QE, dtype=np.float64)
    constants = [VERSION, metadata.version("scikit-learn"), INVERSE_PENALTY, ITERATIONS, *shape]
    digest = hashlib.sha256(repr(constants).encode())
    digest.update(input_QE.tobytes())
    digest.update(number_Q.astype(np.int64).tobytes())

    def check(arrays: Arrays) -> None:
        if arrays["weight_ET"].shape != shape or arrays["weight_ET"].dtype != np.float64:
            raise ValueError("weights of another shape")

    path = Path("posteriors") / f"{digest.hexdigest()[:32]}.npz"
    arrays = through_cache(path, lambda: {"weight_ET": _fit(input_QE, number_Q)}, check)
    return np.ascontiguousarray(arrays["weight_ET"])


def _fit(encoding_QE: NDArray[np.float64], task_Q: IntQ) -> NDArray[np.float64]:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # One thread: sums in another order would let the weights depend on the number of cores.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits of a posterior do not matter
        model = LogisticRegression(C=INVERSE_PENALTY, max_iter=ITERATIONS, class_weight="balanced")
        model.fit(encoding_QE, task_Q)
    found_ET = np.vstack([model.coef_.T, model.intercept_])
    # Of two tasks the regression gives the second's weights alone.
    return found_ET if found_ET.shape[1] > 1 else np.hstack([np.zeros_like(found_ET), found_ET])


def fit_tasks(encoding_QE: np.ndarray, task_Q: StrQ) -> np.ndarray:
    """Weights `[E + 1, T]` of a ridge regression on the sorted tasks' indicators; the last row is the intercept.

    Every task has the same weight, however many queries it has.
    """
    tasks = np.unique(task_Q)
    task_QT = (task_Q[:, None] == tasks).astype(np.float64)
    input_QE = np.hstack([encoding_QE, np.ones((len(encoding_QE), 1))])
    weight_Q = task_QT @ (len(task_QT) / len(tasks) / task_QT.sum(axis=0))
    weighted_EQ = (input_QE * weight_Q[:, None]).T
    gram_EE = weighted_EQ @ input_QE + PENALTY * np.eye(input_QE.shape[1])
    return np.asarray(np.linalg.solve(gram_EE, weighted_EQ @ task_QT))


def most_likely_task(encoding_QE: np.ndarray, weight_ET: np.ndarray) -> FloatQA:
    """`[Q, T]`, 1 at the task that the fitted weights give the highest score."""
    score_QT = encoding_QE @ weight_ET[:-1] + weight_ET[-1]
    return np.asarray(score_QT.argmax(axis=1)[:, None] == np.arange(score_QT.shape[1]), dtype=np.float64)
