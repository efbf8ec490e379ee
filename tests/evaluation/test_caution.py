"""Standard errors of predicted gains, and how much of them a guard asks for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.evaluation.caution import NEIGHBOURS, POOLED_COUNT, gain_errors, most_cautious
from recal_bench.evaluation.statistics import crossed_interval


def drawn(seed: int, rows: int = 300):
    rng = np.random.default_rng(seed)
    gain_VA = rng.normal(0, 0.1, (rows, 3))
    gain_VA[:, 0] = 0
    residual_VA = rng.normal(0, 0.4, (rows, 3))
    residual_VA[:, 0] = 0
    return gain_VA, residual_VA


@given(seed=st.integers(0, 999), scale=st.floats(0.01, 100))
def test_errors_scale_with_the_residuals_and_not_with_the_order_of_validation(seed, scale):
    gain_VA, residual_VA = drawn(seed)
    found_QA = gain_errors(gain_VA[:20], gain_VA, residual_VA)
    assert gain_errors(gain_VA[:20], gain_VA, scale * residual_VA) == pytest.approx(scale * found_QA)
    order = np.random.default_rng(seed).permutation(len(gain_VA))
    assert gain_errors(gain_VA[:20], gain_VA[order], residual_VA[order]) == pytest.approx(found_QA)
    assert (found_QA[:, 0] == 0).all()


def test_an_error_is_that_of_a_mean_over_the_nearest_validation_queries():
    gain_VA, residual_VA = drawn(0)
    query_QA = np.array([[0.0, 0.05, -0.05]])
    near = np.argsort(((gain_VA - query_QA) ** 2).sum(axis=1))[:NEIGHBOURS]
    pooled_A = (residual_VA**2).mean(axis=0)
    square_A = ((residual_VA[near] ** 2).sum(axis=0) + POOLED_COUNT * pooled_A) / (NEIGHBOURS + POOLED_COUNT)
    assert gain_errors(query_QA, gain_VA, residual_VA)[0] == pytest.approx(np.sqrt(square_A / NEIGHBOURS))


def test_an_error_is_small_where_predictions_are_good():
    gain_VA, residual_VA = drawn(1, 1000)
    residual_VA[gain_VA[:, 1] > 0] *= 0.1
    good, bad = gain_errors(np.array([[0.0, 0.1, 0.0], [0.0, -0.1, 0.0]]), gain_VA, residual_VA)[:, 1]
    assert good < bad / 3


def test_a_query_is_not_its_own_neighbour():
    gain_VA, residual_VA = drawn(2, 50)
    residual_VA[:, 1] = 0
    residual_VA[7, 1] = 1
    own_Q = np.array([7, 8])
    left_out, seen = gain_errors(gain_VA[own_Q], gain_VA, residual_VA, own_Q)[:, 1]
    # Of the lone residual query 7 sees only what the mean over all brings in.
    assert left_out**2 * 49 == pytest.approx(POOLED_COUNT / 50 / (49 + POOLED_COUNT))
    assert seen > left_out


def test_missing_residuals_do_not_count_and_an_arm_without_any_has_the_widest_error():
    gain_VA, residual_VA = drawn(3)
    residual_VA[::2, 1] = np.nan
    residual_VA[:, 2] = np.nan
    found_QA = gain_errors(gain_VA[:10], gain_VA, residual_VA)
    assert np.isfinite(found_QA).all()
    assert found_QA[0, 2] == pytest.approx(np.sqrt(np.nanmean(residual_VA[:, 1] ** 2) / NEIGHBOURS))
    assert (gain_errors(gain_VA[:10], gain_VA, np.full_like(residual_VA, np.nan)) == 0).all()


@given(seed=st.integers(0, 999))
def test_nothing_more_cautious_than_what_was_chosen_is_within_a_standard_error_of_the_best(seed):
    rng = np.random.default_rng(seed)
    task_V = rng.integers(0, 3, 90)
    utility_CV = np.cumsum(rng.normal(0, 0.2, (5, 90)), axis=0)
    chosen = most_cautious(utility_CV, task_V)
    mean_C = [crossed_interval([row[None]], task_V).estimate for row in utility_CV]
    best = int(np.argmax(mean_C))
    assert chosen >= best
    for row in range(best + 1, 5):
        lost = crossed_interval([(utility_CV[best] - utility_CV[row])[None]], task_V)
        assert (lost.estimate <= lost.error) == (row == chosen) or row < chosen


def test_a_clear_gain_is_kept_and_equal_rows_go_to_the_most_cautious():
    task_V = np.zeros(40, dtype=int)
    kept_V = np.tile([0.6, 0.7], 20)
    assert most_cautious(np.stack([kept_V, np.zeros(40)]), task_V) == 0
    assert most_cautious(np.stack([kept_V, kept_V, kept_V]), task_V) == 2
