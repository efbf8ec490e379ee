"""What every router from the literature must hold to, as functions of its name and settings for small worlds."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
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
    utility,
    with_gaps,
    without_cost,
    world,
)

from recal_bench.bench import queries_of
from recal_bench.errors import RecalBenchError
from recal_bench.outcomes import Arm, Outcomes
from recal_bench.routers import Queries, create, decide, settings_of

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


def the_order_of_rows_does_not_matter(name: str, chosen: dict[str, Any]) -> None:
    outcomes = with_gaps(world(150), 0.2)
    shuffled = outcomes.take(np.random.default_rng(1).permutation(len(outcomes)))
    by_query = []
    for each in (outcomes, shuffled):
        arm_Q = decided(fitted(name, each, **chosen), each)
        by_query.append(dict(zip(each.of_split("test").query_id_Q, arm_Q, strict=True)))
    assert by_query[0] == by_query[1]


def permuted_arms_permute_the_decisions(name: str, chosen: dict[str, Any]) -> None:
    outcomes, order_A = with_gaps(world(150), 0.1), np.array([2, 0, 3, 1])
    permuted = outcomes.take_arms(order_A)
    expected_Q = decided(fitted(name, outcomes, **chosen), outcomes)
    np.testing.assert_array_equal(order_A[decided(fitted(name, permuted, **chosen), permuted)], expected_Q)


def the_seed_decides_all_that_is_random(name: str, chosen: dict[str, Any]) -> None:
    outcomes = world(150)
    first, again, other = (fitted(name, outcomes, seed=seed, **chosen) for seed in (3, 3, 4))
    np.testing.assert_array_equal(decided(first, outcomes), decided(again, outcomes))
    if first.deterministic:
        np.testing.assert_array_equal(decided(first, outcomes), decided(other, outcomes))


def the_utility_is_optimised_not_the_score(name: str, chosen: dict[str, Any]) -> None:
    outcomes = constant(world(120), score_A=(0.75, 0.8, 0.1, 0.1), cost_A=(1e-4, 1e-3, 1e-4, 1e-4))
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
    outcomes = constant(world(60), score_A=0.5, cost_A=1e-4)
    assert utility(decided(fitted(name, outcomes, **chosen), outcomes), outcomes) == pytest.approx(0.5 - 0.2)


def arms_not_on_offer_are_never_chosen(name: str, chosen: dict[str, Any]) -> None:
    outcomes = with_gaps(world(240), 0.6)
    decided(fitted(name, outcomes, **chosen), outcomes)  # decide() raises otherwise


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


def what_is_in_test_changes_nothing(name: str, chosen: dict[str, Any]) -> None:
    outcomes = world(150)
    poisoned = of_all(outcomes, 9.0, ("test",), arm=0)
    np.testing.assert_array_equal(
        decided(fitted(name, poisoned, **chosen), outcomes), decided(fitted(name, outcomes, **chosen), outcomes)
    )


def one_arm_or_two_are_enough(name: str, chosen: dict[str, Any]) -> None:
    for arms in ([1], [0, 3]):
        outcomes = with_gaps(world(90).take_arms(np.array(arms)), 0.3)
        arm_Q = decided(fitted(name, outcomes, **chosen), outcomes)
        assert set(arm_Q) <= set(range(len(arms)))


def many_arms_and_few_queries_are_no_trouble(name: str, chosen: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    arms = tuple(Arm(f"m{number // 7}", f"s{number % 7}") for number in range(49))
    outcomes = world(120)
    score_QA = (rng.random((120, 49)) < np.linspace(0.1, 0.7, 49)).astype(float)
    many = replace(outcomes, arms=arms, score_QA=score_QA, cost_QA=np.full((120, 49), np.nan))
    assert (many.split_Q == "train").sum() == 81
    assert score_QA.mean(axis=0)[decided(fitted(name, many, **chosen), many)].mean() > score_QA.mean() + 0.1


def few_queries_are_no_trouble(name: str, chosen: dict[str, Any]) -> None:
    for queries in (18, 24):
        outcomes = world(queries)
        assert (outcomes.split_Q == "validation").sum() == 3
        decided(fitted(name, outcomes, **chosen), outcomes)


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


def a_loaded_router_decides_alike(name: str, chosen: dict[str, Any]) -> None:
    for outcomes in (with_gaps(world(150), 0.2), without_cost(world(90))):
        router = fitted(name, outcomes, **chosen)
        with TemporaryDirectory() as folder:
            router.save(Path(folder))
            assert {path.suffix for path in Path(folder).iterdir()} == {".npz"}
            loaded = create(name, settings_of(router))
            loaded.load(Path(folder))
        np.testing.assert_array_equal(decided(loaded, outcomes), decided(router, outcomes))
        if hasattr(router, "predict"):
            queries = queries_of(outcomes.of_split("test"))
            np.testing.assert_array_equal(np.stack(loaded.predict(queries)), np.stack(router.predict(queries)))


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
        for value in values:
            assert settings_of(create(name, {key: value}))[key] == value
        if not isinstance(values[0], str):
            with pytest.raises(RecalBenchError, match=f"router {name}, setting {key}=-1"):
                create(name, {key: -1})
    with pytest.raises(RecalBenchError, match=r"did you mean tfidf\?"):
        fitted(name, world(60), encoder="tf-idf")
    assert type(create(name)).__doc__.strip().partition("\n")[0].endswith(".")


PROPERTIES = (
    the_order_of_rows_does_not_matter,
    permuted_arms_permute_the_decisions,
    the_seed_decides_all_that_is_random,
    the_utility_is_optimised_not_the_score,
    arms_that_tie_share_a_label,
    where_nothing_differs_the_cheaper_arm_is_chosen,
    arms_not_on_offer_are_never_chosen,
    an_arm_without_any_train_outcome_comes_last,
    two_lucky_outcomes_are_not_enough,
    it_works_without_costs,
    an_unknown_cost_is_not_zero,
    what_is_in_test_changes_nothing,
    one_arm_or_two_are_enough,
    many_arms_and_few_queries_are_no_trouble,
    few_queries_are_no_trouble,
    scores_need_not_be_0_or_1,
    prompts_may_be_chinese_and_alike,
    nothing_to_route_is_no_trouble,
    a_loaded_router_decides_alike,
    train_without_any_outcome_is_refused,
    settings_are_checked,
)

properties = pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
