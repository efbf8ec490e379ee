"""Choices that read the text are not taken for ones that saw the outcomes; those that did are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.outcomes import Arm
from recal_bench.toolbox.leaks import hidden_gain, over_each_task

ARMS = tuple(Arm(name, "direct") for name in "abcd")


def drawn(seed: int, queries: int = 600):
    """Texts as vectors, the chance of every arm to be right, which is linear in them, and scores."""
    rng = np.random.default_rng(seed)
    text_QE = rng.normal(size=(queries, 6)) / np.sqrt(6)
    task_Q = np.array(["one", "two"])[rng.integers(2, size=queries)]
    chance_QA = np.clip(0.5 + 0.25 * text_QE @ rng.normal(size=(6, 4)), 0.02, 0.98)
    return rng, text_QE, task_Q, chance_QA, (rng.random(chance_QA.shape) < chance_QA).astype(float)


def found(chosen_Q, utility_QA, predicted_QA, text_QE, task_Q):
    chosen_QA = np.eye(len(ARMS))[chosen_Q]
    prompts = [str(number) for number in range(len(task_Q))]
    return hidden_gain(utility_QA, predicted_QA, chosen_QA, text_QE, task_Q, prompts, ARMS)


def test_a_router_that_knows_all_that_the_text_tells_is_not_suspected():
    """Two-sided p of the best router there can be, over 60 draws: some 3 are below 5%."""
    p_values = []
    for seed in range(60):
        _, text_QE, task_Q, chance_QA, score_QA = drawn(seed)
        p_values.append(found(chance_QA.argmax(axis=1), score_QA, np.full_like(chance_QA, 0.5), text_QE, task_Q).p)
    assert min(p_values) > 1e-3
    assert np.mean(np.array(p_values) < 0.05) < 0.15


@pytest.mark.parametrize(("share", "gained"), [(0.2, 0.08), (1.0, 0.35)])
def test_choices_that_saw_outcomes_gain_more_than_the_text_tells(share, gained):
    rng, text_QE, task_Q, chance_QA, score_QA = drawn(1)
    seen_Q = rng.random(len(task_Q)) < share
    chosen_Q = np.where(seen_Q, score_QA.argmax(axis=1), chance_QA.argmax(axis=1))
    gain = found(chosen_Q, score_QA, chance_QA, text_QE, task_Q)
    assert gain.p < 1e-3
    # Of a query that was seen nearly always the best arm is right; of others some six in ten.
    assert gain.estimate == pytest.approx(gained, abs=0.05)


@given(st.integers(0, 1_000))
def test_levels_of_queries_and_of_tasks_and_repeated_prompts_tell_nothing(seed):
    rng, text_QE, task_Q, chance_QA, score_QA = drawn(seed, 80)
    chosen_Q = rng.integers(4, size=80)
    gain = found(chosen_Q, score_QA, chance_QA, text_QE, task_Q)
    raised_QA = score_QA + rng.normal(size=(80, 1)) + np.where(task_Q == "one", 3.0, 0.0)[:, None] * np.arange(4)
    again = found(chosen_Q, raised_QA, chance_QA, text_QE, task_Q)
    assert again.estimate == pytest.approx(gain.estimate, abs=1e-9)
    # An arm that is always taken follows nothing.
    assert found(np.zeros(80, dtype=int), score_QA, chance_QA, text_QE, task_Q).estimate == pytest.approx(0, abs=1e-9)


def test_outcomes_that_are_missing_and_tasks_of_one_query_are_no_error():
    rng, text_QE, task_Q, chance_QA, score_QA = drawn(3, 60)
    task_Q[0] = "alone"
    score_QA[rng.random(score_QA.shape) < 0.3] = np.nan
    score_QA[:, 0] = np.where(np.isnan(score_QA).all(axis=1), 1.0, score_QA[:, 0])
    chosen_Q = np.nan_to_num(score_QA, nan=-1).argmax(axis=1)
    assert np.isfinite(found(chosen_Q, score_QA, chance_QA, text_QE, task_Q).estimate)


def test_the_gain_over_each_task_is_held_against_its_best_arm_in_hindsight():
    utility_QA = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    task_Q = np.array(["a", "a", "a", "b", "b", "b"])
    best = over_each_task(utility_QA, np.eye(2)[[0, 0, 0, 1, 1, 1]], task_Q)
    assert best.estimate == 0
    assert over_each_task(utility_QA, np.eye(2)[[0, 0, 0, 1, 1, 0]], task_Q).estimate == pytest.approx(1 / 6)
