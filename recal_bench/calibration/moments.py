"""Masked means and spreads, the one place where ddof and the zero-spread rule are pinned.

Arrays are numpy or torch alike. `valid` is False where an entry (a failed rollout, e.g.) does not count.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace, device

EPS = 1e-6


def moments(value: Any, valid: Any, axis: int, ddof: int = 0) -> tuple[Any, Any]:
    """`value - mean` and the standard deviation over the valid entries of an axis, which is kept with length 1.

    Population standard deviation unless `ddof` says otherwise. Both are exactly 0 where all valid entries are equal
    (max == min) or there is at most one; the first also where an entry is not valid.
    """
    xp = array_namespace(value)
    zero = _constant(value, 0.0)
    count = xp.sum(xp.astype(valid, value.dtype), axis=axis, keepdims=True)
    total = xp.sum(xp.where(valid, value, zero), axis=axis, keepdims=True)
    counted = valid & has_spread(value, valid, axis)
    centred = xp.where(counted, value - divide(total, count), zero)
    return centred, xp.sqrt(divide(xp.sum(centred**2, axis=axis, keepdims=True), count - ddof))


def has_spread(value: Any, valid: Any, axis: int) -> Any:
    """Whether two valid entries of an axis differ; the axis is kept with length 1."""
    xp = array_namespace(value)
    low = xp.min(xp.where(valid, value, _constant(value, float("inf"))), axis=axis, keepdims=True)
    high = xp.max(xp.where(valid, value, _constant(value, -float("inf"))), axis=axis, keepdims=True)
    return high > low


def _constant(like: Any, number: float) -> Any:
    """A number as an array without axes, of the type and device of another."""
    return array_namespace(like).asarray(number, dtype=like.dtype, device=device(like))


def divide(value: Any, scale: Any) -> Any:
    """`value / scale`, and `value` where the scale is not above 0 (the value is then 0 too: nothing to scale)."""
    xp = array_namespace(value)
    return value / xp.where(scale > 0, scale, _constant(scale, 1.0))


def segment_sum(value_Q: Any, segment_Q: Any, count: int) -> Any:
    """Sums of the entries of each of `count` segments (integers 0..count-1): `[Q]` to `[count]`."""
    xp = array_namespace(value_Q)
    member_QD = segment_Q[:, None] == xp.arange(count, device=device(value_Q))[None, :]
    return value_Q @ xp.astype(member_QD, value_Q.dtype)


def weighted_sum(value_QGK: Any, weight_K: Any) -> Any:
    """`sum_k weight_k value_ijk`: `[Q, G, K]` to `[Q, G]`; NaN where a value is. Weights are `[K]` or `[Q, 1, K]`."""
    return array_namespace(value_QGK).sum(value_QGK * weight_K, axis=-1)
