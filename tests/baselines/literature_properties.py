"""What every router from the literature must hold to, as functions of its name and settings for small worlds.

What holds for every router whatever, is in test_every_router.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_baselines import (
    ARMS,
    RIGHT,
    calls_for,
    constant,
    decided,
    fitted,
    objective_of,
    without_cost,
    world,
)

from recal_bench.errors import RecalBenchError
from recal_bench.experiments.bench import queries_of
from recal_bench.outcomes import Arm, Outcomes
from recal_bench.routers import Queries, create, decide

CHINESE = {
    "geo": "河流 山脉 岛屿 首都 边境 湖泊 山谷",
    "law": "法院 法规 条款 法官 判决 上诉 侵权",
    "math": "积分 素数 矩阵 向量 证明 引理 角度",
}


def with_prompts(outcomes: Outcomes, prompts: list[str]) -> Outcomes:
    return replace(outcomes, prompt_Q=np.array(prompts, dtype=object))


def worth(name: str, outcomes: Outcomes, **chosen: Any) -> float:
    """How often the arms that a router chooses in a `world` are right, by the true rates: no luck of the draw in it."""
    arm_Q = decided(fitted(name, outcomes, **chosen), outcomes)
    return float(np.mean([RIGHT[task][arm] for task, arm in zip(outcomes.of_split("test").task_Q, arm_Q, strict=True)]))


def of_all(outcomes: Outcomes, values: Any, splits: tuple[str, ...], arm: int) -> Outcomes:
    """The outcomes with other values (score and cost) of one arm in some splits."""
    there_QA = np.isin(outcomes.split_Q, splits)[:, None] & (np.arange(len(outcomes.arms)) == arm)
    return replace(
        outcomes,
        score_QA=np.where(there_QA, values, outcomes.score_QA),
        cost_QA=np.where(there_QA, values, outcomes.cost_QA),
    )


LEAST_GAP = {"routerdc": 0.1}
"""Where a router cannot be expected to tell arms apart that are .05 apart: a contrastive loss hardly feels it."""


def the_utility_is_optimised_not_the_score(name: str, chosen: dict[str, Any]) -> None:
    better = 0.75 + LEAST_GAP.get(name, 0.05)
    outcomes = constant(world(120), score_A=(0.75, better, 0.1, 0.1), cost_A=(1e-4, 1e-3, 1e-4, 1e-4))
    assert (decided(fitted(name, outcomes, alpha=0.2, **chosen), outcomes, alpha=0.2) == 0).all()
    assert (decided(fitted(name, outcomes, alpha=0.0, **chosen), outcomes, alpha=0.0) == 1).all()


def arms_that_tie_share_a_label(name: str, chosen: dict[str, Any]) -> None:
    # The first arm ties with the second on most queries and loses on the others: it must never be taken for the best.
    outcomes = without_cost(world(180))
    both_Q = np.arange(180) % 5 < 3
    score_QA = np.column_stack([both_Q, np.ones(180), np.zeros(180), np.zeros(180)]).astype(float)
    outcomes = replace(outcomes, score_QA=score_QA)
    assert (decided(fitted(name, outcomes, **chosen), outcomes) == 1).all()


def where_nothing_differs_the_cheaper_arm_is_chosen(name: str, chosen: dict[str, Any]) -> None:
    outcomes = without_cost(constant(world(60), score_A=0.5, cost_A=0.0))
    calls = replace(calls_for(outcomes), mean_cost_A=np.array([4.0, 3.0, 1.0, 2.0]))
    decisions = decide(fitted(name, outcomes, **chosen), queries_of(outcomes.of_split("test")), calls)
    assert (decisions.arm_Q == 2).all()


def an_arm_without_any_train_outcome_comes_last(name: str, chosen: dict[str, Any]) -> None:
    outcomes = of_all(world(150), np.nan, ("train", "validation"), arm=3)
    assert not (decided(fitted(name, outcomes, **chosen), outcomes) == 3).any()


def two_lucky_outcomes_are_not_enough(name: str, chosen: dict[str, Any]) -> None:
    outcomes = world(480)
    score_QA, cost_QA = outcomes.score_QA.copy(), outcomes.cost_QA.copy()
    rows = np.flatnonzero(outcomes.split_Q == "train")
    score_QA[rows[2:], 3] = cost_QA[rows[2:], 3] = np.nan
    score_QA[rows[:2]] = (0, 0, 0, 1)
    lucky = replace(outcomes, score_QA=score_QA, cost_QA=cost_QA)
    assert (decided(fitted(name, lucky, **chosen), lucky) == 3).mean() < 0.2


def it_works_without_costs(name: str, chosen: dict[str, Any]) -> None:
    outcomes = without_cost(world(300))
    assert worth(name, outcomes, **chosen) > worth("best-single", outcomes)


def an_unknown_cost_is_not_zero(name: str, chosen: dict[str, Any]) -> None:
    outcomes = world(90)
    outcomes = replace(outcomes, cost_QA=outcomes.cost_QA * np.array([np.nan, 1, 1, 1]))
    assert not objective_of(outcomes).has_cost
    free = without_cost(outcomes)
    np.testing.assert_array_equal(
        decided(fitted(name, outcomes, **chosen), outcomes), decided(fitted(name, free, **chosen), free)
    )


def many_arms_and_few_queries_are_no_trouble(name: str, chosen: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    arms = tuple(Arm(f"m{number // 7}", f"s{number % 7}") for number in range(49))
    outcomes = world(120)
    score_QA = (rng.random((120, 49)) < np.linspace(0.1, 0.7, 49)).astype(float)
    many = replace(outcomes, arms=arms, score_QA=score_QA, cost_QA=np.full((120, 49), np.nan))
    assert (many.split_Q == "train").sum() == 81
    assert score_QA.mean(axis=0)[decided(fitted(name, many, **chosen), many)].mean() > score_QA.mean() + 0.1


def scores_need_not_be_0_or_1(name: str, chosen: dict[str, Any]) -> None:
    outcomes = world(240)
    graded = replace(outcomes, score_QA=10 * outcomes.score_QA - 3 + np.linspace(0, 1, 240)[:, None])
    assert worth(name, graded, **chosen) > worth("best-single", graded)


def prompts_may_be_chinese_and_alike(name: str, chosen: dict[str, Any]) -> None:
    outcomes, rng = world(480), np.random.default_rng(0)
    prompts = ["".join(rng.choice(CHINESE[task].split(), size=4)) for task in outcomes.task_Q]
    chinese = with_prompts(outcomes, prompts)
    assert worth(name, chinese, **chosen) > worth("best-single", chinese)
    alike = with_prompts(outcomes, ["the same question"] * 480)
    assert len(set(decided(fitted(name, alike, **chosen), alike))) == 1


def nothing_to_route_is_no_trouble(name: str, chosen: dict[str, Any]) -> None:
    outcomes = world(60)
    calls = replace(calls_for(outcomes), available_QA=np.zeros((0, 4), dtype=bool))
    assert decide(fitted(name, outcomes, **chosen), Queries((), ()), calls).arm_Q.shape == (0,)


def train_without_any_outcome_is_refused(name: str, chosen: dict[str, Any]) -> None:
    outcomes = without_cost(world(60))
    for arm in range(len(ARMS)):
        outcomes = of_all(outcomes, np.nan, ("train",), arm)
    with pytest.raises(RecalBenchError, match="no arm has any outcome on train"):
        fitted(name, outcomes, **chosen)


def settings_are_checked(name: str, chosen: dict[str, Any]) -> None:
    space = create(name).space
    assert "encoder" in space
    for key, values in space.items():
        if not isinstance(values[0], str):
            with pytest.raises(RecalBenchError, match=f"router {name}, setting {key}=-1"):
                create(name, {key: -1})
    with pytest.raises(RecalBenchError, match=r"did you mean tfidf\?"):
        fitted(name, world(60), encoder="tf-idf")


PROPERTIES = (
    the_utility_is_optimised_not_the_score,
    arms_that_tie_share_a_label,
    where_nothing_differs_the_cheaper_arm_is_chosen,
    an_arm_without_any_train_outcome_comes_last,
    two_lucky_outcomes_are_not_enough,
    it_works_without_costs,
    an_unknown_cost_is_not_zero,
    many_arms_and_few_queries_are_no_trouble,
    scores_need_not_be_0_or_1,
    prompts_may_be_chinese_and_alike,
    nothing_to_route_is_no_trouble,
    train_without_any_outcome_is_refused,
    settings_are_checked,
)

properties = pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
