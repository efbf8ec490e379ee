"""Cascade routing: expected best answers, when a call is worth its price, and the properties of all."""

from pathlib import Path
from sys import modules

import numpy as np
import pytest
from answering import (
    answering_properties,
    calls_of,
    cheap_and_dear,
    decided,
    honest,
    judged,
    many_arms,
    poker_faced,
    talking,
    with_answers,  # noqa: F401
    with_texts,
)
from literature_properties import properties
from test_baselines import cache, fitted, world  # noqa: F401

from recal_bench.experiments.bench import queries_of
from recal_bench.routers import create

NAME = "cascade-routing"
SMALL = {"penalty": 5.0}
"""For a few hundred queries; the default is for thousands."""


@properties
def test_property_without_texts(holds) -> None:
    holds(NAME, SMALL)


@answering_properties
@pytest.mark.usefixtures("with_answers")
def test_property(holds) -> None:
    holds(NAME, SMALL | {"max_depth": 3})


@pytest.mark.parametrize("max_depth", [2, 3])
def test_another_arm_is_called_where_the_first_answer_is_bad(max_depth: int) -> None:
    outcomes = cheap_and_dear(honest)
    utility, calls = judged(NAME, outcomes, max_depth=max_depth)
    assert utility > judged("best-single", outcomes)[0] + 0.1
    assert 1.3 < calls < 1.5


def test_a_second_answer_is_called_for_to_tell_whether_the_first_is_right() -> None:
    outcomes = cheap_and_dear(poker_faced)
    utility, calls = judged(NAME, outcomes, max_depth=3)
    assert utility > judged("best-single", outcomes)[0] + 0.05
    assert 2.3 < calls < 2.5


def test_it_routes_by_the_query_and_cascades_by_the_answer() -> None:
    outcomes = talking(600)
    routed, one_call = judged(NAME, outcomes, **SMALL, max_depth=1)
    utility, calls = judged(NAME, outcomes, **SMALL)
    assert one_call == 1
    assert routed > judged("best-single", outcomes)[0] + 0.1
    assert utility > routed + 0.02
    assert calls > 1.02


def test_without_texts_it_routes_and_calls_nothing() -> None:
    outcomes = world(150)
    router, calls = fitted(NAME, outcomes, **SMALL), calls_of(outcomes)
    decisions = router.route(queries_of(outcomes.of_split("test")), calls)
    assert calls.paid_QA(decisions).sum(axis=1).tolist() == [1] * len(decisions.arm_Q)
    np.testing.assert_array_equal(decisions.arm_Q, decided(fitted(NAME, talking(150), **SMALL, max_depth=1), outcomes))


def test_fewer_calls_at_a_higher_price() -> None:
    outcomes = cheap_and_dear(honest)
    router, paid = fitted(NAME, outcomes), []
    for alpha in (0.0, 0.2, 10.0, 10_000.0):
        calls = calls_of(outcomes, alpha)
        paid.append(calls.paid_QA(router.route(queries_of(outcomes.of_split("test")), calls)).sum())
    assert paid == sorted(paid, reverse=True)
    assert paid[-1] == len(outcomes.of_split("test"))


def test_an_arm_outside_the_pool_may_be_called_alone() -> None:
    outcomes = talking(600)
    router = fitted(NAME, outcomes, **SMALL, pool=2)
    assert len(router.pool_K) == 2
    assert len(set(decided(router, outcomes))) > 2
    assert (router.pool_K == np.sort(router.pool_K)).all()


def test_the_expected_best_of_normal_variables() -> None:
    own = modules[type(fitted(NAME, world(30))).__module__]
    # Two independent standard normal ones: 1 / sqrt(pi). Equal ones, or one known to be better: the better mean.
    assert own.expected_best(np.zeros((1, 1, 2)), np.eye(2)[None])[0, 0] == pytest.approx(np.pi**-0.5)
    assert own.expected_best(np.zeros((1, 1, 2)), np.ones((1, 2, 2)))[0, 0] == pytest.approx(0, abs=1e-9)
    assert own.expected_best(np.array([[[0.2, 0.7]]]), np.zeros((1, 2, 2)))[0, 0] == pytest.approx(0.7)
    rng = np.random.default_rng(0)
    for _ in range(5):
        root, mean = np.eye(3) + 0.4 * rng.normal(size=(3, 3)), rng.normal(size=3)
        drawn = rng.multivariate_normal(mean, root @ root.T, size=100_000).max(axis=1).mean()
        assert own.expected_best(mean[None, None], (root @ root.T)[None])[0, 0] == pytest.approx(drawn, abs=0.02)


def test_many_arms_few_queries_no_costs_and_chinese_answers() -> None:
    outcomes = many_arms()
    assert judged(NAME, outcomes)[0] > judged("best-single", outcomes)[0]


def test_texts_may_be_missing_here_and_there() -> None:
    outcomes = with_texts(world(120), lambda row, arm, right: None if (row + arm) % 3 else honest(row, arm, right))
    judged(NAME, outcomes)


def test_what_was_fitted_without_texts_can_be_kept(tmp_path: Path) -> None:
    outcomes = world(90)
    router, loaded = fitted(NAME, outcomes, **SMALL), create(NAME, SMALL)
    router.save(tmp_path)
    loaded.load(tmp_path)
    np.testing.assert_array_equal(decided(loaded, outcomes), decided(router, outcomes))
