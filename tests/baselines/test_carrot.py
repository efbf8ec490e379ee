"""CARROT: two regressors tuned apart."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from literature_properties import properties, with_prompts
from test_baselines import USD, cache, decided, fitted, utility, with_gaps, without_cost, world  # noqa: F401

from recal_bench.experiments.bench import queries_of
from recal_bench.routers import Queries

SMALL = {"most_neighbours": 32}
"""Settings for a few hundred queries."""


@properties
def test_carrot_is_a_sound_router(holds: Any) -> None:
    holds("carrot", SMALL)


def test_it_beats_the_best_single_arm() -> None:
    outcomes = world()
    best_single = utility(decided(fitted("best-single", outcomes), outcomes), outcomes)
    assert utility(decided(fitted("carrot", outcomes), outcomes), outcomes) > best_single + 0.15


def test_predictions_are_in_units_of_the_outcomes() -> None:
    outcomes = world()
    router = fitted("carrot", with_gaps(outcomes, 0.3))
    score_QA, cost_QA = router.predict(queries_of(outcomes.of_split("test")))
    np.testing.assert_allclose(score_QA.mean(axis=0), [0.4, 0.4, 0.4, 0.6], atol=0.15)
    np.testing.assert_allclose(cost_QA.mean(axis=0), USD, rtol=0.25)


def test_a_case_computed_by_hand() -> None:
    outcomes = without_cost(world(12)).take_arms(np.array([0, 1]))
    outcomes = with_prompts(outcomes, ["apple pear", "apple plum", "stone iron", "stone lead"] * 3)
    outcomes = replace(
        outcomes,
        split_Q=np.array(["train"] * 4 + ["validation"] * 4 + ["test"] * 4, dtype=object),
        score_QA=np.array([[1, 0.5], [1, 0.5], [0, 0.5], [0, 0.5]] * 3, dtype=float),
    )
    router = fitted("carrot", outcomes, most_neighbours=2)
    score_QA, _ = router.predict(Queries(("a", "b"), ("apple", "stone")))
    # Both arms are worth 0.5; the two neighbours exceed that by 0.5, and 0.5 itself counts for a third.
    np.testing.assert_allclose(score_QA, [[0.5 + 1 / 3, 0.5], [0.5 - 1 / 3, 0.5]])


def test_scores_and_costs_have_each_a_number_of_neighbours_of_their_own() -> None:
    # The score follows sixty narrow topics of ten queries; the cost follows nothing.
    outcomes, rng = world(600), np.random.default_rng(0)
    topic_Q = np.arange(600) % 60
    easy_QA = rng.random((60, 4)) < 0.5
    outcomes = with_prompts(
        outcomes, [f"topic{topic:02d} about{topic:02d} n{row}" for row, topic in enumerate(topic_Q)]
    )
    outcomes = replace(outcomes, score_QA=easy_QA[topic_Q].astype(float))
    for_scores, for_costs = fitted("carrot", outcomes, most_neighbours=128).neighbours
    assert for_scores <= 8
    assert for_costs == 128


def test_a_query_is_not_its_own_neighbour_nor_that_of_its_twins() -> None:
    # Every prompt stands in train twice with the same outcome, which says nothing of any other prompt.
    outcomes, rng = without_cost(world(400)), np.random.default_rng(0)
    outcomes = with_prompts(outcomes, [f"question {row // 2} of {row // 2}" for row in range(400)])
    outcomes = replace(
        outcomes,
        score_QA=np.repeat(rng.random((200, 4)) < 0.5, 2, axis=0).astype(float),
        split_Q=np.array(["train"] * 300 + ["validation"] * 50 + ["test"] * 50, dtype=object),
    )
    assert fitted("carrot", outcomes, most_neighbours=64).neighbours == [64]


def test_weights_may_follow_the_similarity() -> None:
    outcomes = world()
    uniform, weighted = (fitted("carrot", outcomes, weights=weights) for weights in ("uniform", "similarity"))
    queries = queries_of(outcomes.of_split("test"))
    assert np.abs(uniform.predict(queries).score_QA - weighted.predict(queries).score_QA).max() == pytest.approx(
        0.1, abs=0.1
    )
    assert (decided(uniform, outcomes) == decided(weighted, outcomes)).mean() > 0.8
