"""Route-To-Reason: arms as a model's vector beside a strategy's."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from literature_properties import properties
from test_baselines import USD, cache, decided, fitted, part, utility, with_gaps, world  # noqa: F401

from recal_bench.errors import RecalBenchError
from recal_bench.experiments.bench import queries_of
from recal_bench.outcomes import Arm, Outcomes

SMALL = {"hidden": 64, "learning_rate": 3e-3}
"""Settings for a few hundred queries."""
MODELS = {"atlas": "geo", "codex": "law", "euler": "math"}
STRATEGIES = {"direct": (0.0, 1.0), "cot": (0.3, 3.0), "draft": (0.15, 1.5)}
"""By how much a strategy makes an arm right more often, and how many times as dear."""


def grid(queries: int = 600, seed: int = 0) -> Outcomes:
    """Three models, each good at one topic, under three strategies."""
    outcomes, rng = world(queries, seed), np.random.default_rng(seed)
    arms = tuple(Arm(model, strategy) for model in MODELS for strategy in STRATEGIES)
    right_QA = np.array(
        [
            [0.2 + 0.45 * (MODELS[arm.model] == task) + STRATEGIES[arm.strategy][0] for arm in arms]
            for task in outcomes.task_Q
        ]
    )
    usd_A = np.array([1e-4 * STRATEGIES[arm.strategy][1] * (1 + 4 * (arm.model == "euler")) for arm in arms])
    return replace(
        outcomes,
        arms=arms,
        score_QA=(rng.random(right_QA.shape) < right_QA).astype(float),
        cost_QA=usd_A * rng.uniform(0.8, 1.2, right_QA.shape),
    )


@properties
def test_rtr_is_a_sound_router(holds: Any) -> None:
    holds("rtr", SMALL)


def test_it_beats_the_best_single_arm() -> None:
    outcomes = world()
    best_single = utility(decided(fitted("best-single", outcomes), outcomes), outcomes)
    assert utility(decided(fitted("rtr", outcomes), outcomes), outcomes) > best_single + 0.15


def test_predictions_are_in_units_of_the_outcomes() -> None:
    outcomes = world()
    router = fitted("rtr", with_gaps(outcomes, 0.3))
    score_QA, cost_QA = router.predict(queries_of(outcomes.of_split("test")))
    np.testing.assert_allclose(score_QA.mean(axis=0), [0.4, 0.4, 0.4, 0.6], atol=0.15)
    np.testing.assert_allclose(cost_QA.mean(axis=0), USD, rtol=0.25)


def test_a_combination_never_seen_is_predicted_from_its_model_and_its_strategy() -> None:
    complete = grid()
    arm = complete.arms.index(Arm("codex", "cot"))
    hidden_QA = (complete.split_Q != "test")[:, None] & (np.arange(9) == arm)
    outcomes = replace(
        complete,
        score_QA=np.where(hidden_QA, np.nan, complete.score_QA),
        cost_QA=np.where(hidden_QA, np.nan, complete.cost_QA),
    )
    test = complete.of_split("test")
    router = fitted("rtr", outcomes, alpha=0.0, **SMALL)
    score_QA, cost_QA = router.predict(queries_of(test))
    of_law_Q = test.task_Q == "law"
    assert score_QA[of_law_Q, arm].mean() > score_QA[~of_law_Q, arm].mean() + 0.2
    np.testing.assert_allclose(cost_QA[:, arm].mean(), 3e-4, rtol=0.3)
    arm_Q = decided(router, complete, alpha=0.0)
    assert (arm_Q[of_law_Q] == arm).mean() > 0.8
    assert (arm_Q[~of_law_Q] == arm).mean() < 0.1


def test_a_model_never_seen_comes_last_whatever_its_strategy() -> None:
    outcomes = grid(300)
    unseen_QA = np.broadcast_to([arm.model == "codex" for arm in outcomes.arms], outcomes.score_QA.shape)
    unseen_QA = unseen_QA & (outcomes.split_Q != "test")[:, None]
    outcomes = replace(outcomes, score_QA=np.where(unseen_QA, np.nan, outcomes.score_QA))
    outcomes = replace(outcomes, cost_QA=np.where(unseen_QA, np.nan, outcomes.cost_QA))
    arm_Q = decided(fitted("rtr", outcomes, **SMALL), outcomes)
    assert all(outcomes.arms[arm].model != "codex" for arm in arm_Q)


def test_its_epochs_are_logged_and_stop_on_validation() -> None:
    outcomes, lines = world(150), []
    router = fitted("rtr", outcomes, log=lines, epochs=40, learning_rate=1e-2)
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(line["train_error"] > 0 and line["validation_error"] > 0 for line in lines)
    least = int(np.argmin([line["validation_error"] for line in lines]))
    assert len(lines) == least + 1 + 5 < 40
    validation = part(outcomes, "validation")
    predicted_QA = validation.objective.utility(*router.predict(validation.queries))
    kept = np.mean((predicted_QA - validation.utility_QA) ** 2)
    assert kept == pytest.approx(lines[least]["validation_error"], rel=1e-6)


def test_it_needs_outcomes_to_stop_by() -> None:
    outcomes = world(60)
    outcomes = outcomes.take(outcomes.split_Q != "validation")
    with pytest.raises(RecalBenchError, match="needs outcomes in the split validation"):
        fitted("rtr", outcomes)


def test_threads_are_left_as_they_were() -> None:
    import torch

    threads = torch.get_num_threads()
    fitted("rtr", world(60), epochs=1)
    assert torch.get_num_threads() == threads
