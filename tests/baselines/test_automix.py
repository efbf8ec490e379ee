"""AutoMix: when a large arm is called, at what price, and the properties of all."""

from dataclasses import replace

import numpy as np
import pytest
from answering import (
    answering_properties,
    calls_of,
    cheap_and_dear,
    honest,
    judged,
    many_arms,
    poker_faced,
    with_answers,  # noqa: F401
    with_texts,
)
from test_baselines import cache, fitted, part, world  # noqa: F401

from recal_bench.errors import RecalBenchError
from recal_bench.experiments.bench import queries_of
from recal_bench.toolbox.answers import agree

NAME = "automix"


@pytest.mark.parametrize("verifier", ["text", "second-opinion"])
@answering_properties
@pytest.mark.usefixtures("with_answers")
def test_property(holds, verifier: str) -> None:
    holds(NAME, {"verifier": verifier})


@pytest.mark.parametrize("policy", ["pomdp", "threshold"])
def test_the_large_arm_is_called_where_the_small_ones_answer_is_bad(policy: str) -> None:
    outcomes = cheap_and_dear(honest)
    utility, calls = judged(NAME, outcomes, policy=policy)
    assert utility > judged("best-single", outcomes)[0] + 0.1
    assert 1.3 < calls < 1.5


def test_a_second_opinion_is_paid_for_and_tells_answers_apart_that_look_alike() -> None:
    outcomes = cheap_and_dear(poker_faced)
    best_single = judged("best-single", outcomes)[0]
    assert judged(NAME, outcomes)[0] == pytest.approx(best_single)
    utility, calls = judged(NAME, outcomes, verifier="second-opinion")
    assert utility > best_single + 0.05
    assert 2.3 < calls < 2.5


def test_hopeless_queries_are_not_handed_on() -> None:
    # No text: no arm is right. Unsure: the cheap arms are seldom right, and the dear one always. Else all are.
    outcomes = cheap_and_dear(honest)
    kind_Q = np.arange(len(outcomes)) % 3
    lucky_Q = np.random.default_rng(0).random(len(outcomes)) < 0.4
    cheap_Q = np.where(kind_Q == 1, lucky_Q, kind_Q == 2)
    outcomes = replace(outcomes, score_QA=np.column_stack([cheap_Q, cheap_Q, kind_Q > 0]).astype(float))
    outcomes = with_texts(
        outcomes, lambda row, arm, right: None if kind_Q[row] == 0 else honest(row, arm, right=kind_Q[row] == 2)
    )
    kind_Q = kind_Q[outcomes.split_Q == "test"]
    called_large = {}
    for policy in ("pomdp", "threshold"):
        calls = calls_of(outcomes)
        arm_Q = fitted(NAME, outcomes, policy=policy).route(queries_of(outcomes.of_split("test")), calls).arm_Q
        called_large[policy] = [float((arm_Q == 2)[kind_Q == kind].mean().round(1)) for kind in range(3)]
    assert called_large == {"pomdp": [0.0, 1.0, 0.0], "threshold": [1.0, 1.0, 0.0]}


def test_a_level_is_worth_what_it_gained_on_train() -> None:
    # Two levels of ten queries: in one the large arm gains .5, in the other it loses .3; no cost, one task.
    outcomes = cheap_and_dear(honest, queries=30)
    train = part(outcomes, "train")
    score_QA = np.zeros((20, 3))
    score_QA[:10, 2], score_QA[10:, 1] = 0.5, 0.3
    few = replace(train.outcomes, score_QA=score_QA, cost_QA=np.full((20, 3), np.nan), task_Q=np.full(20, "one"))
    train = train._replace(outcomes=few, objective=replace(train.objective, cost_ref=None))
    router = fitted(NAME, outcomes, levels=2)
    confidence_Q = np.repeat([0.0, 1.0], 10)
    value_J, edges, calls_large_LJ = router._best_large(train, confidence_Q, np.array([0.1, 0.2, 0.3]), 1, (), [2])
    assert 0 < edges[0] <= 1
    # Mean gain .1 counts for 20 queries: 10 x .5 + 20 x .1 > 0, 10 x -.3 + 20 x .1 < 0.
    assert calls_large_LJ[:, 0].tolist() == [True, False]
    # On these queries the pair reaches .4 and the better arm .25; 20 queries earn half of the credit.
    assert value_J[0] == pytest.approx(0.3 + 0.5 * (0.4 - 0.25))


def test_the_small_arm_is_the_cheaper_or_else_the_weaker_one() -> None:
    outcomes = cheap_and_dear(honest)
    router, train = fitted(NAME, outcomes), part(outcomes, "train")
    assert router._by_size(train, np.array([0.9, 0.8, 0.1])) == [1, 0, 2]
    free = train._replace(objective=replace(train.objective, cost_ref=None))
    assert router._by_size(free, np.array([0.9, 0.8, 0.1])) == [2, 1, 0]


@pytest.mark.parametrize("verifier", ["text", "second-opinion"])
def test_arms_that_are_not_on_offer_are_done_without(verifier: str) -> None:
    outcomes = cheap_and_dear(honest)
    router = fitted(NAME, outcomes, verifier=verifier)
    assert len(router.calls_large_L)
    for missing in range(3):
        calls = calls_of(outcomes)
        calls.available_QA = calls.available_QA & (np.arange(3) != missing)
        assert missing not in router.route(queries_of(outcomes.of_split("test")), calls).arm_Q


def test_many_arms_few_queries_no_costs_and_chinese_answers() -> None:
    outcomes = many_arms()
    for verifier in ("text", "second-opinion"):
        assert judged(NAME, outcomes, verifier=verifier)[0] > judged("best-single", outcomes)[0]


def test_texts_may_be_missing_here_and_there_but_not_everywhere() -> None:
    outcomes = with_texts(world(120), lambda row, arm, right: None if (row + arm) % 3 else honest(row, arm, right))
    judged(NAME, outcomes)
    with pytest.raises(RecalBenchError, match="the outcomes hold no texts: it needs the column response"):
        fitted(NAME, world(60))


def test_one_answer_agrees_with_another_that_holds_it() -> None:
    assert agree("ad 1862", "1862")
    assert agree("1862", "1862")
    assert not agree("1862", "18623")
    assert not agree("", "")
