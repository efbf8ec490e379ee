"""Queries as a sample within strata: what each query adds to the variance of a macro mean.

A stratum is a task; tasks too small to show their own spread are joined. docs/metrics.md derives the formulas.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALL_TASK = 10
"""Tasks with fewer queries are joined: their own mean and spread are not known well enough."""
_LEAST_SINGLES = 6
"""Tasks of one query each, below which nothing could be significant at 5%: 2 ** -5 is the least possible p."""
_NOISE = 2.0
"""Standard errors by which the fourth moment must exceed the normal distribution's before it counts."""


class Strata:
    """Which queries belong to which task and stratum, how much each counts in the macro mean, and sums over strata.

    A stratum is a task; the tasks of fewer than `SMALL_TASK` queries together are one, and take in the smallest of
    the others where they still have fewer.
    """

    def __init__(self, task_Q: NDArray[Any]) -> None:
        task_index_Q, count_T = np.unique(task_Q, return_inverse=True, return_counts=True)[1:]
        self._task_order_Q = _order(task_index_Q)
        self._count_T, self._task_starts_T = count_T, np.cumsum(count_T) - count_T
        weight_T = 1.0 / (len(count_T) * count_T)
        smallest_T = np.argsort(count_T, kind="stable")
        before_T = np.cumsum(count_T[smallest_T]) - count_T[smallest_T]
        joined_T = smallest_T[(count_T[smallest_T] < SMALL_TASK) | ((before_T > 0) & (before_T < SMALL_TASK))]
        stratum_T = np.arange(1, len(count_T) + 1)
        stratum_T[joined_T] = 0
        stratum_T = np.unique(stratum_T, return_inverse=True)[1]
        self._index_Q = stratum_T[task_index_Q]
        self._count_H = np.bincount(self._index_Q)
        self._weight_Q = weight_T[task_index_Q]
        self._weights_H = {power: np.bincount(stratum_T, count_T * weight_T**power) for power in (2, 4, 8)}
        self._order_Q = _order(self._index_Q)
        self._starts_H = np.cumsum(self._count_H) - self._count_H
        self._blind = len(task_Q) < 2 or (len(task_Q) == len(count_T) and len(task_Q) < _LEAST_SINGLES)

    def macro_mean(self, value_Q: NDArray[np.float64]) -> NDArray[np.float64]:
        """`metrics.macro_mean`, for one layout of tasks and many values: `[S, Q]` to `[S]`."""
        sum_T = np.add.reduceat(value_Q[..., self._task_order_Q], self._task_starts_T, axis=-1)
        return np.asarray((sum_T / self._count_T).mean(axis=-1))

    def _sums(self, value_Q: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.add.reduceat(value_Q[..., self._order_Q], self._starts_H, axis=-1))

    def centred(self, value_Q: NDArray[np.float64]) -> NDArray[np.float64]:
        """`[..., Q]` less the mean of each stratum's queries."""
        return np.asarray(value_Q - (self._sums(value_Q) / self._count_H).take(self._index_Q, axis=-1))

    def _shares(self, square_Q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each query's share of the variance of the macro mean, from squared deviations."""
        spare_H = self._count_H / np.maximum(self._count_H - 1, 1)
        return np.asarray(self._weight_Q**2 * square_Q * spare_H[self._index_Q])

    def variance_of_means(self, square_Q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each stratum's share of the variance of the macro mean, from squared deviations. NaN where it is unknown."""
        if self._blind:
            return np.full(len(self._count_H), np.nan)
        return self._sums(self._shares(square_Q))

    def covariance(self, value_RQ: NDArray[np.float64]) -> NDArray[np.float64]:
        """Covariance of macro means of values on the same queries, `[R, Q]` to `[R, R]`. NaN where it is unknown."""
        if self._blind:
            return np.full((len(value_RQ), len(value_RQ)), np.nan)
        spare_H = self._count_H / np.maximum(self._count_H - 1, 1)
        scaled_RQ = self.centred(value_RQ) * (self._weight_Q * np.sqrt(spare_H)[self._index_Q])
        return np.asarray(scaled_RQ @ scaled_RQ.T)

    def df_H(self) -> NDArray[np.float64]:
        """Degrees of freedom of `variance_of_means` for normal values: n - 1 in a stratum where all weigh the same."""
        of_2_H, of_4_H = self._weights_H[2], self._weights_H[4]
        # A query alone has none; its variance is not known either.
        count_H = np.maximum(self._count_H, 2)
        return np.asarray((of_2_H * (1 - 1 / count_H)) ** 2 / (of_4_H * (1 - 2 / count_H) + (of_2_H / count_H) ** 2))

    def heavy_tails(self, square_Q: NDArray[np.float64]) -> float:
        """By how much the fourth powers of the deviations exceed a normal distribution's, beyond chance; half of it.

        Half of the excess over 3 sigma^4 is what Satterthwaite's sum of V^2 / df lacks where the values are not normal,
        as where few queries differ: of n values of which k are 1, it leaves some 2 k degrees of freedom.
        """
        share_Q = self._shares(square_Q)
        even_H = self._sums(share_Q) / self._weights_H[2]
        normal = 3 * float((even_H**2 * self._weights_H[4]).sum())
        noise = np.sqrt(24 * float((even_H**4 * self._weights_H[8]).sum()))
        return max(float((share_Q**2).sum()) - normal - _NOISE * float(noise), 0.0) / 2


def _order(index_Q: NDArray[np.int64]) -> Any:
    """What brings queries into the order of their index: nothing, where they stand in it."""
    return slice(None) if bool((np.diff(index_Q) >= 0).all()) else np.argsort(index_Q, kind="stable")
