"""Metrics of one router's decisions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recal_bench.evaluation.metrics import (
    gap_closed,
    macro_mean,
    micro_mean,
    routing_entropy,
    savings,
    task_means,
    top_arm_share,
)

numbers = st.floats(-5, 5)
labelled = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), numbers), min_size=1, max_size=40)


def arrays(pairs):
    return np.array([value for _, value in pairs]), np.array([task for task, _ in pairs], dtype=object)


@settings(deadline=None, max_examples=50)
@given(labelled, numbers, st.randoms(use_true_random=False))
def test_macro_mean_shifts_with_the_values_and_ignores_order(pairs, shift, random):
    value_Q, task_Q = arrays(pairs)
    expected = macro_mean(value_Q, task_Q)
    assert macro_mean(value_Q + shift, task_Q) == pytest.approx(expected + shift)
    random.shuffle(pairs)
    assert macro_mean(*arrays(pairs)) == pytest.approx(expected)


def test_macro_weighs_tasks_and_micro_weighs_queries():
    value_Q, task_Q = np.array([1.0, 1.0, 1.0, 0.0]), np.array(["a", "a", "a", "b"], dtype=object)
    assert macro_mean(value_Q, task_Q) == 0.5
    assert micro_mean(value_Q) == 0.75
    np.testing.assert_array_equal(task_means(np.stack([value_Q, 1 - value_Q]), task_Q), [[1, 0], [0, 1]])


@settings(deadline=None, max_examples=30)
@given(st.lists(numbers, min_size=2, max_size=20))
def test_macro_is_micro_where_tasks_have_equal_sizes(values):
    value_Q, task_Q = np.array(values * 2), np.array(["a"] * len(values) + ["b"] * len(values), dtype=object)
    assert macro_mean(value_Q, task_Q) == pytest.approx(micro_mean(value_Q))


@settings(deadline=None, max_examples=50)
@given(numbers, st.floats(1e-3, 5), st.floats(0, 1))
def test_gap_closed_lies_between_best_single_and_oracle(best_single, gap, share):
    oracle = best_single + gap
    closed = gap_closed(best_single + share * gap, best_single, oracle)
    assert closed == pytest.approx(share, abs=1e-6)
    assert gap_closed(oracle, best_single, oracle) == pytest.approx(1)
    assert gap_closed(best_single, best_single, oracle) == 0
    assert gap_closed(best_single - gap, best_single, oracle) < 0


def test_no_gap_no_share():
    assert gap_closed(0.5, 0.6, 0.6) is None
    assert gap_closed(0.5, 0.6, 0.6 + 1e-15) is None


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from("wxyz"), min_size=1, max_size=50))
def test_entropy_and_top_share_bound_each_other(arms):
    share, entropy = top_arm_share(arms), routing_entropy(arms)
    assert 1 / len(set(arms)) <= share + 1e-12 <= 1 + 1e-12
    assert 0 <= entropy <= math.log(len(set(arms))) + 1e-12
    assert (entropy == 0) == (share == 1)
    assert entropy >= -math.log(share) - 1e-12


def test_entropy_is_in_nats():
    assert routing_entropy(["a", "b", "a", "b"]) == pytest.approx(math.log(2))


# The most accurate arm: 0.7 at 4 USD; cheaper single arms: 0.4 at 1 and 0.6 at 2.
OTHERS = [(0.4, 1.0), (0.6, 2.0)]


def test_savings_of_a_router_alone():
    assert savings(0.7, 3.0, 0.7, 4.0) == 0.25
    assert savings(0.8, 5.0, 0.7, 4.0) == -0.25


def test_savings_mix_in_the_single_arm_that_makes_it_cheapest():
    # 3/4 router + 1/4 of the 0.4 arm: accuracy 0.7, cost 2.5. Half with the 0.6 arm: 0.7 at 2.5 too.
    assert savings(0.8, 3.0, 0.7, 4.0, [(0.4, 1.0)]) == pytest.approx(1 - 2.5 / 4)
    assert savings(0.8, 3.0, 0.7, 4.0, OTHERS) == pytest.approx(1 - 2.5 / 4)
    # A router that costs less than the arm gains nothing by mixing.
    assert savings(0.8, 0.5, 0.7, 4.0, OTHERS) == pytest.approx(1 - 0.5 / 4)


def test_a_less_accurate_router_saves_only_beside_an_arm_more_accurate_than_the_target():
    assert savings(0.65, 1.0, 0.7, 4.0, OTHERS) is None
    # Mixing with the target itself would reach it at weight 0 of the router: that is no saving of the router.
    assert savings(0.65, 1.0, 0.7, 4.0, [(0.7, 4.0)]) is None
    assert savings(0.6, 1.0, 0.7, 4.0, [(0.8, 5.0)]) == pytest.approx(1 - 3.0 / 4)


def test_unknown_costs_give_no_savings():
    assert savings(0.8, math.nan, 0.7, 4.0, OTHERS) is None
    assert savings(0.8, 1.0, 0.7, math.nan, OTHERS) is None
    assert savings(0.8, 0.0, 0.7, 0.0) is None


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1), st.floats(0.1, 5), st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 5)), max_size=4))
def test_more_arms_never_save_less(accuracy, cost, others):
    alone, mixed = savings(accuracy, cost, 0.6, 2.0), savings(accuracy, cost, 0.6, 2.0, others)
    assert alone is None or (mixed is not None and mixed >= alone)
    assert mixed is None or mixed < 1
