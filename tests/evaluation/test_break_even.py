"""When what was paid once is earned back, held against the cost added up query by query."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.evaluation.payback import break_even, break_even_ends, ratio_ends
from recal_bench.evaluation.statistics import crossed_interval

usd = st.floats(1e-6, 1e4)


@given(usd, usd)
def test_the_labels_are_back_at_the_break_even_and_not_before(paid, saved):
    queries = break_even(paid, saved)
    assert queries * saved >= paid * (1 - 1e-6)
    assert (queries - 1) * saved <= paid * (1 + 1e-6)


@pytest.mark.parametrize("saved", [0.0, -1.0, math.nan, 1e-320])
def test_what_saves_nothing_never_pays(saved):
    assert break_even(5.0, saved) is None


def test_ends_that_reach_zero_are_open():
    assert break_even_ends(10, 1, 2) == (5, 10)
    assert break_even_ends(10, -1, 2) == (5, None)
    assert break_even_ends(10, -2, -1) == (None, None)
    assert break_even_ends(0, 1, 2) == (0, 0)


@given(st.integers(0, 10_000))
def test_the_ends_of_a_ratio_are_where_its_difference_stops_holding_zero(seed):
    rng = np.random.default_rng(seed)
    task_Q = np.repeat([0, 1], 20)
    below_SQ = rng.lognormal(0, rng.choice([0.1, 0.5]), (1, 40))
    above_SQ = below_SQ * rng.uniform(0.2, 0.9) + rng.lognormal(-2, 0.5, (1, 40))
    estimate = crossed_interval([above_SQ], task_Q).estimate / crossed_interval([below_SQ], task_Q).estimate
    low, high = ratio_ends(lambda ratio: [above_SQ, -ratio * below_SQ], estimate, task_Q)
    assert 0 < low < estimate < high
    for end in (low, high):
        found = crossed_interval([above_SQ, -end * below_SQ], task_Q)
        assert min(abs(found.low), abs(found.high)) < 1e-6


def test_a_denominator_that_may_be_zero_leaves_no_bound():
    task_Q = np.zeros(12, dtype=int)
    below_SQ = np.array([[0.0] * 11 + [5.0]])
    above_SQ = np.linspace(1, 2, 12)[None]
    low, high = ratio_ends(lambda ratio: [above_SQ, -ratio * below_SQ], 1.5 / (5 / 12), task_Q)
    assert low > 0
    assert high is None


def test_constants_have_no_width():
    task_Q = np.zeros(9, dtype=int)
    assert ratio_ends(lambda ratio: [np.full((1, 9), 1.0 - 2.0 * ratio)], 0.5, task_Q) == (0.5, 0.5)
