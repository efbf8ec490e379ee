"""The bandits, which see the outcome of one arm a query: LinUCB, Thompson sampling, PILOT."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_baselines
from literature_properties import PROPERTIES, many_arms_and_few_queries_are_no_trouble, with_prompts
from test_baselines import cache, decided, part, utility, with_gaps, without_cost, world  # noqa: F401

from recal_bench.experiments.bench import queries_of
from recal_bench.outcomes import Arm, Outcomes
from recal_bench.routers import Context, Feedback, create
from recal_bench.routers.interface import shown_to
from recal_bench.toolbox.bandits import Beliefs

BANDITS = ("linucb", "thompson", "pilot")
SMALL: dict[str, dict[str, Any]] = {
    "linucb": {"dimensions": 4, "exploration": 0.3},
    "thompson": {"dimensions": 4, "spread": 0.3},
    "pilot": {"dimensions": 3, "exploration": 1.0, "prior_weight": 1.0},
}
"""Settings for a few hundred queries."""


def fitted(name: str, outcomes: Outcomes, **chosen: Any) -> Any:
    """As the other tests fit, with settings for a few hundred queries."""
    return test_baselines.fitted(name, outcomes, **{**SMALL.get(name, {}), **chosen})


def one_logged(outcomes: Outcomes, seed: int = 0) -> Outcomes:
    """A log of single choices: of every query that is learnt from, the outcome of one arm, drawn at random."""
    drawn_Q = np.random.default_rng(seed).integers(len(outcomes.arms), size=len(outcomes))
    hidden_QA = (np.arange(len(outcomes.arms)) != drawn_Q[:, None]) & (outcomes.split_Q != "test")[:, None]
    return replace(
        outcomes,
        score_QA=np.where(hidden_QA, np.nan, outcomes.score_QA),
        cost_QA=np.where(hidden_QA, np.nan, outcomes.cost_QA),
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What is asked of the feedback, row by row."""
    calls, ask = [], Feedback.ask

    def remembered(self: Feedback, row: int, arm: int) -> Any:
        calls.append((row, arm))
        return ask(self, row, arm)

    monkeypatch.setattr(Feedback, "ask", remembered)
    return calls


@pytest.mark.parametrize("name", BANDITS)
@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
def test_bandits_are_sound_routers(name: str, holds: Any) -> None:
    if holds is not many_arms_and_few_queries_are_no_trouble:
        holds(name, SMALL[name])


@pytest.mark.parametrize("name", BANDITS)
@pytest.mark.parametrize(("queries", "above"), [(120, -0.1), (1500, 0.15)])
def test_many_arms_are_no_trouble_but_need_queries(name: str, queries: int, above: float) -> None:
    # Of 49 arms, 80 outcomes tell little.
    score_QA = (np.random.default_rng(0).random((queries, 49)) < np.linspace(0.1, 0.7, 49)).astype(float)
    arms = tuple(Arm(f"m{number // 7}", f"s{number % 7}") for number in range(49))
    outcomes = replace(world(queries), arms=arms, score_QA=score_QA, cost_QA=np.full(score_QA.shape, np.nan))
    chosen_Q = decided(fitted(name, outcomes), outcomes)
    assert np.linspace(0.1, 0.7, 49)[chosen_Q].mean() > 0.4 + above


@pytest.mark.parametrize("name", BANDITS)
@pytest.mark.parametrize("log_of_choices", [False, True])
def test_they_beat_the_best_single_arm_on_one_outcome_a_query(name: str, log_of_choices: bool) -> None:
    complete = world(1500)
    outcomes = one_logged(complete) if log_of_choices else complete
    best_single = utility(decided(fitted("best-single", complete), complete), complete)
    assert utility(decided(fitted(name, outcomes), complete), complete) > best_single + 0.1


@pytest.mark.parametrize("name", BANDITS)
def test_every_query_is_asked_once_and_only_what_is_there(name: str, asked: list[tuple[int, int]]) -> None:
    outcomes = with_gaps(world(240), 0.5)
    fitted(name, outcomes)
    rows = [row for row, _ in asked]
    assert sorted(rows) == list(range((outcomes.split_Q == "train").sum()))
    assert rows != sorted(rows), "in an order that the seed draws"


@pytest.mark.parametrize("name", BANDITS)
def test_validation_is_not_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = world(120)
    router, validation = create(name), part(outcomes, "validation")
    shown = shown_to(router, validation)
    monkeypatch.setattr(shown.feedback, "ask", None)
    router.fit(shown_to(router, part(outcomes, "train")), shown, Context(0, "cpu", Path(), lambda line: None))
    assert router.predict(queries_of(outcomes.of_split("test"))).score_QA.shape == (18, 4)


@pytest.mark.parametrize("name", BANDITS)
def test_neither_origin_nor_unit_of_the_scores_matters(name: str, asked: list[tuple[int, int]]) -> None:
    outcomes = without_cost(world(300))
    other = replace(outcomes, score_QA=8 * outcomes.score_QA - 3)
    first = fitted(name, outcomes).predict(queries_of(outcomes.of_split("test"))).score_QA
    before = list(asked)
    asked.clear()
    again = fitted(name, other).predict(queries_of(outcomes.of_split("test"))).score_QA
    assert asked == before
    np.testing.assert_allclose(again, 8 * first - 3, atol=1e-8)


@pytest.mark.parametrize("name", BANDITS)
def test_the_log_sums_up_all_that_was_asked(name: str) -> None:
    outcomes, lines = world(600), []
    fitted(name, outcomes, log=lines)
    steps = [line["step"] for line in lines]
    assert steps == sorted(set(steps))
    assert steps[-1] == (outcomes.split_Q == "train").sum()
    assert 15 < len(lines) <= 21
    assert all(0 <= line["explored"] <= 1 and -0.5 < line["train_utility"] < 1 for line in lines)


