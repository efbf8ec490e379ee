"""Elo ratings and Borda count: one ranking of the arms for all queries."""

import sys
from dataclasses import replace
from typing import Any

import literature_properties as literature
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_baselines import cache, decided, fitted, with_gaps, world  # noqa: F401

from recal_bench.errors import RecalBenchError
from recal_bench.outcomes import Arm, Outcomes
from recal_bench.routers import create

PROPERTIES = (
    literature.the_utility_is_optimised_not_the_score,
    literature.arms_that_tie_share_a_label,
    literature.where_nothing_differs_the_cheaper_arm_is_chosen,
    literature.an_arm_without_any_train_outcome_comes_last,
    literature.an_unknown_cost_is_not_zero,
    literature.many_arms_and_few_queries_are_no_trouble,
    literature.nothing_to_route_is_no_trouble,
    literature.train_without_any_outcome_is_refused,
)


def module(name: str) -> Any:
    return sys.modules[type(create(name)).__module__]


def scored(score_QA: Any, tasks: str = "") -> Outcomes:
    """Train queries with these scores, no costs; one letter names each query's task."""
    score_QA = np.array(score_QA, dtype=float)
    queries, arms = score_QA.shape
    numbers_Q = np.array([f"question {row}" for row in range(queries)], dtype=object)
    return Outcomes(
        task_Q=np.array(list(tasks or "t" * queries), dtype=object),
        query_id_Q=numbers_Q,
        prompt_Q=numbers_Q,
        split_Q=np.full(queries, "train", dtype=object),
        arms=tuple(Arm(f"model {number}", "direct") for number in range(arms)),
        score_QA=score_QA,
        cost_QA=np.full(score_QA.shape, np.nan),
        name="scored",
        data_hash="0",
    )


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
@pytest.mark.parametrize(
    ("name", "chosen"),
    [("elo", {}), ("elo", {"weights": "equal"}), ("borda", {}), ("borda", {"margin": 0.0})],
    ids=["elo", "elo-equal", "borda", "borda-original"],
)
def test_they_are_sound_routers(name: str, chosen: dict[str, Any], holds: Any) -> None:
    holds(name, chosen)


@pytest.mark.parametrize(("name", "key", "value"), [("elo", "weights", "double"), ("borda", "margin", -0.1)])
def test_senseless_settings_are_refused(name: str, key: str, value: Any) -> None:
    with pytest.raises(RecalBenchError, match=f"router {name}, setting {key}={value}"):
        create(name, {key: value})


@pytest.mark.parametrize("name", ["elo", "borda"])
def test_two_lucky_outcomes_are_not_enough(name: str) -> None:
    outcomes = scored([[1, 0, 0, 0, np.nan]] * 40 + [[0, 1, 1, 1, np.nan]] * 10 + [[0, 0, 0, 0, 1]] * 2)
    router = fitted(name, outcomes)
    assert np.argmax(router.rating_A if name == "elo" else router.points_A) == 0


# Elo


def test_ten_wins_to_one_are_400_points() -> None:
    outcomes = scored([[1, 0]] * 10_000 + [[0, 1]] * 1_000)
    for weights in ("stake", "equal"):
        rating_A = fitted("elo", outcomes, weights=weights).rating_A
        assert rating_A.mean() == pytest.approx(1_000)
        assert np.ptp(rating_A) == pytest.approx(400, abs=3)  # the draws that every arm starts with take off a little


def test_ratings_reach_across_arms_that_never_met() -> None:
    # The first beats the second, the second the third; the first and the third never meet.
    outcomes = scored([[1, 0, np.nan]] * 30 + [[0, 1, np.nan]] * 10 + [[np.nan, 1, 0]] * 30 + [[np.nan, 0, 1]] * 10)
    rating_A = fitted("elo", outcomes).rating_A
    assert rating_A[0] > rating_A[1] > rating_A[2]
    assert rating_A[0] - rating_A[2] == pytest.approx(2 * (rating_A[0] - rating_A[1]), rel=0.05)


@pytest.mark.parametrize("name", ["elo", "borda"])
def test_a_large_task_has_no_more_say_than_a_small_one(name: str) -> None:
    # The second arm wins the small task always, the first the large one three times of five.
    outcomes = scored([[1, 0]] * 60 + [[0, 1]] * 40 + [[0, 1]] * 10, tasks="l" * 100 + "s" * 10)
    router = fitted(name, outcomes)
    assert np.argmax(router.rating_A if name == "elo" else router.points_A) == 1


@given(st.integers(0, 10_000), st.integers(2, 5))
@settings(max_examples=30)
def test_with_every_outcome_known_equal_elo_ranks_like_the_original_borda(seed: int, arms: int) -> None:
    rng = np.random.default_rng(seed)
    outcomes = scored(rng.integers(0, 4, size=(40, arms)) / 3, tasks="a" * 30 + "b" * 10)
    rating_A = fitted("elo", outcomes, weights="equal").rating_A
    points_A = fitted("borda", outcomes, margin=0.0).points_A
    np.testing.assert_array_equal(
        np.sign(np.subtract.outer(rating_A, rating_A)), np.sign(np.subtract.outer(points_A, points_A))
    )


# Borda


def test_points_by_hand() -> None:
    nan = np.nan
    utility_QA = np.array([[0.9, 0.4, 0.4, 0.1], [nan, 0.5, 0.2, nan], [nan, nan, 0.7, nan]])
    expected_QA = [[1, 0.5, 0.5, 0], [nan, 1, 0, nan], [nan, nan, 0.5, nan]]
    np.testing.assert_allclose(module("borda").points(utility_QA, 1e-9), expected_QA)
    np.testing.assert_allclose(module("borda").points(utility_QA[:1], 0.35), [[1, 1 / 3, 1 / 3, 1 / 3]])


def test_a_rank_forgets_by_how_much() -> None:
    outcomes = scored([[0.6, 0.5]] * 2 + [[0.0, 1.0]])
    assert np.argmax(fitted("borda", outcomes).points_A) == 0
    assert np.argmax(fitted("elo", outcomes, weights="equal").rating_A) == 0
    assert np.argmax(fitted("elo", outcomes).rating_A) == 1


def test_small_savings_gain_no_rank_unless_asked_for() -> None:
    # Both arms are right mostly, the dear one a little more often.
    outcomes = world(300).take_arms(np.array([0, 1]))
    score_QA = np.column_stack([np.arange(300) % 7 < 5, np.ones(300)]).astype(float)
    outcomes = replace(outcomes, score_QA=score_QA, cost_QA=np.tile([7e-4, 10e-4], (300, 1)))
    assert (decided(fitted("borda", outcomes), outcomes) == 1).all()
    assert (decided(fitted("borda", outcomes, margin=0.0), outcomes) == 0).all()
