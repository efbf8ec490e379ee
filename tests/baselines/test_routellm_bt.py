"""RouteLLM's similarity-weighted ranking, over more than two arms."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from literature_properties import properties
from test_baselines import cache, decided, fitted, utility, with_gaps, without_cost, world  # noqa: F401

from recal_bench.routers import create
from recal_bench.toolbox.bradley_terry import strengths

SMALL = {"gamma": 1e4}


def module() -> Any:
    return sys.modules[type(create("routellm-bt")).__module__]


@properties
def test_routellm_bt_is_a_sound_router(holds: Any) -> None:
    if holds.__name__ == "settings_are_checked":
        holds("routellm-bt", {})
    else:
        holds("routellm-bt", SMALL)


@pytest.mark.parametrize("weights", ["stake", "equal"])
def test_it_beats_the_best_single_arm(weights: str) -> None:
    outcomes = without_cost(world())
    best_single = utility(decided(fitted("best-single", outcomes), outcomes), outcomes)
    router = fitted("routellm-bt", outcomes, weights=weights)
    assert utility(decided(router, outcomes), outcomes) > best_single + 0.05


def test_and_still_does_where_half_of_the_outcomes_are_missing() -> None:
    outcomes, complete = with_gaps(world(600), 0.5), world(600)
    best_single = utility(decided(fitted("best-single", outcomes), complete), complete)
    assert utility(decided(fitted("routellm-bt", outcomes), complete), complete) > best_single + 0.1


def test_with_gamma_1_all_queries_have_the_same_say() -> None:
    outcomes = world()
    assert len(set(decided(fitted("routellm-bt", outcomes, gamma=1.0), outcomes))) == 1


def test_what_is_at_stake_decides_not_how_often_an_arm_wins() -> None:
    # Two times of three the second arm is a little worse; else it alone is right.
    outcomes = without_cost(world(300).take_arms(np.array([0, 1])))
    small_Q = np.arange(300) % 3 < 2
    score_QA = np.column_stack([np.where(small_Q, 0.6, 0.0), np.where(small_Q, 0.5, 1.0)])
    outcomes = replace(outcomes, score_QA=score_QA, prompt_Q=np.array(["the same question"] * 300))
    assert (decided(fitted("routellm-bt", outcomes), outcomes) == 1).all()
    assert (decided(fitted("routellm-bt", outcomes, weights="equal"), outcomes) == 0).all()


def test_preferences_of_a_query_by_hand() -> None:
    utility_NA = np.array([[0.9, 0.4, np.nan, 0.4]])
    expected_AA = np.zeros((4, 4))
    expected_AA[0, [1, 3]] = 0.5
    np.testing.assert_allclose(module().wins(utility_NA, "stake")[0], expected_AA, atol=1e-7)
    expected_AA *= 2
    expected_AA[1, 3] = expected_AA[3, 1] = 0.5
    won_AA = module().wins(utility_NA, "equal")[0]
    np.testing.assert_array_equal(won_AA - np.diag(np.diag(won_AA)), expected_AA)


def test_similar_queries_weigh_gamma_times_as_much() -> None:
    router = create("routellm-bt", {"gamma": 100.0})
    router.memory_NE = np.array([[0.8, 0.6], [0.4, 0.3], [0.6, -0.8]], dtype=np.float32)
    router.utility_NA = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.5]])
    # Similarities 1, 1/2 and 0 of the greatest: weights 1, 1/10 and 1/100.
    won_QAA = router._won(np.array([[0.8, 0.6]], dtype=np.float32))
    np.testing.assert_allclose(won_QAA, [[[0.0, 1.0], [0.1 + 0.005, 0.0]]], rtol=1e-5)


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
