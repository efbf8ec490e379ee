"""UniRoute: arms known by their outcomes on clusters, also those that come later."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from literature_properties import properties
from test_baselines import (
    ARMS,
    USD,
    cache,  # noqa: F401
    calls_for,
    decided,
    fitted,
    part,
    utility,
    with_gaps,
    without_cost,
    world,
)

from recal_bench.errors import RecalBenchError
from recal_bench.experiments.bench import queries_of
from recal_bench.outcomes import Arm, Outcomes
from recal_bench.routers import Train, create, decide, settings_of

SMALL = {"clusters": 4, "shrinkage": 1.0}
"""Settings for a few hundred queries on three topics."""
EULER = 2
"""The arm that is the best one on a topic, and held out here."""
OTHERS = np.array([0, 1, 3])


def without_euler(outcomes: Outcomes, **chosen: Any) -> Any:
    return fitted("uniroute", outcomes.take_arms(OTHERS), **{**SMALL, **chosen})


def few(outcomes: Outcomes, rows: Sequence[int] | slice, arms: Sequence[int] = (EULER,)) -> Train:
    train = part(outcomes, "train")
    chosen = train.outcomes.take(np.arange(len(train.outcomes))[rows]).take_arms(np.array(arms))
    return Train(queries_of(chosen), chosen, train.objective)


def by_arm(router: Any, value_QA: np.ndarray) -> np.ndarray:
    """Predictions in the order of ARMS: adapted arms come last."""
    return value_QA[:, [router.arms.index(arm) for arm in ARMS]]


@properties
def test_uniroute_is_a_sound_router(holds: Any) -> None:
    holds("uniroute", SMALL)


@pytest.mark.parametrize("chosen", [{}, SMALL])
def test_it_beats_the_best_single_arm(chosen: dict[str, Any]) -> None:
    outcomes = world()
    best_single = utility(decided(fitted("best-single", outcomes), outcomes), outcomes)
    assert utility(decided(fitted("uniroute", outcomes, **chosen), outcomes), outcomes) > best_single + 0.15


def test_predictions_are_in_units_of_the_outcomes() -> None:
    outcomes = world()
    router = fitted("uniroute", with_gaps(outcomes, 0.3))
    score_QA, cost_QA = router.predict(queries_of(outcomes.of_split("test")))
    np.testing.assert_allclose(score_QA.mean(axis=0), [0.4, 0.4, 0.4, 0.6], atol=0.15)
    np.testing.assert_allclose(cost_QA.mean(axis=0), USD, rtol=0.25)


def test_features_computed_by_hand() -> None:
    router = create("uniroute", {"shrinkage": 1.0})
    value_QA = np.array([[1.0], [1.0], [np.nan], [0.0]])
    feature_KA = router._features(value_QA, np.array([0, 0, 1, 2]), np.array([[0.5], [0.3], [0.6]]))
    np.testing.assert_allclose(feature_KA, [[0.5 + (0.5 + 0.5) / 3], [0.3], [0.6 - 0.6 / 2]])


def test_costs_differ_by_cluster() -> None:
    outcomes = world(600)
    dear_Q = np.where(outcomes.task_Q == "law", 5.0, 1.0)
    outcomes = replace(outcomes, cost_QA=outcomes.cost_QA * dear_Q[:, None])
    test = outcomes.of_split("test")
    _, cost_QA = fitted("uniroute", outcomes, **SMALL).predict(queries_of(test))
    for task, times in (("law", 5.0), ("geo", 1.0)):
        np.testing.assert_allclose(cost_QA[test.task_Q == task].mean(axis=0), times * np.array(USD), rtol=0.3)


def test_an_arm_never_trained_on_is_routed_to_after_a_few_labelled_queries() -> None:
    outcomes = world(600)
    router = without_euler(outcomes)
    before = utility(OTHERS[decided(router, outcomes.take_arms(OTHERS))], outcomes)
    router.adapt([ARMS[EULER]], few(outcomes, slice(0, None, 10)))
    arm_Q = decided(router, outcomes)
    assert utility(arm_Q, outcomes) > before + 0.05
    assert set(outcomes.of_split("test").task_Q[arm_Q == EULER]) == {"math"}


def test_all_labels_tell_what_training_tells() -> None:
    outcomes = with_gaps(world(600), 0.2)
    router, queries = without_euler(outcomes), queries_of(outcomes.of_split("test"))
    known = router.predict(queries)
    router.adapt(ARMS, few(outcomes, slice(None)))
    adapted, trained = router.predict(queries), fitted("uniroute", outcomes, **SMALL).predict(queries)
    for kind, scale in enumerate((1.0, USD[EULER])):
        adapted_QA = by_arm(router, adapted[kind])
        np.testing.assert_array_equal(adapted_QA[:, OTHERS], known[kind])
        np.testing.assert_allclose(adapted_QA[:, EULER] / scale, trained[kind][:, EULER] / scale, atol=0.05)


def test_without_a_label_in_a_cluster_the_arms_mean_and_the_clusters_difficulty_stand_in() -> None:
    outcomes = world(600)
    # Law is hard for all the others; the new arm is right on half of the labelled queries, none of which is of law.
    hard_Q = outcomes.task_Q == "law"
    outcomes = replace(outcomes, score_QA=np.where(hard_Q[:, None], 0.0, outcomes.score_QA))
    train = part(outcomes, "train")
    rows = np.flatnonzero(train.outcomes.task_Q != "law")[:40]
    labelled = few(outcomes, rows)
    labelled.outcomes.score_QA[:] = (np.arange(40) % 4 < 2)[:, None]
    router = without_euler(outcomes)
    router.adapt([ARMS[EULER]], labelled)
    test = outcomes.of_split("test")
    score_QA = by_arm(router, router.predict(queries_of(test)).score_QA)
    assert score_QA[test.task_Q == "law", EULER].mean() < score_QA[test.task_Q == "geo", EULER].mean() - 0.2
    np.testing.assert_allclose(score_QA[test.task_Q == "geo", EULER].mean(), 0.5, atol=0.1)


def test_without_any_label_an_arm_comes_last() -> None:
    outcomes = world(300)
    labelled = few(outcomes, slice(0, 20))
    labelled.outcomes.score_QA[:] = labelled.outcomes.cost_QA[:] = np.nan
    for rows in (slice(0, 20), slice(0, 0)):
        router = without_euler(outcomes)
        router.adapt([ARMS[EULER]], few(outcomes, rows) if rows == slice(0, 0) else labelled)
        assert not (decided(router, outcomes) == EULER).any()


def test_a_few_lucky_labels_are_not_enough() -> None:
    outcomes = world(600)
    labelled = few(outcomes, slice(0, 3))
    labelled.outcomes.score_QA[:] = 1.0
    router = without_euler(outcomes, shrinkage=10.0)
    router.adapt([ARMS[EULER]], labelled)
    assert (decided(router, outcomes) == EULER).mean() < 0.2


def test_a_few_labels_tell_a_cost() -> None:
    outcomes = world(600)
    router = without_euler(outcomes)
    router.adapt([ARMS[EULER]], few(outcomes, slice(0, 200, 20)))
    _, cost_QA = router.predict(queries_of(outcomes.of_split("test")))
    np.testing.assert_allclose(by_arm(router, cost_QA).mean(axis=0), USD, rtol=0.3)


def test_adapting_works_without_costs_and_several_times() -> None:
    outcomes = without_cost(world(300))
    first, second = (fitted("uniroute", outcomes.take_arms(np.array([0, 3])), **SMALL) for _ in range(2))
    first.adapt(ARMS[1:3], few(outcomes, slice(0, 60), arms=(1, 2)))
    for arm in (2, 1):
        second.adapt([ARMS[arm]], few(outcomes, slice(0, 60), arms=(arm,)))
    assert first.arms == (ARMS[0], ARMS[3], ARMS[1], ARMS[2])
    assert second.arms == (ARMS[0], ARMS[3], ARMS[2], ARMS[1])
    assert np.isnan(second.predict(queries_of(outcomes.of_split("test"))).cost_QA).all()
    # The second new arm of two is compared with one known arm more: nearly the same.
    assert (decided(first, outcomes) == decided(second, outcomes)).mean() > 0.9


def test_the_order_of_labels_and_of_arms_on_offer_does_not_matter() -> None:
    outcomes, order_A = world(300), np.array([3, 1, 0, 2])
    chosen = []
    for rows in (np.arange(60), np.random.default_rng(0).permutation(60)):
        router = without_euler(outcomes)
        router.adapt([ARMS[EULER]], few(outcomes, rows))
        chosen.append(decided(router, outcomes))
        np.testing.assert_array_equal(order_A[decided(router, outcomes.take_arms(order_A))], chosen[-1])
    np.testing.assert_array_equal(chosen[0], chosen[1])


def test_an_adapted_router_can_be_kept(tmp_path: Any) -> None:
    outcomes = world(300)
    router = without_euler(outcomes)
    router.adapt([ARMS[EULER]], few(outcomes, slice(0, 60)))
    router.save(tmp_path)
    loaded = create("uniroute", settings_of(router))
    loaded.load(tmp_path)
    np.testing.assert_array_equal(decided(loaded, outcomes), decided(router, outcomes))
    loaded.adapt([ARMS[EULER]], few(outcomes, slice(0, None)))


def test_an_arm_nobody_told_it_about_is_refused() -> None:
    outcomes = world(90)
    router = without_euler(outcomes)
    with pytest.raises(RecalBenchError, match=r"uniroute knows nothing of euler\|direct"):
        decide(router, queries_of(outcomes.of_split("test")), calls_for(outcomes))
    with pytest.raises(RecalBenchError, match=r"knows nothing of arm nova\|direct"):
        router.adapt([Arm("nova", "direct")], few(outcomes, slice(0, 9)))


def test_it_follows_another_price_of_cost_than_it_was_fitted_at() -> None:
    outcomes = world()
    router = fitted("uniroute", outcomes, **SMALL)
    assert router.sweeps
    assert (decided(router, outcomes, alpha=1e4) == 0).all()
