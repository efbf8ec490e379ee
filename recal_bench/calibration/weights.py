"""Variance-aware weights: how much a query counts, by how uncertain its outcome is."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from recal_bench.calibration.moments import divide, moments
from recal_bench.calibration.running import Running, observe


def group_spread(value_QG: Any, valid_QG: Any) -> Any:
    """`s_i = std_j value_ij` (ddof 0), `[Q]`."""
    return moments(value_QG, valid_QG, axis=1)[1][:, 0]


def variance_weights(
    spread_Q: Any, centre: Any, low: float = 0.5, high: float = 2.0, kappa: float = 5.0, inverse: bool = False
) -> Any:
    """`w_i = low + (high - low) * sigmoid(kappa * (s_i - centre))`, `[Q]`, in (low, high).

    HERO's sigmoid form and constants (arXiv 2510.07242), with `centre` the running mean of the spreads. HERO multiplies
    the reward, which a division by the group's spread would cancel; these weights are for the advantage. `inverse`
    turns the direction round, so that certain queries count more.
    """
    xp = array_namespace(spread_Q)
    direction = -1.0 if inverse else 1.0
    return low + (high - low) / (1 + xp.exp(-direction * kappa * (spread_Q - centre)))


def relative_weights(weight_Q: Any, counts_Q: Any) -> Any:
    """`w_i / mean(w)`, the mean over the queries where `counts_Q` is true; unchanged where it is true of none."""
    xp = array_namespace(weight_Q)
    counted_Q = xp.astype(counts_Q, weight_Q.dtype)
    return divide(weight_Q, divide(xp.sum(weight_Q * counted_Q), xp.sum(counted_Q)))


def observe_mean(running_1: Running, spread_Q: Any, decay: float) -> Running:
    """Follow the mean spread over all groups, those without any included. The state holds one quantity."""
    xp = array_namespace(spread_Q)
    return observe(running_1, xp.mean(spread_Q)[None], xp.ones_like(spread_Q[:1]) * spread_Q.shape[0], decay)
