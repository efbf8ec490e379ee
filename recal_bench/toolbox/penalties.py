"""Ridge regression whose penalties the train rows choose themselves: by leaving out rows, or whole tasks.

Directions of a kind share a penalty. N rows, E inputs, X directions, P penalties.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatQA, IntQ

PENALTIES = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 1e5, 1e7)
"""In rows. The last ones switch a kind off."""
FOLDS = 10
"""Tasks are left out one by one, or of more than this many tasks several at once."""


def left_out_ridge(
    input_QE: FloatQA, target_QX: FloatQA, kind_X: NDArray[np.int64], eigen: Any = None
) -> tuple[NDArray[np.float64], FloatQA]:
    """Weights `[E, X]`, and what they would predict of each row without it, `[Q, X]`; exact, no refit.

    The penalty of a kind is the one of the least left-out squared error. `eigen`: `np.linalg.eigh` of the inputs'
    products, where it is at hand. Source: Allen's PRESS; Golub, Heath and Wahba (1979).
    """
    spectrum_E, rotation_EE = np.linalg.eigh(input_QE.T @ input_QE) if eigen is None else eigen
    rotated_QE = input_QE @ rotation_EE
    moment_EX = rotated_QE.T @ target_QX

    def left_out(penalty: float, columns: Any) -> FloatQA:
        shrunk_E = 1 / (spectrum_E + penalty)
        leverage_Q1 = (rotated_QE**2 @ shrunk_E)[:, None]
        predicted_QX = rotated_QE @ (moment_EX[:, columns] * shrunk_E[:, None])
        return np.asarray((predicted_QX - leverage_Q1 * target_QX[:, columns]) / (1 - leverage_Q1))

    error_PX = np.array([((target_QX - left_out(each, slice(None))) ** 2).sum(axis=0) for each in PENALTIES])
    weight_EX, left_out_QX = np.empty_like(moment_EX), np.empty_like(target_QX)
    for kind, penalty in _least(error_PX, kind_X):
        columns = kind_X == kind
        left_out_QX[:, columns] = left_out(penalty, columns)
        weight_EX[:, columns] = rotation_EE @ (moment_EX[:, columns] / (spectrum_E + penalty)[:, None])
    return weight_EX, left_out_QX


def transferring_ridge(
    input_QE: FloatQA, value_QX: FloatQA, number_Q: IntQ, utility: Callable[[FloatQA], FloatQA]
) -> NDArray[np.float64]:
    """Weights `[E, X]` for texts of other tasks than train's; all 0 where the text tells nothing of a task unseen.

    The penalty is the one by which tasks that are left out would have gained the most utility over the arm that is best
    on the others; where none gains, no text moves an arm. Squared errors do not tell: they pay for what no choice
    depends on. `utility` takes values `[Q, X]` to the utilities of the arms, `[Q, A]`; `number_Q` is the task of a row,
    0..T-1. Every task counts the same.
    """
    tasks = np.arange(number_Q.max() + 1)
    fold_Q = (tasks % min(len(tasks), FOLDS))[number_Q]
    gram_EE, moment_EX, total_E = input_QE.T @ input_QE, input_QE.T @ value_QX, input_QE.sum(axis=0)
    mean_TX = np.array([value_QX[number_Q == task].mean(axis=0) for task in tasks])
    weight_Q = 1 / np.bincount(number_Q)[number_Q]
    gain_P = np.zeros(len(PENALTIES))
    for fold in np.unique(fold_Q):
        rows = fold_Q == fold
        input_RE, utility_RA = input_QE[rows], utility(value_QX[rows])
        level_X = mean_TX[~np.isin(tasks, number_Q[rows])].mean(axis=0)
        others_EX = moment_EX - input_RE.T @ value_QX[rows] - np.outer(total_E - input_RE.sum(axis=0), level_X)
        predict = _solver(gram_EE - input_RE.T @ input_RE, others_EX)
        usual_R = utility_RA[:, utility(level_X[None])[0].argmax()]
        for number, penalty in enumerate(PENALTIES):
            best_R = utility(level_X + input_RE @ predict(penalty)).argmax(axis=1)
            gain_P[number] += weight_Q[rows] @ (utility_RA[np.arange(len(best_R)), best_R] - usual_R)
    best = int(gain_P.argmax())
    return np.asarray(_solver(gram_EE, moment_EX)(PENALTIES[best]) * (gain_P[best] > 0))


def _solver(gram_EE: NDArray[np.float64], moment_EX: NDArray[np.float64]) -> Callable[[float], NDArray[np.float64]]:
    """From a penalty to the weights."""
    spectrum_E, rotation_EE = np.linalg.eigh(gram_EE)
    rotated_EX = rotation_EE.T @ moment_EX
    return lambda penalty: rotation_EE @ (rotated_EX / (np.maximum(spectrum_E, 0.0) + penalty)[:, None])


def _least(error_PX: NDArray[np.float64], kind_X: NDArray[np.int64]) -> list[tuple[int, float]]:
    """Every kind with its penalty of the least error."""
    kinds = np.unique(kind_X).tolist()
    return [(kind, PENALTIES[int(error_PX[:, kind_X == kind].sum(axis=1).argmin())]) for kind in kinds]
