"""Replies of the embedded pool: one at a time and in batches, and that their truth is the truth."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recal_bench.errors import RecalBenchError
from recal_bench.outcomes import Arm
from recal_bench.pools.strategies import STRATEGIES
from recal_bench.scoring import exact_match, extract_answer
from recal_bench.simulation import SimulatedPool, embedded_questions, models
from recal_bench.simulation.pool import MALFORMED, score_all

SIZES = (400, 60, 150)


@pytest.fixture(scope="module")
def questions():
    return embedded_questions(0, *SIZES)


@pytest.fixture(scope="module")
def batch(questions):
    replies = SimulatedPool(0).answer_all(questions)
    return replies, score_all(questions, replies)


def test_the_pool_has_six_models_under_four_strategies():
    assert tuple(STRATEGIES) == ("direct", "cot", "cod", "self_ask")
    assert len(models.ARMS) == 24
    assert [str(arm) for arm in models.ARMS] == sorted(str(arm) for arm in models.ARMS)
    assert sorted(price for price, _ in models.MODELS.values()) == [0.18, 0.20, 0.30, 0.80, 0.88, 1.20]


@settings(max_examples=40)
@given(data=st.data())
def test_a_reply_alone_equals_the_reply_in_a_batch(questions, batch, data):
    replies, score_QA = batch
    row = data.draw(st.integers(0, len(questions) - 1))
    arm = data.draw(st.integers(0, 23))
    reply = SimulatedPool(0).answer(questions[row], models.ARMS[arm])
    assert reply.text == replies.text(questions[row], row, arm)
    assert reply.prompt_tokens == replies.prompt_tokens_QA[row, arm]
    assert reply.completion_tokens == replies.completion_tokens_QA[row, arm]
    assert exact_match(extract_answer(reply.text), questions[row].gold) == score_QA[row, arm]


def test_scores_and_tokens_are_those_of_the_texts(questions, batch):
    replies, score_QA = batch
    for row in range(0, len(questions), 13):
        each = questions[row]
        for index, arm in enumerate(models.ARMS):
            text = replies.text(each, row, index)
            assert exact_match(extract_answer(text), each.gold) == score_QA[row, index]
            assert len(text.split()) == replies.completion_tokens_QA[row, index]
            prompt = STRATEGIES[arm.strategy].message(each.prompt)
            assert len(prompt.split()) == replies.prompt_tokens_QA[row, index]


def test_a_malformed_reply_holds_no_answer(questions, batch):
    replies, _ = batch
    rows, arms = np.nonzero(replies.said_QA == MALFORMED)
    assert len(rows) > 100
    for row, arm in list(zip(rows, arms, strict=True))[::50]:
        text = replies.text(questions[row], row, arm)
        assert extract_answer(text) == text
        assert "answer:" not in text.lower()


def test_every_reply_has_room_for_its_answer(batch):
    replies, _ = batch
    assert replies.completion_tokens_QA.min() >= 9


def test_the_order_of_queries_does_not_matter(questions, batch):
    some = questions[5:400:7]
    again = SimulatedPool(0).answer_all(some[::-1])
    assert np.array_equal(again.said_QA[::-1], batch[0].said_QA[5:400:7])
    assert np.array_equal(again.completion_tokens_QA[::-1], batch[0].completion_tokens_QA[5:400:7])


def test_another_seed_draws_other_replies(questions, batch):
    assert not np.array_equal(SimulatedPool(1).answer_all(questions).said_QA, batch[0].said_QA)


def test_an_unknown_arm_is_refused(questions):
    with pytest.raises(RecalBenchError, match=r"no arm ovanta-7b\|pal: it has brelune-70b\|cod"):
        SimulatedPool(0).answer(questions[0], Arm("ovanta-7b", "pal"))


def test_expected_scores_are_the_mean_of_realised_ones(questions, batch):
    """By task and arm, within five standard errors; and calibrated by bins over all cells together."""
    _, score_QA = batch
    expected_QA = models.expected_score(models.fitted_parameters(), models.features_of(questions))
    task_Q = np.array([each.task for each in questions])
    for task in np.unique(task_Q):
        rows = task_Q == task
        error_A = np.sqrt((expected_QA[rows] * (1 - expected_QA[rows])).sum(axis=0)) / rows.sum()
        z_A = (score_QA[rows] - expected_QA[rows]).mean(axis=0) / error_A
        assert np.abs(z_A).max() < 5
    for low in np.arange(0, 0.9, 0.1):
        cells = (expected_QA >= low) & (expected_QA < low + 0.1)
        # What a model knows of a fact is shared by its four arms: the cells are not independent.
        error = 2 * 5 * np.sqrt(0.25 / cells.sum())
        assert abs(score_QA[cells].mean() - expected_QA[cells].mean()) < error


def test_the_truth_is_exact_query_by_query():
    """One query and arm over many worlds' draws: the knowledge of a fact is redrawn with the world's seed."""
    questions = embedded_questions(0, 2, 1, 1)
    expected_QA = models.expected_score(models.fitted_parameters(), models.features_of(questions))
    tokens_QA = models.expected_tokens(models.fitted_parameters(), models.features_of(questions))
    n = 800
    score_QA, length_QA = np.zeros(expected_QA.shape), np.zeros(expected_QA.shape)
    for seed in range(n):
        replies = SimulatedPool(seed).answer_all(questions)
        score_QA += score_all(questions, replies) / n
        length_QA += replies.completion_tokens_QA / n
    z_QA = (score_QA - expected_QA) / np.sqrt(expected_QA * (1 - expected_QA) / n)
    assert np.abs(z_QA).max() < 5
    assert 0.9 < np.std(z_QA) < 1.1
    assert np.abs(length_QA / tokens_QA - 1).max() < 5 * 0.2 / np.sqrt(n)


def test_what_a_model_knows_is_one_draw_for_all_its_strategies(questions, batch):
    """Replies of a model's strategies agree more than those of two models do."""
    _, score_QA = batch
    rows = [row for row, each in enumerate(questions) if len(each.facts) == 1 and each.task != "nq"]
    correlation_AA = np.corrcoef(score_QA[rows].T)
    same, other = defaultdict(list), defaultdict(list)
    for one in range(24):
        for two in range(one):
            group = same if models.ARMS[one].model == models.ARMS[two].model else other
            group[one].append(correlation_AA[one, two])
    assert min(value for values in same.values() for value in values) > 0.5
    assert max(value for values in other.values() for value in values) < 0.5


def test_a_comparison_is_right_half_the_time_even_without_knowledge(questions):
    parameters = models.fitted_parameters()
    comparisons = [each for each in questions if each.comparison]
    expected_QA = models.expected_score(parameters, models.features_of(comparisons))
    floor_A = models.format_discipline() / 2
    assert (expected_QA >= floor_A).all()
    assert (expected_QA <= models.format_discipline()).all()
