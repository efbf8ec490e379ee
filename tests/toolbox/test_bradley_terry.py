"""Who beats whom, and how strong arms are by it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recal_bench.toolbox.bradley_terry import drawn_to_average, strengths, wins


def test_a_match_weighs_what_is_at_stake_and_a_draw_is_half_a_win() -> None:
    utility_QA = np.array([[0.9, 0.4, np.nan, 0.4]])
    expected_AA = np.zeros((4, 4))
    expected_AA[0, [1, 3]] = 0.5
    np.testing.assert_allclose(wins(utility_QA, "stake")[0], expected_AA)
    expected_AA *= 2
    expected_AA[1, 3] = expected_AA[3, 1] = 0.5
    np.testing.assert_allclose(wins(utility_QA, "equal")[0], expected_AA)


def test_strengths_of_two_arms_are_the_log_odds_of_a_win() -> None:
    won_QAA = np.array([[[0.0, 800.0], [200.0, 0.0]], [[0.0, 5.0], [5.0, 0.0]]])
    strength_QA = strengths(won_QAA, np.array([10.0, 0.1]))
    assert np.ptp(strength_QA[0]) == pytest.approx(np.log(4), rel=0.03)  # the draws take off a little
    np.testing.assert_allclose(strength_QA[1], 0.0, atol=1e-9)


@given(st.integers(0, 10_000), st.integers(1, 6), st.floats(0, 0.9))
@settings(max_examples=40)
def test_strengths_are_a_maximum_however_lopsided_the_wins_are(seed: int, arms: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    won_QAA = 10 ** rng.uniform(-6, 6, size=(3, arms, arms)) * (rng.random((3, arms, arms)) > share)
    won_QAA[:, range(arms), range(arms)] = 0.0
    drawn_Q = 0.01 * (won_QAA + won_QAA.swapaxes(1, 2)).sum(axis=2).mean(axis=1) + 1e-9
    strength_QA = strengths(won_QAA, drawn_Q)
    for won_AA, strength_A, drawn in zip(won_QAA, strength_QA, drawn_Q, strict=True):
        chance_AA = 1 / (1 + np.exp(strength_A[None] - strength_A[:, None]))
        slope_A = (won_AA - (won_AA + won_AA.T) * chance_AA).sum(axis=1) + drawn * (0.5 - 1 / (1 + np.exp(-strength_A)))
        np.testing.assert_allclose(slope_A, 0.0, atol=1e-6 * max(won_AA.sum(), 1e-9))


def test_strengths_are_measured_from_the_average_of_the_trusted_arms() -> None:
    value_QA = drawn_to_average(np.array([[3.0, 1.0, 9.0]]), np.array([1.0, 0.5, 0.0]))
    # The average is (3 + 0.5 * 1) / 1.5.
    np.testing.assert_allclose(value_QA, [[2 / 3, -2 / 3, 0.0]])
