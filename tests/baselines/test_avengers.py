"""The Avengers: arms ranked by cluster."""

import sys
from typing import Any

import numpy as np
import pytest
from literature_properties import properties
from test_baselines import cache, calls_for, decided, fitted, utility, with_gaps, world  # noqa: F401

from recal_bench.experiments.bench import queries_of
from recal_bench.routers import create

SMALL = {"clusters": 8}
"""Settings for a few hundred queries."""


@properties
def test_avengers_is_a_sound_router(holds: Any) -> None:
    holds("avengers", SMALL)


@pytest.mark.parametrize("nearest", [1, 3])
def test_it_beats_the_best_single_arm(nearest: int) -> None:
    outcomes = world()
    best_single = utility(decided(fitted("best-single", outcomes), outcomes), outcomes)
    router = fitted("avengers", outcomes, nearest=nearest)
    assert utility(decided(router, outcomes), outcomes) > best_single + 0.15


def test_and_still_does_where_half_of_the_outcomes_are_missing() -> None:
    outcomes, complete = with_gaps(world(600), 0.5), world(600)
    best_single = utility(decided(fitted("best-single", outcomes), complete), complete)
    assert utility(decided(fitted("avengers", outcomes, **SMALL), complete), complete) > best_single + 0.1


def test_arms_that_tie_share_a_rank() -> None:
    ranks = sys.modules[type(create("avengers")).__module__].ranks
    value_KA = np.array([[0.1 + 0.2, 0.3, 0.9, 0.1], [0.5, 0.5, 0.5, 0.5]])
    np.testing.assert_array_equal(ranks(value_KA), [[1, 1, 0, 3], [0, 0, 0, 0]])


def test_one_cluster_is_the_best_single_arm() -> None:
    outcomes = world()
    np.testing.assert_array_equal(
        decided(fitted("avengers", outcomes, clusters=1), outcomes), decided(fitted("best-single", outcomes), outcomes)
    )


def test_several_clusters_vote_by_how_near_they_are() -> None:
    outcomes = world(120)
    router, queries = fitted("avengers", outcomes, clusters=2, nearest=2), queries_of(outcomes.of_split("test"))
    # Arm 0 leads in the first cluster and is last in the second; arm 1 is second in both, and arm 2 the reverse of 0.
    router.rank_KA = np.array([[0, 1, 2, 3], [3, 1, 0, 2]])
    distance_QK = router._distances(router.text_encoder.encode(queries.prompt))
    for beta in (0.0, 6.0, 50.0):
        router.beta = beta
        weight_Q = 1 / (1 + np.exp(beta * (distance_QK[:, 0] - distance_QK[:, 1])))
        value_QA = np.stack(
            [
                weight_Q / (first + 0.1) + (1 - weight_Q) / (second + 0.1)
                for first, second in ((0, 3), (1, 1), (2, 0), (3, 2))
            ],
            axis=1,
        )
        np.testing.assert_array_equal(router.route(queries, calls_for(outcomes)).arm_Q, np.argmax(value_QA, axis=1))


def test_few_prompts_make_few_clusters() -> None:
    assert len(fitted("avengers", world(300), clusters=64).centre_KE) == 200 // 20
    assert len(fitted("avengers", world(18), clusters=64).centre_KE) == 1