@pytest.mark.parametrize(
    ("name", "setting"), [("linucb", "exploration"), ("thompson", "spread"), ("pilot", "exploration")]
)
def test_more_exploration_asks_more_often_what_is_not_thought_best(name: str, setting: str) -> None:
    explored = []
    for value in (0.0, 1.0, 5.0):
        lines: list[dict[str, float]] = []
        fitted(name, world(600), log=lines, **{setting: value})
        explored.append(np.mean([line["explored"] for line in lines[1:]]))
    assert explored[0] == 0.0
    assert explored[0] < explored[1] < explored[2]


# The maths


def test_beliefs_are_ridge_regressions_on_what_was_seen() -> None:
    rng = np.random.default_rng(0)
    input_NF, value_NV, arm_N = rng.normal(size=(40, 3)), rng.normal(2.0, 1.0, (40, 2)), rng.integers(2, size=40)
    beliefs = Beliefs(np.zeros((3, 3, 2)), penalty=2.0)
    for row in range(40):
        beliefs.learn(arm_N[row], input_NF[row], value_NV[row])
    assert beliefs.spread == pytest.approx(value_NV[:, 0].std())
    input_F = rng.normal(size=3)
    expected_A, width_A = beliefs.of(input_F)
    for arm in range(3):
        own_NF, excess_NV = input_NF[arm_N == arm], (value_NV - value_NV.mean(axis=0))[arm_N == arm]
        inverse_FF = np.linalg.inv(own_NF.T @ own_NF + 2.0 * np.eye(3))
        weight_FV = inverse_FF @ own_NF.T @ excess_NV
        np.testing.assert_allclose(beliefs.weight_AFV[arm], weight_FV, atol=1e-12)
        assert expected_A[arm] == pytest.approx(input_F @ weight_FV[:, 0])
        assert width_A[arm] == pytest.approx(np.sqrt(input_F @ inverse_FF @ input_F))
    assert width_A[2] == pytest.approx(np.linalg.norm(input_F) / np.sqrt(2.0)), "an arm never seen: the prior"


def test_on_one_prompt_an_arm_is_worth_its_shrunk_mean(asked: list[tuple[int, int]]) -> None:
    # All that is left of the inputs is the constant, so that a regression is n / (n + penalty) of the mean's excess.
    outcomes = with_prompts(without_cost(world(180)), ["the same question"] * 180)
    router = fitted("linucb", outcomes, penalty=3.0)
    score_A = router.predict(queries_of(outcomes.of_split("test"))).score_QA[0]
    order = sorted(range(120), key=lambda row: part(outcomes, "train").queries.query_id[row])
    seen_QA = outcomes.of_split("train").score_QA[order]
    rows, arms = np.array(asked).T
    seen_N = seen_QA[rows, arms]
    for arm in range(4):
        excess_N = seen_N[arms == arm] - seen_N.mean()
        assert score_A[arm] == pytest.approx(seen_N.mean() + excess_N.sum() / (len(excess_N) + 3.0))


def test_thompson_asks_an_arm_as_often_as_it_may_be_the_best(asked: list[tuple[int, int]]) -> None:
    # Two arms alike and one far behind: the last is asked a few times, the others for good.
    outcomes = without_cost(world(900)).take_arms(np.array([0, 1, 2]))
    score_QA = np.tile([0.6, 0.6, 0.1], (900, 1)) + np.random.default_rng(0).normal(0, 0.1, (900, 3))
    outcomes = with_prompts(replace(outcomes, score_QA=score_QA), ["the same question"] * 900)
    fitted("thompson", outcomes, spread=1.0)
    count_A = np.bincount([arm for _, arm in asked], minlength=3)
    assert count_A[2] < 30
    assert count_A[:2].min() > 60


def test_pilot_asks_its_share_at_random(asked: list[tuple[int, int]]) -> None:
    fitted("pilot", world(1800), prior_share=0.5)
    count_A = np.bincount([arm for _, arm in asked[:600]], minlength=4)
    np.testing.assert_allclose(count_A, 150, atol=40)


def test_pilot_holds_to_a_prior_of_great_weight_and_leaves_one_of_little() -> None:
    outcomes = world(600)
    queries = queries_of(outcomes.of_split("test"))
    alone = fitted("pilot", outcomes, prior_share=0.3, prior_weight=1e9)
    again = fitted("pilot", outcomes, prior_share=0.3, prior_weight=1e9, exploration=3.0)
    np.testing.assert_allclose(alone.predict(queries).score_QA, again.predict(queries).score_QA, atol=1e-5)
    little = fitted("pilot", outcomes, prior_share=0.3, prior_weight=1.0)
    assert np.abs(little.predict(queries).score_QA - alone.predict(queries).score_QA).mean() > 0.03


def test_pilot_regresses_every_arm_on_its_own_rows() -> None:
    regress = sys.modules[type(create("pilot")).__module__].regress
    input_NF, arm_N = np.array([[1.0], [2.0], [3.0]]), np.array([0, 0, 2])
    weight_AFV = regress(input_NF, arm_N, np.array([[1.0], [2.0], [6.0]]), 3, penalty=1.0)
    # (1 * 1 + 2 * 2) / (1 + 4 + 1), nothing, 3 * 6 / (9 + 1)
    np.testing.assert_allclose(weight_AFV[:, 0, 0], [5 / 6, 0.0, 1.8])
