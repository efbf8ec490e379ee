"""IRT-Router: abilities against discrimination and difficulty."""

import sys
from typing import Any

import numpy as np
import pytest
from literature_properties import properties
from test_baselines import USD, cache, decided, fitted, part, utility, with_gaps, world  # noqa: F401

from recal_bench.errors import RecalBenchError
from recal_bench.experiments.bench import queries_of
from recal_bench.routers import create

SMALL = {"dimensions": 10, "learning_rate": 0.01, "epochs": 8}
"""Settings for a few hundred queries."""


@properties
def test_irt_is_a_sound_router(holds: Any) -> None:
    holds("irt", SMALL)


def test_it_beats_the_best_single_arm() -> None:
    outcomes = world()
    best_single = utility(decided(fitted("best-single", outcomes), outcomes), outcomes)
    assert utility(decided(fitted("irt", outcomes, **SMALL), outcomes), outcomes) > best_single + 0.15


def test_and_still_does_where_half_of_the_outcomes_are_missing() -> None:
    outcomes, complete = with_gaps(world(600), 0.5), world(600)
    best_single = utility(decided(fitted("best-single", outcomes), complete), complete)
    assert utility(decided(fitted("irt", outcomes, **SMALL), complete), complete) > best_single + 0.1


def test_scores_are_predicted_for_each_query_and_one_cost_for_each_arm() -> None:
    outcomes = world()
    score_QA, cost_QA = fitted("irt", with_gaps(outcomes, 0.3), **SMALL).predict(queries_of(outcomes.of_split("test")))
    np.testing.assert_allclose(score_QA.mean(axis=0), [0.4, 0.4, 0.4, 0.6], atol=0.15)
    assert (np.ptp(score_QA, axis=0) > 0.1).all()
    np.testing.assert_allclose(cost_QA.mean(axis=0), USD, rtol=0.25)
    np.testing.assert_array_equal(cost_QA, np.tile(cost_QA[0], (len(cost_QA), 1)))


def test_a_response_computed_by_hand() -> None:
    responses = sys.modules[type(create("irt")).__module__].responses
    ability_AD, discrimination_ED = np.array([[2.0, 0.0], [-1.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    layers = [ability_AD, discrimination_ED, np.array([0.0, -1.0]), np.array([1.0, -1.0]), 0.5]
    specific_QA, difficulty_Q1 = responses(layers, np.array([[3.0, 5.0]]), lambda value: value)
    # Discrimination (3, 4), abilities (2, 0) and (-1, 1); difficulty 3 - 5 + 0.5.
    np.testing.assert_allclose(specific_QA, [[6.0, 1.0]])
    np.testing.assert_allclose(difficulty_Q1, [[-1.5]])


def test_a_new_query_is_drawn_towards_its_neighbours() -> None:
    router = create("irt", {"warm_up": 0.25})
    router.memory_NE = np.array([[1.0, 0.0], [0.0, 1.0]] * 10, dtype=np.float32)
    warm_QE = router._warmed_up(np.array([[0.6, 0.8]], dtype=np.float32))
    np.testing.assert_allclose(warm_QE, np.sqrt(2) * np.array([[0.75 * 0.6, 0.75 * 0.8 + 0.25]]), rtol=1e-6)


def test_it_logs_its_epochs_and_needs_a_validation_split() -> None:
    outcomes, lines = world(60), []
    fitted("irt", outcomes, log=lines, epochs=3)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(line["train_error"] > 0 and line["validation_error"] > 0 for line in lines)
    with pytest.raises(RecalBenchError, match="needs outcomes in the split validation"):
        fitted("irt", outcomes.take(outcomes.split_Q != "validation"))
