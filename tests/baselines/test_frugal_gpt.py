"""FrugalGPT: lists and thresholds that are the best there are, and the properties of all."""

from itertools import permutations
from sys import modules

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
    talking,
    with_answers,  # noqa: F401
    with_texts,
)
from test_baselines import cache, fitted, part, with_gaps, world  # noqa: F401

from recal_bench.errors import RecalBenchError
from recal_bench.experiments.bench import queries_of
from recal_bench.routers import Decisions
from recal_bench.toolbox.targets import in_fixed_order

NAME = "frugal-gpt"


@answering_properties
@pytest.mark.usefixtures("with_answers")
def test_property(holds) -> None:
    holds(NAME, {})


def test_the_dear_arm_is_called_where_the_cheap_answer_is_bad() -> None:
    outcomes = cheap_and_dear(honest)
    utility, calls = judged(NAME, outcomes)
    assert utility > judged("best-single", outcomes)[0] + 0.1
    assert 1.3 < calls < 1.5
    assert fitted(NAME, outcomes).arms.tolist() == [1, 2]


def test_answers_that_look_alike_are_told_apart_by_a_second_one() -> None:
    outcomes = cheap_and_dear(poker_faced)
    assert fitted(NAME, outcomes).arms.tolist() in ([0, 1, 2], [1, 0, 2])
    utility, calls = judged(NAME, outcomes)
    assert utility > judged("best-single", outcomes)[0] + 0.05
    assert 2.3 < calls < 2.5
    assert judged(NAME, outcomes, list_length=2)[0] == pytest.approx(judged("best-single", outcomes)[0])


def test_the_list_and_its_thresholds_are_the_best_there_are() -> None:
    outcomes = with_gaps(talking(90), 0.1)
    router, train = fitted(NAME, outcomes, steps=3), in_fixed_order(part(outcomes, "train"))
    own = modules[type(router).__module__]
    stakes = own.stakes_of(train)._replace(weight_Q=np.ones(len(train.queries.prompt)))
    rng = np.random.default_rng(0)
    for first, second in permutations(range(4), 2):
        score_QS = rng.normal(size=(len(train.queries.prompt), 2))
        value, third, thresholds = router._best_list(stakes, score_QS, first, second)
        tried = {}
        known_Q = ~np.isnan(stakes.utility_QA[:, [first, second]]).any(axis=1)
        edge_TS = np.quantile(score_QS[known_Q], (1 / 3, 2 / 3), axis=0)
        for arm in range(4):
            rows = known_Q & ~np.isnan(stakes.utility_QA[:, arm])
            utility_QA, price_QA, score_RS = stakes.utility_QA[rows], stakes.price_QA[rows], score_QS[rows]
            for low in (*edge_TS[:, 0], np.inf):
                for high in (-np.inf, *edge_TS[:, 1], np.inf) if arm not in (first, second) else (-np.inf,):
                    at_first_Q, at_second_Q = score_RS[:, 0] >= low, score_RS[:, 1] >= high
                    later_Q = np.where(at_second_Q, utility_QA[:, second], utility_QA[:, arm] - price_QA[:, second])
                    path_Q = np.where(at_first_Q, utility_QA[:, first], later_Q - price_QA[:, first])
                    trio = [first, second, arm]
                    gain = path_Q.mean() - utility_QA[:, trio].mean(axis=0).max()
                    worth = stakes.utility_A[trio].max() + rows.sum() / (rows.sum() + own.PRIOR_COUNT) * gain
                    tried[worth] = (arm, (low,) if high == -np.inf else (low, high))
        assert value == pytest.approx(max(tried))
        assert tried[max(tried)][1] == pytest.approx(tuple(thresholds))
        assert len(thresholds) == 1 or third == tried[max(tried)][0]


def test_arms_of_the_list_that_are_not_on_offer_are_skipped() -> None:
    outcomes = cheap_and_dear(poker_faced)
    router = fitted(NAME, outcomes)
    for missing in range(3):
        calls = calls_of(outcomes)
        calls.available_QA = calls.available_QA & (np.arange(3) != missing)
        arm_Q = router.route(queries_of(outcomes.of_split("test")), calls).arm_Q
        assert missing not in arm_Q
        # Without the second opinion the first arm's answer, unjudged, or the dear arm's.
        assert calls.paid_QA(Decisions(arm_Q)).any(axis=0).tolist() == [arm != missing for arm in range(3)]


def test_many_arms_few_queries_no_costs_and_chinese_answers() -> None:
    outcomes = many_arms()
    assert judged(NAME, outcomes)[0] > judged("best-single", outcomes)[0]


def test_texts_may_be_missing_here_and_there_but_not_everywhere() -> None:
    outcomes = with_texts(world(120), lambda row, arm, right: None if (row + arm) % 3 else honest(row, arm, right))
    judged(NAME, outcomes)
    with pytest.raises(RecalBenchError, match="the outcomes hold no texts: it needs the column response"):
        fitted(NAME, world(60))
