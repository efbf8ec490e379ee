"""Arms in contrasts: what all share, what is a model's, what is a strategy's, what is a pair's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import BoolQA, FloatQA, distinct_rows
from recal_bench.outcomes import Arm

KINDS = ("all", "model", "strategy", "pair")
_NOTHING = 1e-6


class Contrasts(NamedTuple):
    """An orthonormal basis of the values of arms, `[A, C]` with C = A, and the kind of each direction, `[C]`."""

    basis_AC: NDArray[np.float64]
    kind_C: NDArray[np.int64]


def contrasts(arms: Sequence[Arm]) -> Contrasts:
    """The contrasts of some arms; kinds are numbers of `KINDS`. Arms that no strategies tell apart have no pairs."""
    spans = [np.ones((len(arms), 1)), _indicators([arm.model for arm in arms])]
    spans += [_indicators([arm.strategy for arm in arms]), np.eye(len(arms))]
    basis: list[NDArray[np.float64]] = []
    kinds: list[int] = []
    for kind, span in enumerate(spans):
        for direction in span.T:
            left = np.array(direction, dtype=np.float64)
            for known in basis:
                left -= known * (known @ left)
            if (norm := float(np.linalg.norm(left))) > _NOTHING:
                basis.append(left / norm)
                kinds.append(kind)
    return Contrasts(np.stack(basis, axis=1), np.array(kinds))


def repeated(found: Contrasts, parts: int) -> Contrasts:
    """The same contrasts for several values of an arm side by side (score, cost), each with kinds of its own."""
    kind_X = [found.kind_C + len(KINDS) * part for part in range(parts)]
    basis_XX = np.kron(np.eye(parts), found.basis_AC).astype(np.float64)
    return Contrasts(basis_XX, np.concatenate(kind_X))


def main_effects(known: Sequence[Arm], wanted: Sequence[Arm]) -> NDArray[np.float64]:
    """Weights `[A, B]` that take the values of known arms to those of others by their models and strategies alone.

    The values are fitted by least squares as a sum of a level, a model's and a strategy's effect; a model or a strategy
    that no known arm has counts as the average one.
    """
    columns = [_effect_columns(known, each) for each in (known, wanted)]
    return np.asarray(np.linalg.pinv(columns[0]).T @ columns[1].T)


def _effect_columns(known: Sequence[Arm], arms: Sequence[Arm]) -> NDArray[np.float64]:
    parts = [np.ones((len(arms), 1))]
    for name in ("model", "strategy"):
        levels = sorted({getattr(arm, name) for arm in known})
        member = np.array([[getattr(arm, name) == level for level in levels] for arm in arms], dtype=np.float64)
        parts.append(np.where(member.any(axis=1, keepdims=True), member - 1 / len(levels), 0.0))
    return np.hstack(parts)


def fill_gaps(
    value_QX: FloatQA, known_QX: BoolQA, expected_QX: FloatQA, variance_X: NDArray[np.float64], found: Contrasts
) -> FloatQA:
    """Values with each unknown one replaced by what is expected of it, given what is known of its query.

    `expected_QX` is what a model says of every value; what a query's known values lie above that tells of the unknown
    ones by a covariance that has `variance_X` in the directions of the contrasts. Queries with the same gaps share one
    solve. (The mean of a conditional normal: the E step of maximum likelihood with missing values.)
    """
    covariance_XX = (found.basis_AC * variance_X) @ found.basis_AC.T
    filled_QX = np.where(known_QX, value_QX, expected_QX)
    patterns, pattern_Q = distinct_rows(known_QX)
    for number, known_X in enumerate(patterns):
        if known_X.all() or not known_X.any():
            continue
        rows = np.flatnonzero(pattern_Q == number)
        among_KK = covariance_XX[np.ix_(known_X, known_X)]
        ridge = 1e-9 * np.trace(among_KK) / len(among_KK) + 1e-12
        gain_KU = np.linalg.solve(among_KK + ridge * np.eye(len(among_KK)), covariance_XX[np.ix_(known_X, ~known_X)])
        above_QK = filled_QX[np.ix_(rows, known_X)] - expected_QX[np.ix_(rows, known_X)]
        filled_QX[np.ix_(rows, ~known_X)] += above_QK @ gain_KU
    return filled_QX


def _indicators(names: Sequence[Any]) -> NDArray[np.float64]:
    values = np.array(names, dtype=object)
    return np.asarray(values[:, None] == np.unique(values), dtype=np.float64)
