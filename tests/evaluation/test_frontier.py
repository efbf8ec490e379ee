"""Curves of quality against cost, and what sums them up."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.evaluation.frontier import aiq, deferral_auc, deferral_curve, qnc, upper_hull

costs = st.floats(0.01, 10)
points = st.lists(st.tuples(costs, st.floats(0, 1)), min_size=1, max_size=12)
ranges = st.tuples(st.floats(0.01, 4), st.floats(0.5, 8)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(points)
def test_the_hull_is_concave_never_falls_and_lies_above_every_point(pairs):
    cost, quality = np.array(upper_hull(pairs)).T
    assert (np.diff(cost) > 0).all()
    assert (np.diff(quality) >= 0).all()
    # Concave: every inner corner lies on or above the line through its neighbours.
    lines = [np.interp(cost[i], cost[[i - 1, i + 1]], quality[[i - 1, i + 1]]) for i in range(1, len(cost) - 1)]
    assert (quality[1:-1] >= np.array(lines) - 1e-9).all()
    for each in pairs:
        assert np.interp(each[0], cost, quality) >= each[1] - 1e-9
    assert (cost[0], cost[-1]) == (min(pairs)[0], max(pairs)[0])


@given(points, ranges)
def test_areas_are_bounded_by_the_best_point(pairs, span):
    best = max(quality for _, quality in pairs)
    assert 0 <= aiq(pairs, *span) <= best + 1e-12
    assert 0 <= deferral_auc(pairs, span[1]) <= best + 1e-12
    # The hull lies above the points, and above what they reach in the cheaper part.
    assert deferral_auc(pairs, span[1]) <= aiq(pairs, 0.0, span[1]) + 1e-12 <= aiq(pairs, *span) + 2e-12


@given(points, ranges, st.floats(0, 1), st.randoms(use_true_random=False))
def test_the_order_of_points_does_not_matter(pairs, span, target, random):
    shuffled = random.sample(pairs, len(pairs))
    assert upper_hull(shuffled) == upper_hull(pairs)
    assert aiq(shuffled, *span) == aiq(pairs, *span)
    assert deferral_auc(shuffled, span[1]) == deferral_auc(pairs, span[1])
    assert qnc(shuffled, target, 1.0) == qnc(pairs, target, 1.0)


@given(points, ranges, st.floats(0, 1), st.floats(0, 5), st.floats(0, 1))
def test_dominated_points_change_nothing_and_more_points_never_hurt(pairs, span, target, dearer, worse):
    cost, quality = pairs[0]
    more = [*pairs, (cost + dearer, quality * worse)]
    assert aiq(more, *span) == pytest.approx(aiq(pairs, *span))
    assert qnc(more, target, 1.0) == pytest.approx(qnc(pairs, target, 1.0))
    better = [*pairs, (cost, quality + dearer)]
    assert aiq(better, *span) >= aiq(pairs, *span) - 1e-12
    assert qnc(better, target, 1.0) <= qnc(pairs, target, 1.0) + 1e-9


@given(costs, st.floats(0.01, 1), ranges)
def test_a_router_that_is_the_best_single_arm_has_its_cost(cost, quality, span):
    assert qnc([(cost, quality)], quality, cost) == 1
    assert aiq([(span[0], quality)], *span) == pytest.approx(quality)


@given(points, ranges, st.floats(0, 1), st.floats(0.1, 10))
def test_the_unit_of_cost_does_not_matter(pairs, span, target, unit):
    scaled = [(unit * cost, quality) for cost, quality in pairs]
    assert aiq(scaled, unit * span[0], unit * span[1]) == pytest.approx(aiq(pairs, *span))
    assert deferral_auc(scaled, unit * span[1]) == pytest.approx(deferral_auc(pairs, span[1]))
    assert qnc(scaled, target, unit) == pytest.approx(qnc(pairs, target, 1.0))


# By hand: 0.4 at 1 USD, 0.3 at 2 (below the hull), 0.8 at 3; arms cost 1 to 5.
BY_HAND = [(3.0, 0.8), (1.0, 0.4), (2.0, 0.3)]


def test_areas_by_hand():
    assert upper_hull([*BY_HAND, (5.0, 0.7)]) == [(1.0, 0.4), (3.0, 0.8), (5.0, 0.8)]
    assert deferral_curve([*BY_HAND, (2.0, 0.1)]) == [(1.0, 0.4), (2.0, 0.3), (3.0, 0.8)]
    # Hull: from 0.4 to 0.8 in two USD, 0.8 for another two.
    assert aiq(BY_HAND, 1.0, 5.0) == pytest.approx((2 * 0.6 + 2 * 0.8) / 4)
    # The curve itself: 0 to 0.4, to 0.3, to 0.8, flat.
    assert deferral_auc(BY_HAND, 5.0) == pytest.approx((0.2 + 0.35 + 0.55 + 2 * 0.8) / 5)
    # What costs more than the most expensive arm does not count.
    assert deferral_auc([*BY_HAND, (9.0, 1.0)], 3.0) == pytest.approx((0.2 + 0.35 + 0.55) / 3)


def test_below_its_cheapest_point_a_router_answers_a_share_of_the_queries():
    # The only point costs 4 of 1 to 5: 0.2 at 1 USD, 0.8 from 4 on.
    assert aiq([(4.0, 0.8)], 1.0, 5.0) == pytest.approx((3 * 0.5 + 1 * 0.8) / 4)
    # A point worse than answering a share with the other one adds nothing.
    assert aiq([(4.0, 0.8), (2.0, 0.1)], 1.0, 5.0) == aiq([(4.0, 0.8)], 1.0, 5.0)
    # A router dearer than every arm still has that.
    assert aiq([(10.0, 1.0)], 1.0, 5.0) == pytest.approx(0.3)


def test_quality_neutral_cost_by_hand():
    assert qnc(BY_HAND, 0.6, 4.0) == pytest.approx(2 / 4)
    assert qnc(BY_HAND, 0.8, 4.0) == pytest.approx(3 / 4)
    # Better than the arm already at its cheapest: nothing is mixed with answering nothing.
    assert qnc(BY_HAND, 0.2, 4.0) == 1 / 4
    assert qnc(BY_HAND, 0.81, 4.0) == math.inf


def test_what_cannot_be_told_is_none():
    assert aiq([], 1.0, 2.0) is None
    assert aiq(BY_HAND, 2.0, 2.0) is None
    assert deferral_auc([], 1.0) is None
    assert deferral_auc(BY_HAND, 0.0) is None
    assert qnc(BY_HAND, 0.5, 0.0) is None
    assert qnc([], 0.5, 1.0) == math.inf
    assert upper_hull([]) == []
