"""Masked means and spreads, the one place where ddof and the zero-spread rule are pinned.

Arrays are numpy or torch alike. `valid` is False where an entry (say, a failed rollout) does not count.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace, device

EPS = 1e-6


def moments(value: Any, valid: Any, axis: int) -> tuple[Any, Any]:
    """Mean and population standard deviation (ddof 0) over the valid entries of an axis, which is kept with length 1.

    The standard deviation is exactly 0 where all valid entries are equal (max == min) or there is none.
    """
    xp = array_namespace(value)
    value = xp.where(valid, value, xp.zeros_like(value))
    count = xp.sum(xp.astype(valid, value.dtype), axis=axis, keepdims=True)
    count = xp.where(count > 0, count, xp.ones_like(count))
    mean = xp.sum(value, axis=axis, keepdims=True) / count
    centred = xp.where(valid, value - mean, xp.zeros_like(value))
    std = xp.sqrt(xp.sum(centred**2, axis=axis, keepdims=True) / count)
    return mean, xp.where(has_spread(value, valid, axis), std, xp.zeros_like(std))


def has_spread(value: Any, valid: Any, axis: int) -> Any:
    """Whether two valid entries of an axis differ; the axis is kept with length 1."""
    xp = array_namespace(value)
    low = xp.min(xp.where(valid, value, xp.full_like(value, float("inf"))), axis=axis, keepdims=True)
    high = xp.max(xp.where(valid, value, xp.full_like(value, -float("inf"))), axis=axis, keepdims=True)
    return high > low


def centre(value: Any, valid: Any, axis: int) -> Any:
    """`value - mean` over an axis; exactly 0 where there is no spread and where an entry is not valid."""
    xp = array_namespace(value)
    mean, _ = moments(value, valid, axis)
    return xp.where(valid & has_spread(value, valid, axis), value - mean, xp.zeros_like(value))


def divide(value: Any, scale: Any) -> Any:
    """`value / scale`, and `value` where the scale is 0 (the value is then 0 too: nothing to scale)."""
    xp = array_namespace(value)
    return value / xp.where(scale > 0, scale, xp.ones_like(scale))


def segment_sum(value_Q: Any, segment_Q: Any, count: int) -> Any:
    """Sums of the entries of each of `count` segments (integers 0..count-1): `[Q]` to `[count]`."""
    xp = array_namespace(value_Q)
    member_QD = segment_Q[:, None] == xp.arange(count, device=device(value_Q))[None, :]
    return value_Q @ xp.astype(member_QD, value_Q.dtype)
