"""Which task of train a text most likely belongs to, for routers that think in tasks: no router is told one."""

from __future__ import annotations

import numpy as np

from recal_bench.arrays import FloatQA, StrQ

PENALTY = 10.0
"""In queries."""


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
