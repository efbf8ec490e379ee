"""Hybrid LLM: two arms and a threshold."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from literature_properties import properties
from test_baselines import ARMS, cache, calls_for, decided, fitted, utility, with_gaps, without_cost, world  # noqa: F401

from recal_bench.evaluation.metrics import macro_mean
from recal_bench.experiments.bench import queries_of
from recal_bench.outcomes import Outcomes
from recal_bench.routers import create, decide

SMALL = {"penalty": 1.0}
"""Settings for a few hundred queries."""


def maths() -> Any:
    return sys.modules[type(create("hybrid-llm")).__module__]


def easy_and_hard(queries: int = 600) -> Outcomes:
    """A cheap arm that is as good as the dear one on geo alone; a third one that is bad and dear."""
    outcomes, rng = world(queries).take_arms(np.array([0, 1, 3])), np.random.default_rng(1)
    right = {"geo": (0.8, 0.3, 0.8), "law": (0.2, 0.3, 0.9), "math": (0.1, 0.3, 0.9)}
    score_QA = rng.random((queries, 3)) < np.array([right[task] for task in outcomes.task_Q])
    cost_QA = np.array([1e-4, 1e-3, 1e-3]) * rng.uniform(0.5, 1.5, (queries, 3))
    return replace(outcomes, score_QA=score_QA.astype(float), cost_QA=cost_QA)


@properties
def test_hybrid_llm_is_a_sound_router(holds: Any) -> None:
    holds("hybrid-llm", SMALL)


@pytest.mark.parametrize("label", ["probabilistic", "transformed"])
@pytest.mark.parametrize("pair", ["hindsight", "extremes"])
def test_the_cheap_arm_gets_the_easy_queries(label: str, pair: str) -> None:
    outcomes = easy_and_hard()
    router = fitted("hybrid-llm", outcomes, label=label, pair=pair)
    arm_Q, test = decided(router, outcomes), outcomes.of_split("test")
    assert router.arms == (0, 2)
    assert (arm_Q[test.task_Q == "geo"] == 0).mean() > 0.9
    assert (arm_Q[test.task_Q != "geo"] == 2).mean() > 0.9
    assert utility(arm_Q, outcomes) > utility(decided(fitted("best-single", outcomes), outcomes), outcomes) + 0.04


def test_the_threshold_follows_the_price_of_cost() -> None:
    outcomes = easy_and_hard()
    shares = [
        (decided(fitted("hybrid-llm", outcomes, alpha=alpha, pair="extremes"), outcomes, alpha=alpha) == 0).mean()
        for alpha in (0.0, 0.2, 5.0)
    ]
    assert shares[0] < 0.35 < shares[2] == 1.0
    assert shares[0] <= shares[1] <= shares[2]


@pytest.mark.parametrize("pair", ["hindsight", "extremes"])
def test_the_pair_without_costs_is_one_of_scores(pair: str) -> None:
    assert fitted("hybrid-llm", without_cost(easy_and_hard()), pair=pair).arms == (0, 2)
    outcomes = without_cost(world(300))
    small, large = fitted("hybrid-llm", outcomes, pair=pair).arms
    score_A = outcomes.of_split("train").score_QA.mean(axis=0)
    assert score_A[small] <= score_A[large]
    if pair == "extremes":
        assert {small, large} == set(np.argsort(score_A)[-2:])


def test_where_the_pair_is_not_on_offer_the_next_best_arm_is_taken() -> None:
    outcomes = easy_and_hard(150)
    router, calls = fitted("hybrid-llm", outcomes), calls_for(outcomes)
    calls.available_QA[:, 2] = False
    assert (decide(router, queries_of(outcomes.of_split("test")), calls).arm_Q == 0).all()
    calls.available_QA[:, 0] = False
    assert (decide(router, queries_of(outcomes.of_split("test")), calls).arm_Q == 1).all()


def test_where_no_two_arms_share_a_query_the_best_one_answers() -> None:
    outcomes = world(300)
    alone_QA = np.arange(300)[:, None] // 3 % 4 == np.arange(4)
    outcomes = replace(
        outcomes,
        score_QA=np.where(alone_QA, outcomes.score_QA, np.nan),
        cost_QA=np.where(alone_QA, outcomes.cost_QA, np.nan),
    )
    small, large = fitted("hybrid-llm", outcomes).arms
    assert small == large


def test_values_of_pairs_computed_by_hand() -> None:
    utility_QA = np.array([[1.0, 0.0, np.nan], [0.0, 1.0, np.nan], [0.0, 0.5, np.nan]])
    task_Q = np.array(["one", "two", "two"], dtype=object)
    value_AA = maths().hindsight_values(utility_QA, task_Q, np.array([0.5, 0.4, 0.1]))
    # Task means of the better arm: 1 and 0.75, so 0.875 in hindsight; the arms alone reach 0.5 and 0.375.
    expected = 0.5 + 3 / (3 + 20) * (0.875 - 0.5)
    assert value_AA[0, 1] == value_AA[1, 0] == pytest.approx(expected)
    assert (value_AA[[0, 1, 2, 2, 2], [0, 1, 2, 0, 1]] == -np.inf).all()


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([-1, -1, -1, 0, 0, 1], 0.0),  # half of the labels are 1 already
        ([-0.9, -0.6, -0.4, -0.2], 0.4),  # none is, until those within 0.4 count
        ([-0.4, -0.4, -0.4], 0.0),  # nothing tells these apart
        ([0.3, 0.1, 0.0], 0.0),
        ([], 0.0),
    ],
)
def test_labels_are_relaxed_to_where_they_differ_most(gaps: list[float], expected: float) -> None:
    assert maths().relaxation(np.array(gaps, dtype=float)) == pytest.approx(expected)


def test_thresholds_computed_by_hand() -> None:
    threshold = maths().best_threshold
    task_Q = np.array(["one"] * 4, dtype=object)
    logit_Q = np.array([0.0, 3.0, 1.0, 2.0])
    small_QP = np.array([[0, 1], [1, 0], [0, 1], [1, 0]], dtype=float)
    assert threshold(logit_Q, small_QP, task_Q) == 1.5
    assert threshold(logit_Q, np.tile([1.0, 0.0], (4, 1)), task_Q) == -np.inf
    assert threshold(logit_Q, np.tile([0.0, 1.0], (4, 1)), task_Q) == np.inf
    assert threshold(logit_Q, np.ones((4, 2)), task_Q) == np.inf
    assert threshold(np.ones(4), np.array([[1, 0], [0, 3], [1, 0], [0, 0]], dtype=float), task_Q) == np.inf
    # Tasks count alike: one query of the second weighs as much as three of the first.
    tasks_Q = np.array(["one", "two", "one", "one"], dtype=object)
    assert threshold(np.array([4.0, 3.0, 2.0, 1.0]), np.array([[1, 0], [0, 1], [1, 0], [1, 0]]), tasks_Q) == 3.5


@given(st.lists(st.sampled_from([-1.0, -0.6, -0.3, 0.0, 0.5, 1.0]), min_size=1, max_size=12))
@settings(max_examples=30)
def test_no_other_relaxation_spreads_the_labels_more(gaps: list[float]) -> None:
    gap_Q = np.array(gaps)

    def spread(relaxed: float) -> float:
        label_Q = (gap_Q >= -relaxed - 1e-12).astype(float)
        return float(np.abs(label_Q[:, None] - label_Q).mean())

    found = maths().relaxation(gap_Q)
    assert all(spread(found) >= spread(other) - 1e-12 for other in np.linspace(0, 1, 21))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-2, 2), st.sampled_from("ab")), min_size=1, max_size=10))
@settings(max_examples=30)
def test_no_other_threshold_gains_more(rows: list[tuple[int, int, str]]) -> None:
    logit_Q, gain_Q = (np.array([row[column] for row in rows], dtype=float) for column in (0, 1))
    task_Q = np.array([row[2] for row in rows], dtype=object)

    def gained(threshold: float) -> float:
        return macro_mean(np.where(logit_Q >= threshold, gain_Q, 0.0), task_Q)

    found = maths().best_threshold(logit_Q, np.column_stack([gain_Q, np.zeros(len(rows))]), task_Q)
    for other in (-np.inf, 0.5, 1.5, 2.5, 3.5, np.inf):
        assert gained(found) >= gained(other) - 1e-12
        assert (
            gained(found) > gained(other) + 1e-12
            or found >= other
            or (logit_Q >= other).sum() == ((logit_Q >= found).sum())
        )


def test_only_the_pair_is_asked() -> None:
    outcomes = with_gaps(world(300), 0.05)
    router, calls = fitted("hybrid-llm", outcomes), calls_for(outcomes)
    calls.available_QA[:] = True
    arm_Q = decide(router, queries_of(outcomes.of_split("test")), calls).arm_Q
    assert set(arm_Q) <= set(router.arms)
    assert len(ARMS) == 4
