"""When what was paid once is earned back by what is saved per query. Numbers and arrays in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatSQ
from recal_bench.evaluation.statistics import crossed_interval

Ends: TypeAlias = tuple[float | None, float | None]

_NOTHING = 1e-9
_DOUBLINGS = 40


def break_even(paid: float, saved: float) -> int | None:
    """Queries after which `paid` (USD, once) is saved at `saved` USD per query: `ceil(paid / saved)`; None for never.

    It is never where nothing is saved, or less than nothing.
    """
    if not saved > 0 or not math.isfinite(paid / saved):
        return None
    return math.ceil(paid / saved - _NOTHING)


def break_even_ends(paid: float, low: float, high: float) -> tuple[int | None, int | None]:
    """`break_even` at both ends of the interval of what is saved per query, the fewest queries first.

    What was paid is known, so the interval of the quotient is that of its denominator turned round, as Fieller's (1954)
    is for a fixed numerator. Where it holds 0 the greater end is None (never); where it ends below 0, both are.
    """
    return break_even(paid, high), break_even(paid, low)


def ratio_ends(parts_at: Callable[[float], Sequence[FloatSQ]], estimate: float, task_Q: NDArray[Any]) -> Ends | None:
    """95% interval of a ratio of two macro means: the ratios that the data do not refuse.

    `parts_at(ratio)` are the parts of numerator - ratio * denominator, as `crossed_interval` takes them; a ratio is in
    the interval where that one holds 0. An end is None where there is none; the whole is where the data cannot tell.
    Source: Fieller (1954), "Some problems in interval estimation".
    """
    from scipy.optimize import brentq

    def low(ratio: float) -> float:
        return crossed_interval(parts_at(ratio), task_Q).low

    def high(ratio: float) -> float:
        return crossed_interval(parts_at(ratio), task_Q).high

    if not np.isfinite([low(0.0), low(estimate)]).all():
        return None
    if low(estimate) >= 0 or high(estimate) <= 0:
        return estimate, estimate  # nothing varies
    least = float(brentq(low, 0.0, estimate)) if low(0.0) > 0 else 0.0
    beyond = next((each for n in range(_DOUBLINGS) if high(each := estimate * 2 ** (n + 1)) < 0), None)
    return least, None if beyond is None else float(brentq(high, estimate, beyond))
