"""Does a text belong to none of the tasks of train?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatQ, IntQ

FOLDS = 5
LEAST_FRESH = 20
"""Texts that the encoder has not seen; with fewer, train's own are held out instead."""
RIDGE = 0.1
"""Of the mean variance: keeps directions in which train hardly varies from deciding."""
_TINY = 1e-12


class Shares(NamedTuple):
    """Two shares of each text, 0 to 1, `[Q]`: how far it counts as foreign to all tasks, and as familiar.

    A text as near as most is wholly familiar; one that begins to be foreign is not familiar at all.
    """

    foreign_Q: FloatQ
    familiar_Q: FloatQ


class Novelty(NamedTuple):
    """The distance of a text to its nearest task, less that to all of train: `x D x + min_t(x b_t + c_t)`.

    Half of the new texts of these tasks lie nearer than `usual`. From `strange` on a text begins to count as foreign to
    all tasks, from `foreign` on it wholly does.
    """

    square_EE: NDArray[np.float32]
    linear_ET: NDArray[np.float32]
    constant_T: NDArray[np.float64]
    usual: float
    strange: float
    foreign: float


def fit_novelty(
    embedding_QE: NDArray[np.floating],
    number_Q: IntQ,
    strange: float,
    foreign: float,
    fresh_QE: NDArray[np.floating] | None = None,
) -> Novelty:
    """Fitted to texts of T >= 2 tasks, `number_Q` in 0..T-1. Two shares of texts of these tasks that lie further off.

    `fresh_QE` are texts of the same tasks that neither this nor the encoder was fitted to. An encoder that knows few
    texts has learnt them by heart, and every other one lies far from them.

    The relative Mahalanobis distance of Ren et al., "A Simple Fix to Mahalanobis Distance for Improving Near-OOD
    Detection" (arXiv 2106.09022): a normal for each task with one covariance for all, against one normal for all.
    """
    novelty = _forms(embedding_QE, number_Q)
    if fresh_QE is None or len(fresh_QE) < LEAST_FRESH:
        distance_Q = _held_out(embedding_QE, number_Q)
    else:
        distance_Q = distances(novelty, fresh_QE)
    usual, begins, ends = np.quantile(distance_Q, [0.5, 1 - strange, 1 - foreign])
    return novelty._replace(usual=float(usual), strange=float(begins), foreign=float(ends))


def _held_out(embedding_QE: NDArray[np.floating], number_Q: IntQ) -> FloatQ:
    """The distances of train's own texts, each left out of what it is compared with."""
    distance_Q = np.empty(len(embedding_QE))
    # Every fold has its share of each task, whatever the order of the rows.
    order_Q = np.argsort(number_Q, kind="stable")
    fold_Q = np.empty(len(order_Q), dtype=np.int64)
    fold_Q[order_Q] = np.arange(len(order_Q)) % FOLDS
    for fold in range(FOLDS):
        held_Q = fold_Q == fold
        if held_Q.any():
            distance_Q[held_Q] = distances(_forms(embedding_QE[~held_Q], number_Q[~held_Q]), embedding_QE[held_Q])
    return distance_Q


def distances(novelty: Novelty, embedding_QE: NDArray[np.floating]) -> FloatQ:
    """How much further a text lies from its nearest task than from all of train, `[Q]`; lower is nearer."""
    embedding_QE = np.asarray(embedding_QE, dtype=np.float32)
    square_Q = np.einsum("qe,qe->q", embedding_QE @ novelty.square_EE, embedding_QE)
    return np.asarray(square_Q + (embedding_QE @ novelty.linear_ET + novelty.constant_T).min(axis=1), dtype=np.float64)


def shares_of(novelty: Novelty, embedding_QE: NDArray[np.floating]) -> Shares:
    """How foreign texts are, and how familiar."""
    distance_Q = distances(novelty, embedding_QE)
    foreign_Q = _between(novelty.strange, novelty.foreign, distance_Q)
    return Shares(foreign_Q, 1 - _between(novelty.usual, novelty.strange, distance_Q))


def _between(start: float, end: float, distance_Q: FloatQ) -> FloatQ:
    """0 up to `start`, 1 from `end` on."""
    return np.clip((distance_Q - start) / max(end - start, _TINY), 0.0, 1.0)


def _forms(embedding_QE: NDArray[np.floating], number_Q: IntQ) -> Novelty:
    mean_TE = np.array([embedding_QE[number_Q == task].mean(axis=0) for task in np.unique(number_Q)])
    mean_E = embedding_QE.mean(axis=0)
    of_task_QE, of_all_QE = embedding_QE - mean_TE[np.unique(number_Q, return_inverse=True)[1]], embedding_QE - mean_E
    within_EE, total_EE = (part.T @ part / len(part) for part in (of_task_QE, of_all_QE))
    ridge_EE = RIDGE * np.trace(within_EE) / len(within_EE) * np.eye(len(within_EE))
    near_EE, far_EE = np.linalg.inv(within_EE + ridge_EE), np.linalg.inv(total_EE + ridge_EE)
    linear_ET = -2 * (near_EE @ mean_TE.T - (far_EE @ mean_E)[:, None])
    constant_T = np.einsum("te,ef,tf->t", mean_TE, near_EE, mean_TE) - mean_E @ far_EE @ mean_E
    single = (near_EE - far_EE).astype(np.float32), linear_ET.astype(np.float32)
    return Novelty(*single, constant_T, np.inf, np.inf, np.inf)
