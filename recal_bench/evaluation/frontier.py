"""Curves of quality against cost, and the numbers that sum one up. Arrays in, numbers out.

A point is (mean cost, mean quality) of one way to route. docs/metrics.md, "Frontier", holds the formulas and sources.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

Points: TypeAlias = Sequence[tuple[float, float]]

# Answering nothing costs nothing and is worth nothing: what a router is mixed with below its own cheapest point.
NO_ANSWER = (0.0, 0.0)
# Differences of quality below this are rounding.
_NOTHING = 1e-12


def upper_hull(points: Points) -> list[tuple[float, float]]:
    """The non-decreasing upper hull of (cost, quality) points, flat from the best to the most expensive.

    It is what the points reach alone or mixed at random, so it is concave. Empty for no points.
    """
    curve = deferral_curve(points)
    if not curve:
        return []
    best = max(quality for _, quality in curve)
    hull: list[tuple[float, float]] = []
    for point in curve:
        while len(hull) > 1 and not _bends_down(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
        if point[1] == best:
            break
    highest_cost = curve[-1][0]
    return [*hull, (highest_cost, best)] if hull[-1][0] < highest_cost else hull


def deferral_curve(points: Points) -> list[tuple[float, float]]:
    """The points in the order of their costs; of several at one cost, the best."""
    best_at: dict[float, float] = {}
    for cost, quality in points:
        best_at[cost] = max(quality, best_at.get(cost, quality))
    return sorted(best_at.items())


def aiq(points: Points, c_min: float, c_max: float) -> float | None:
    """Mean height of the upper hull from `c_min` to `c_max`, the costs of the cheapest and the most expensive arm.

    Left of its cheapest point a router is mixed with `NO_ANSWER`; right of its best point the hull is flat. None where
    the arms' costs do not differ or there is no point. Source: RouterBench (arXiv 2403.12031), "AIQ".
    """
    if not points or not c_max > c_min:
        return None
    return _mean_height(upper_hull([NO_ANSWER, *points]), c_min, c_max)


def deferral_auc(points: Points, c_max: float) -> float | None:
    """Mean height of the deferral curve over cost / `c_max` from 0 to 1: the points joined as they are, no hull.

    From `NO_ANSWER` to the cheapest point it rises in a straight line; beyond the most expensive point it is flat. None
    where `c_max` is not positive or there is no point. Source: the area of UniRoute (arXiv 2502.08773).
    """
    if not points or not c_max > 0:
        return None
    return _mean_height(deferral_curve([NO_ANSWER, *points]), 0.0, c_max)


def qnc(points: Points, target: float, target_cost: float) -> float | None:
    """Quality-neutral cost: the least cost at which the hull reaches `target`, as a share of `target_cost`.

    `target` and `target_cost` are quality and cost of the most accurate single arm. Infinite where the hull never gets
    there; None where `target_cost` is not positive. Source: UniRoute (arXiv 2502.08773).
    """
    if not target_cost > 0:
        return None
    before: tuple[float, float] | None = None
    for cost, quality in upper_hull(points):
        if quality >= target - _NOTHING:
            if before is None:
                return cost / target_cost
            share = min((target - before[1]) / (quality - before[1]), 1.0)
            return (before[0] + share * (cost - before[0])) / target_cost
        before = (cost, quality)
    return math.inf


def _bends_down(left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]) -> bool:
    """Whether the middle point lies above the line from left to right."""
    return (middle[1] - left[1]) * (right[0] - left[0]) > (right[1] - left[1]) * (middle[0] - left[0])


def _mean_height(curve: Points, low: float, high: float) -> float:
    """Mean of a curve of straight lines over [low, high], flat beyond its ends."""
    cost, quality = np.array(curve, dtype=np.float64).T
    knots = np.unique([low, *cost[(cost > low) & (cost < high)], high])
    height = np.interp(knots, cost, quality)
    return float((np.diff(knots) * (height[1:] + height[:-1])).sum() / 2 / (high - low))
