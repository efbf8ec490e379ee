"""Two sets of queries compared: what holds for all inputs, known values, and error rates by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, fisher_exact, ttest_ind
from sklearn.metrics import roc_auc_score

from recal_bench.evaluation.drift import (
    _won_pairs,
    compare_means,
    compare_shares,
    p_of_choices,
    tell_apart,
)


def embedded(rng, n, shift=0.0, dimensions=8):
    vector_QE = rng.normal(size=(n, dimensions))
    vector_QE[:, 0] += shift
    return vector_QE / np.linalg.norm(vector_QE, axis=1, keepdims=True)


def test_p_is_uniform_where_nothing_differs_and_the_interval_holds_one_half():
    rng = np.random.default_rng(0)
    found = [tell_apart(embedded(rng, 60), embedded(rng, 40), 99, seed) for seed in range(300)]
    assert sum(each.p <= 0.05 for each in found) <= 27  # 15 expected; 27 and more: p < .003
    assert sum(each.p <= 0.5 for each in found) >= 120
    assert sum(each.auc.low <= 0.5 <= each.auc.high for each in found) >= 273


def test_a_shift_is_found_and_a_larger_one_is_told_better():
    rng = np.random.default_rng(0)
    before = embedded(rng, 200)
    small, large = (tell_apart(before, embedded(rng, 100, shift), 199) for shift in (1.0, 3.0))
    assert small.p <= 0.01
    assert 0.6 < small.auc.low < small.auc.value < large.auc.low
    assert large.auc.high <= 1.0


def test_texts_without_any_known_word_are_not_told_apart():
    zeros = np.zeros((30, 4))
    assert tell_apart(zeros, zeros[:25], 99).auc.value == 0.5
    assert tell_apart(zeros, zeros[:25], 99).p == 1.0


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=30))
def test_pairs_are_those_of_the_auc(rows):
    score_Q, label_Q = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    won_P, pairs_P = _won_pairs(score_Q[:, None], label_Q[:, None])
    assert pairs_P[0] == label_Q.sum() * (1 - label_Q).sum()
    if pairs_P[0]:
        assert won_P[0] / pairs_P[0] == pytest.approx(roc_auc_score(label_Q, score_Q))


@settings(max_examples=50)
@given(st.integers(0, 40), st.integers(0, 30), st.integers(1, 40), st.integers(1, 30))
def test_shares_lie_within_their_intervals_and_swap_signs(hits_b, hits_t, misses_b, misses_t):
    before, today = np.arange(hits_b + misses_b) < hits_b, np.arange(hits_t + misses_t) < hits_t
    found, other = compare_shares(before, today), compare_shares(today, before)
    for each in (found.before, found.today, found.difference):
        assert -1 <= each.low <= each.value + 1e-12
        assert each.value <= each.high + 1e-12 <= 1 + 1e-9
    assert found.difference.value == -other.difference.value
    assert found.difference.low == pytest.approx(-other.difference.high)


@pytest.mark.parametrize(("before", "today"), [((30, 10), (5, 15)), ((30, 10), (14, 6)), ((50, 0), (20, 5))])
def test_two_choices_have_the_p_of_fishers_test(before, today):
    found = p_of_choices(np.repeat([0, 1], before), np.repeat([0, 1], today))
    assert found == pytest.approx(fisher_exact([before, today]).pvalue, abs=0.03)


def test_several_choices_have_the_p_of_chi_squared_and_unused_ones_do_not_count():
    before, today = np.repeat([0, 2, 3], [200, 100, 60]), np.repeat([0, 2, 3], [90, 60, 50])
    expected = chi2_contingency([[200, 100, 60], [90, 60, 50]]).pvalue
    assert p_of_choices(before, today) == pytest.approx(expected, abs=0.01)
    assert p_of_choices(np.zeros(30, dtype=int), np.zeros(20, dtype=int)) == 1.0


@settings(max_examples=50)
@given(st.integers(0, 1000))
def test_means_are_compared_as_by_welch(seed):
    rng = np.random.default_rng(seed)
    before, today = rng.normal(size=25), 2 * rng.normal(size=40)
    found, expected = compare_means(before, today).difference, ttest_ind(today, before, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_equal_values_have_no_doubt():
    found = compare_means(np.full(20, 0.5), np.full(30, 0.5))
    assert found.difference[:4] == (0.0, 0.0, 0.0, 1.0)
