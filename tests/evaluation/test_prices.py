"""The walk along all prices of cost, held against asking at each price by itself."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.evaluation.prices import along, steps


@st.composite
def predictions(draw):
    n_queries, n_arms = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    # Whole numbers make ties: of scores, of costs, of prices.
    numbers = st.lists(st.integers(0, 4), min_size=n_queries * n_arms, max_size=n_queries * n_arms)
    score_QA, cost_QA, value_QA = (np.reshape(draw(numbers), (n_queries, n_arms)) / 4.0 for _ in range(3))
    available_QA = np.reshape(draw(numbers), (n_queries, n_arms)) > 1
    available_QA[:, draw(st.integers(0, n_arms - 1))] = True
    return score_QA, cost_QA, available_QA, value_QA


@given(predictions())
def test_every_stretch_of_prices_has_the_choices_made_there(given_arrays):
    score_QA, cost_QA, available_QA, value_QA = given_arrays
    weight_Q = np.linspace(1, 2, len(score_QA))
    found = steps(score_QA, cost_QA, available_QA)
    assert (np.diff(found.price_N) >= 0).all()
    price_P, sum_P = along(found, value_QA, weight_Q)
    cost_P = along(found, cost_QA, weight_Q)[1]
    assert (np.diff(price_P) > 0).all()
    assert (np.diff(cost_P) < 1e-9).all()
    rows = np.arange(len(score_QA))
    for price, total in zip(price_P, sum_P, strict=True):
        gain_QA = np.where(available_QA, np.round(score_QA - price * cost_QA, 9), -np.inf)
        # Of equal gains at a price between two steps the lines are the same: any of those arms may be the one.
        best_QA = gain_QA == gain_QA.max(axis=1, keepdims=True)
        cost_key_QA = np.where(best_QA, cost_QA, np.inf)
        arm_Q = cost_key_QA.argmin(axis=1)
        tied = (best_QA & (cost_QA == cost_key_QA.min(axis=1, keepdims=True))).sum(axis=1) > 1
        if not tied.any():
            assert np.isclose(total, (value_QA[rows, arm_Q] * weight_Q).sum())


def test_a_query_leaves_its_arm_where_the_lines_meet():
    found = steps(np.array([[0.9, 0.6, 0.0]]), np.array([[1.0, 0.5, 0.0]]), np.ones((1, 3), dtype=bool))
    assert found.first_Q.tolist() == [0]
    assert np.allclose(found.price_N, [0.6, 1.2])
    assert found.to_N.tolist() == [1, 2]
    price_P, sum_P = along(found, np.array([[1.0, 2.0, 3.0]]), np.ones(1))
    assert price_P[0] == 0
    assert 0.6 < price_P[1] < 1.2 < price_P[2]
    assert sum_P.tolist() == [1.0, 2.0, 3.0]
