"""Worlds whose arms answer in words, for routers that read answers before they decide."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import literature_properties
import numpy as np
import pytest
from test_baselines import calls_for, fitted, objective_of, world

from recal_bench.evaluation.metrics import macro_mean
from recal_bench.experiments.bench import queries_of
from recal_bench.experiments.replay import cost_of_calls
from recal_bench.outcomes import Arm, Outcomes
from recal_bench.routers import Calls, Decisions, Reply, decide

Text = Callable[[int, int, bool], str | None]


def honest(row: int, arm: int, right: bool) -> str:
    """A wrong answer that says so: it marks none."""
    return f"Let me think.\nAnswer: item {row}" if right else "I am not sure about this one."


def poker_faced(row: int, arm: int, right: bool) -> str:
    """A wrong answer that looks like a right one, and is another one for every arm."""
    return f"Answer: {row:04d}{'r' if right else 'abcd'[arm]}"


def with_texts(outcomes: Outcomes, text: Text = honest) -> Outcomes:
    response_QA = np.full(outcomes.score_QA.shape, None, dtype=object)
    for (row, arm), score in np.ndenumerate(outcomes.score_QA):
        response_QA[row, arm] = text(row, arm, score > 0.5)
    return replace(outcomes, response_QA=response_QA)


def talking(queries: int = 300, seed: int = 0) -> Outcomes:
    return with_texts(world(queries, seed))


def cheap_and_dear(text: Text, queries: int = 600, seed: int = 0) -> Outcomes:
    """A cheap model that knows 6 of 10 answers, whatever its strategy, and a dear one that knows nearly all.

    The prompts tell nothing. So the best single arm is the dear one, unless the cheap one's answers tell something.
    """
    rng = np.random.default_rng(seed)
    outcomes = world(queries, seed)
    prompts = np.array([f"number {row}" for row in rng.permutation(queries)], dtype=object)
    knows_QA = rng.random((queries, 3))[:, [0, 0, 1]] < (0.6, 0.6, 0.95)
    arms = (Arm("cheap", "cot"), Arm("cheap", "direct"), Arm("dear", "direct"))
    cost_QA = np.tile((1.2e-5, 1e-5, 2e-4), (queries, 1))
    outcomes = replace(outcomes, prompt_Q=prompts, arms=arms, score_QA=knows_QA.astype(float), cost_QA=cost_QA)
    return with_texts(outcomes, text)


def calls_of(outcomes: Outcomes, alpha: float = 0.2) -> Calls:
    test = outcomes.of_split("test")

    def reply(row: int, arm: int) -> Reply:
        return Reply(None if test.response_QA is None else test.response_QA[row, arm], test.cost_QA[row, arm])

    return replace(calls_for(outcomes, alpha=alpha), replies=reply)


def decided(router: Any, outcomes: Outcomes, alpha: float = 0.2) -> np.ndarray:
    return decide(router, queries_of(outcomes.of_split("test")), calls_of(outcomes, alpha)).arm_Q


def judged(name: str, outcomes: Outcomes, **chosen: Any) -> tuple[float, float]:
    """Macro utility on test at the cost of all calls, and the number of calls a query."""
    test, calls = outcomes.of_split("test"), calls_of(outcomes)
    decisions: Decisions = decide(fitted(name, outcomes, **chosen), queries_of(test), calls)
    score_Q = test.score_QA[np.arange(len(test)), decisions.arm_Q]
    utility_Q = objective_of(outcomes).utility(score_Q, cost_of_calls(test, decisions, calls))
    return macro_mean(utility_Q, test.task_Q), float(calls.paid_QA(decisions).sum(axis=1).mean())


@pytest.fixture
def with_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worlds of the common properties, with texts, and arms that answer."""
    monkeypatch.setattr(literature_properties, "world", talking)
    monkeypatch.setattr(literature_properties, "calls_for", calls_of)
    monkeypatch.setattr(literature_properties, "decided", decided)


OF_PREDICTIONS_ALONE = ("many_arms_and_few_queries_are_no_trouble", "prompts_may_be_chinese_and_alike")
"""These make outcomes without texts of their own, or expect equal decisions on equal prompts."""

answering_properties = pytest.mark.parametrize(
    "holds",
    [each for each in literature_properties.PROPERTIES if each.__name__ not in OF_PREDICTIONS_ALONE],
    ids=lambda holds: holds.__name__,
)


def many_arms() -> Outcomes:
    """49 arms, 81 train queries, no costs, and answers in Chinese."""
    rng = np.random.default_rng(0)
    arms = tuple(Arm(f"m{number // 7}", f"s{number % 7}") for number in range(49))
    score_QA = (rng.random((120, 49)) < np.linspace(0.1, 0.7, 49)).astype(float)
    unknown_QA = np.full((120, 49), np.nan)
    prompts = np.array([f"第{row}个问题是什么" for row in range(120)], dtype=object)
    outcomes = replace(world(120), prompt_Q=prompts, arms=arms, score_QA=score_QA, cost_QA=unknown_QA)
    return with_texts(outcomes, lambda row, arm, right: f"答案是 {row}" if right else "我不知道")
