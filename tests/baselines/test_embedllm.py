"""EmbedLLM: query x arm, factorised."""

import sys
from typing import Any

import numpy as np
import pytest
from literature_properties import properties
from test_baselines import USD, cache, decided, fitted, part, utility, with_gaps, world  # noqa: F401

from recal_bench.errors import RecalBenchError
from recal_bench.experiments.bench import queries_of
from recal_bench.outcomes import Arm
from recal_bench.routers import create
from recal_bench.toolbox.names import named_vectors

SMALL = {"factors": 32, "learning_rate": 0.01, "epochs": 8}
"""Settings for a few hundred queries."""


@properties
def test_embedllm_is_a_sound_router(holds: Any) -> None:
    holds("embedllm", SMALL)


def test_it_beats_the_best_single_arm() -> None:
    outcomes = world()
    best_single = utility(decided(fitted("best-single", outcomes), outcomes), outcomes)
    assert utility(decided(fitted("embedllm", outcomes, **SMALL), outcomes), outcomes) > best_single + 0.15


def test_and_still_does_where_half_of_the_outcomes_are_missing() -> None:
    outcomes, complete = with_gaps(world(600), 0.5), world(600)
    best_single = utility(decided(fitted("best-single", outcomes), complete), complete)
    assert utility(decided(fitted("embedllm", outcomes, **SMALL), complete), complete) > best_single + 0.1


def test_predictions_are_in_units_of_the_outcomes() -> None:
    outcomes = world()
    router = fitted("embedllm", with_gaps(outcomes, 0.3), **SMALL)
    score_QA, cost_QA = router.predict(queries_of(outcomes.of_split("test")))
    assert ((score_QA > 0) & (score_QA < 1)).all()
    np.testing.assert_allclose(score_QA.mean(axis=0), [0.4, 0.4, 0.4, 0.6], atol=0.15)
    np.testing.assert_allclose(cost_QA.mean(axis=0), USD, rtol=0.25)


def test_the_product_of_factors_is_read_twice() -> None:
    outputs = sys.modules[type(create("embedllm")).__module__].outputs
    projection_EF, bias_F = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0.0, 1.0])
    arm_AF, readout_KF = np.array([[1.0, 1.0], [0.0, -1.0]]), np.array([[1.0, 1.0], [0.5, 0.0]])
    # The query's factors are (3, 9): times the arms' vectors (3, 9) and (0, -9).
    score_QA, cost_QA = outputs([projection_EF, bias_F, arm_AF, readout_KF], np.array([[3.0, 4.0]]))
    np.testing.assert_allclose(score_QA, [[12.0, -9.0]])
    np.testing.assert_allclose(cost_QA, [[1.5, 0.0]])


def test_an_arms_first_vector_hangs_on_its_name_and_the_seed() -> None:
    arms = (Arm("a", "cot"), Arm("b", "cot"), Arm("b", "direct"))
    first_AF = named_vectors(arms, 8, seed=0)
    np.testing.assert_array_equal(named_vectors(arms[::-1], 8, seed=0), first_AF[::-1])
    assert len(np.unique(np.vstack([first_AF, named_vectors(arms, 8, seed=1)]), axis=0)) == 6


def test_it_logs_its_epochs_and_needs_a_validation_split() -> None:
    outcomes, lines = world(60), []
    fitted("embedllm", outcomes, log=lines, epochs=3)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(line["train_error"] > 0 and line["validation_error"] > 0 for line in lines)
    with pytest.raises(RecalBenchError, match="needs outcomes in the split validation"):
        fitted("embedllm", outcomes.take(outcomes.split_Q != "validation"))
