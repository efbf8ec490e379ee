"""RouteLLM's matrix factorisation, over more than two arms."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from literature_properties import properties
from test_baselines import cache, decided, fitted, part, utility, with_gaps, without_cost, world  # noqa: F401

from recal_bench.errors import RecalBenchError
from recal_bench.routers import create

SMALL = {"factors": 32, "learning_rate": 0.01, "epochs": 10}
"""Settings for a few hundred queries."""


@properties
def test_routellm_mf_is_a_sound_router(holds: Any) -> None:
    holds("routellm-mf", SMALL)


@pytest.mark.parametrize("weights", ["stake", "equal"])
def test_it_beats_the_best_single_arm(weights: str) -> None:
    outcomes = without_cost(world())
    best_single = utility(decided(fitted("best-single", outcomes), outcomes), outcomes)
    router = fitted("routellm-mf", outcomes, weights=weights, **SMALL)
    assert utility(decided(router, outcomes), outcomes) > best_single + 0.05


def test_and_still_does_where_half_of_the_outcomes_are_missing() -> None:
    outcomes, complete = with_gaps(world(600), 0.5), world(600)
    best_single = utility(decided(fitted("best-single", outcomes), complete), complete)
    assert utility(decided(fitted("routellm-mf", outcomes, **SMALL), complete), complete) > best_single + 0.1


def test_what_is_at_stake_decides_not_how_often_an_arm_wins() -> None:
    # Two times of three the second arm is a little worse; else it alone is right.
    outcomes = without_cost(world(300).take_arms(np.array([0, 1])))
    small_Q = np.arange(300) % 3 < 2
    score_QA = np.column_stack([np.where(small_Q, 0.6, 0.0), np.where(small_Q, 0.5, 1.0)])
    outcomes = replace(outcomes, score_QA=score_QA, prompt_Q=np.array([f"question {row}" for row in range(300)]))
    assert (decided(fitted("routellm-mf", outcomes, **SMALL), outcomes) == 1).all()
    assert (decided(fitted("routellm-mf", outcomes, weights="equal", **SMALL), outcomes) == 0).all()


def test_preferences_of_a_query_by_hand() -> None:
    import torch

    utility_QA = torch.tensor([[0.9, 0.4, float("nan"), 0.4]], dtype=torch.float64)
    expected_AA = np.zeros((4, 4))
    expected_AA[0, [1, 3]] = 0.5
    np.testing.assert_allclose(create("routellm-mf")._won(utility_QA)[0], expected_AA, atol=1e-7)
    won_AA = create("routellm-mf", {"weights": "equal"})._won(utility_QA)[0]
    np.testing.assert_array_equal(won_AA, expected_AA * 2)
    # Strengths 1 and 0: the likely winner wins, which surprises by log(1 + 1/e).
    loss = create("routellm-mf")._loss(torch.tensor([[1.0, 0.0, 5.0, 0.0]]), utility_QA)
    assert loss.item() == pytest.approx(np.log(1 + np.exp(-1)))


def test_strengths_use_vectors_of_unit_length() -> None:
    strengths = sys.modules[type(create("routellm-mf")).__module__].strengths
    layers = [np.eye(2), np.zeros(2), np.array([[3.0, 4.0], [0.0, 2.0]]), np.array([1.0, 10.0])]
    np.testing.assert_allclose(strengths(layers, np.array([[5.0, 0.5]])), [[7.0, 5.0]])


def test_it_logs_its_epochs_and_needs_a_validation_split() -> None:
    outcomes, lines = world(60), []
    fitted("routellm-mf", outcomes, log=lines, epochs=3)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(line["train_loss"] > 0 and line["validation_loss"] > 0 for line in lines)
    with pytest.raises(RecalBenchError, match="needs outcomes in the split validation"):
        fitted("routellm-mf", outcomes.take(outcomes.split_Q != "validation"))
