"""Array types, named with their axes.

N rows of a log, Q queries, A arms, G rollouts of a query (the group), K reward components, D datasets (tasks), S seeds,
E encoding.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatA: TypeAlias = NDArray[np.float64]
FloatN: TypeAlias = NDArray[np.float64]
FloatQ: TypeAlias = NDArray[np.float64]
FloatQA: TypeAlias = NDArray[np.float64]
FloatSQ: TypeAlias = NDArray[np.float64]
Float32QE: TypeAlias = NDArray[np.float32]
BoolN: TypeAlias = NDArray[np.bool_]
BoolQ: TypeAlias = NDArray[np.bool_]
BoolQA: TypeAlias = NDArray[np.bool_]
CodeN: TypeAlias = NDArray[np.int32]
IntQ: TypeAlias = NDArray[np.int64]
IntQA: TypeAlias = NDArray[np.int64]
IntSQ: TypeAlias = NDArray[np.int64]
StrQ: TypeAlias = NDArray[np.object_]
ObjectQ: TypeAlias = NDArray[np.object_]
ObjectQA: TypeAlias = NDArray[np.object_]


def finite_or_none(value: float) -> float | None:
    """A number for JSON; null where it is not finite, which means unknown."""
    return float(value) if np.isfinite(value) else None


def distinct_rows(known_QX: BoolQA) -> tuple[BoolQA, IntQ]:
    """The distinct rows of a table of truth values, in ascending order, and the number of each row's among them.

    As `np.unique(axis=0)`, which takes minutes where rows are long: these are compared as packed bytes.
    """
    if not known_QX.size:
        return known_QX[:1], np.zeros(len(known_QX), dtype=np.int64)
    bits_QB = np.ascontiguousarray(np.packbits(known_QX, axis=1))
    bytes_Q = bits_QB.view(np.dtype((np.void, bits_QB.shape[1])))[:, 0]
    _, first_P, number_Q = np.unique(bytes_Q, return_index=True, return_inverse=True)
    return known_QX[first_P], number_Q
