"""RouteLLM's similarity-weighted ranking, over more than two arms."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from literature_properties import properties
from test_baselines import cache, decided, fitted, utility, with_gaps, without_cost, world  # noqa: F401

from recal_bench.routers import create

SMALL = {"gamma": 1e4}


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


def test_similar_queries_weigh_gamma_times_as_much() -> None:
    router = create("routellm-bt", {"gamma": 100.0})
    router.memory_NE = np.array([[0.8, 0.6], [0.4, 0.3], [0.6, -0.8]], dtype=np.float32)
    router.utility_NA = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.5]])
    # Similarities 1, 1/2 and 0 of the greatest: weights 1, 1/10 and 1/100.
    won_QAA = router._won(np.array([[0.8, 0.6]], dtype=np.float32))
    np.testing.assert_allclose(won_QAA, [[[0.0, 1.0], [0.1 + 0.005, 0.0]]], rtol=1e-5)
