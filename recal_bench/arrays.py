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
