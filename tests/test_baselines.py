"""The shipped baselines, all through the interface that a user's own router has."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recal_bench.bench import load_bench, queries_of
from recal_bench.errors import RecalBenchError
from recal_bench.evaluation import references
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.folders import shipped
from recal_bench.objective import Objective, mean_over_observed
from recal_bench.outcomes import Arm, Outcomes
from recal_bench.routers import (
    Calls,
    Context,
    Decisions,
    Predicts,
    Queries,
    Train,
    create,
    decide,
    load_folder,
    settings_of,
)

load_folder(shipped("baselines"))

PLAIN = ("random", "cheapest", "dearest", "best-single")
PREDICTING = ("knn", "ridge", "mlp", "gradient-boosting")
LEARNING = (*PREDICTING, "logistic", "svm")
STOPPED_ON_VALIDATION = ("mlp", "gradient-boosting")
SMALL = {
    "knn": {"k": 20},
    "ridge": {"penalty": 5.0},
    "gradient-boosting": {"iterations": 15, "learning_rate": 0.2, "components": 8},
}
"""Settings for a few hundred queries; the defaults are for thousands."""

TOPICS = {
    "geo": "river mountain island capital border lake valley",
    "law": "court statute clause judge verdict appeal tort",
    "math": "integral prime matrix vector proof lemma angle",
}
ARMS = tuple(Arm(model, "direct") for model in ("atlas", "codex", "euler", "omni"))
RIGHT = {"geo": (0.9, 0.1, 0.2, 0.6), "law": (0.2, 0.9, 0.1, 0.6), "math": (0.1, 0.2, 0.9, 0.6)}
"""How often each arm is right on a topic: three specialists, and one that is never the best."""
USD = (1e-4, 2e-4, 3e-4, 4e-4)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECAL_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def world(queries: int = 300, seed: int = 0) -> Outcomes:
    """Queries whose words decide which arm is right; 2 of 3 to train, the others to validation and test."""
    rng = np.random.default_rng(seed)
    task_Q = np.array([list(TOPICS)[row % 3] for row in range(queries)], dtype=object)
    prompt_Q = np.array(
        [f"number {row}: " + " ".join(rng.choice(TOPICS[task].split(), size=4)) for row, task in enumerate(task_Q)],
        dtype=object,
    )
    return Outcomes(
        task_Q=task_Q,
        query_id_Q=np.array([f"q{row:04d}" for row in range(queries)], dtype=object),
        prompt_Q=prompt_Q,
        split_Q=np.array(
            [("train", "train", "validation", "train", "train", "test")[row // 3 % 6] for row in range(queries)],
            dtype=object,
        ),
        arms=ARMS,
        score_QA=(rng.random((queries, 4)) < np.array([RIGHT[task] for task in task_Q])).astype(float),
        cost_QA=np.array(USD) * rng.uniform(0.5, 1.5, size=(queries, 4)),
        name="world",
        data_hash="0",
    )


def objective_of(outcomes: Outcomes, alpha: float = 0.2) -> Objective:
    train = outcomes.of_split("train")
    return Objective.from_train(train.score_QA, train.cost_QA, alpha)


def part(outcomes: Outcomes, split: str, alpha: float = 0.2) -> Train:
    chosen = outcomes.of_split(split)
    return Train(queries_of(chosen), chosen, objective_of(outcomes, alpha))


def calls_for(outcomes: Outcomes, split: str = "test", alpha: float = 0.2) -> Calls:
    mean_cost_A = mean_over_observed(outcomes.of_split("train").cost_QA)
    return Calls(outcomes.arms, objective_of(outcomes, alpha), outcomes.of_split(split).observed_QA, mean_cost_A)


def fitted(name: str, outcomes: Outcomes, alpha: float = 0.2, seed: int = 0, **chosen: Any) -> Any:
    router = create(name, {**SMALL.get(name, {}), **chosen})
    context = Context(seed, "cpu", Path(), lambda line: None)
    router.fit(part(outcomes, "train", alpha), part(outcomes, "validation", alpha), context)
    return router


def decided(router: Any, outcomes: Outcomes, alpha: float = 0.2) -> np.ndarray:
    return decide(router, queries_of(outcomes.of_split("test")), calls_for(outcomes, alpha=alpha)).arm_Q


def utility(arm_Q: np.ndarray, outcomes: Outcomes) -> float:
    test = outcomes.of_split("test")
    utility_QA = objective_of(outcomes).utility(test.score_QA, test.cost_QA)
    return macro_mean(utility_QA[np.arange(len(arm_Q)), arm_Q], test.task_Q)


def with_gaps(outcomes: Outcomes, share: float, seed: int = 0) -> Outcomes:
    """A share of the outcomes is missing, but never all of a query."""
    rng = np.random.default_rng(seed)
    gone_QA = rng.random(outcomes.score_QA.shape) < share
    gone_QA[np.arange(len(outcomes)), rng.integers(len(outcomes.arms), size=len(outcomes))] = False
    return replace(
        outcomes,
        score_QA=np.where(gone_QA, np.nan, outcomes.score_QA),
        cost_QA=np.where(gone_QA, np.nan, outcomes.cost_QA),
    )


def without_cost(outcomes: Outcomes) -> Outcomes:
    return replace(outcomes, cost_QA=np.full_like(outcomes.cost_QA, np.nan))


def constant(outcomes: Outcomes, score_A: Any, cost_A: Any) -> Outcomes:
    """Every query gives every arm the same score and cost."""
    shape = outcomes.score_QA.shape
    return replace(
        outcomes,
        score_QA=np.broadcast_to(np.asarray(score_A, dtype=float), shape),
        cost_QA=np.broadcast_to(np.asarray(cost_A, dtype=float), shape),
    )


# What they learn


@pytest.mark.parametrize("name", LEARNING)
def test_what_learns_from_the_text_beats_the_best_single_arm(name: str) -> None:
    outcomes = world()
    best_single = utility(decided(fitted("best-single", outcomes), outcomes), outcomes)
    assert utility(decided(fitted(name, outcomes), outcomes), outcomes) > best_single + 0.15


@pytest.mark.parametrize("name", LEARNING)
def test_and_still_does_where_half_of_the_outcomes_are_missing(name: str) -> None:
    outcomes, complete = with_gaps(world(600), 0.5), world(600)
    best_single = utility(decided(fitted("best-single", outcomes), complete), complete)
    assert utility(decided(fitted(name, outcomes), complete), complete) > best_single + 0.1


@pytest.mark.parametrize("name", ["best-single", *LEARNING])
def test_the_utility_is_optimised_not_the_score(name: str) -> None:
    outcomes = constant(world(120), score_A=(0.75, 0.8, 0.1, 0.1), cost_A=(1e-4, 1e-3, 1e-4, 1e-4))
    assert (decided(fitted(name, outcomes, alpha=0.2), outcomes, alpha=0.2) == 0).all()
    assert (decided(fitted(name, outcomes, alpha=0.0), outcomes, alpha=0.0) == 1).all()


@pytest.mark.parametrize("name", ["best-single", *LEARNING])
def test_arms_that_tie_share_a_label(name: str) -> None:
    # The first arm ties with the second on most queries and loses on the others: it must never be taken for the best.
    outcomes = without_cost(world(180))
    both_Q = np.arange(180) % 5 < 3
    score_QA = np.column_stack([both_Q, np.ones(180), np.zeros(180), np.zeros(180)]).astype(float)
    outcomes = replace(outcomes, score_QA=score_QA)
    assert (decided(fitted(name, outcomes), outcomes) == 1).all()


@pytest.mark.parametrize("name", ["best-single", *LEARNING])
def test_where_all_arms_are_alike_the_cheaper_one_is_chosen(name: str) -> None:
    outcomes = without_cost(constant(world(60), score_A=0.5, cost_A=0.0))
    calls = replace(calls_for(outcomes), mean_cost_A=np.array([4.0, 3.0, 1.0, 2.0]))
    decisions = decide(fitted(name, outcomes), queries_of(outcomes.of_split("test")), calls)
    assert (decisions.arm_Q == 2).all()


@pytest.mark.parametrize("name", [*PLAIN, *LEARNING])
def test_where_nothing_matters_nobody_is_better_than_random(name: str) -> None:
    outcomes = constant(world(60), score_A=0.5, cost_A=1e-4)
    assert utility(decided(fitted(name, outcomes), outcomes), outcomes) == pytest.approx(0.5 - 0.2)


# Order, seeds, and what they may not see


@pytest.mark.parametrize("name", [*PLAIN, *LEARNING])
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    outcomes = world(150)
    shuffled = outcomes.take(np.random.default_rng(1).permutation(len(outcomes)))
    by_query = []
    for each in (outcomes, shuffled):
        arm_Q = decided(fitted(name, each), each)
        by_query.append(dict(zip(each.of_split("test").query_id_Q, arm_Q, strict=True)))
    assert by_query[0] == by_query[1]


@pytest.mark.parametrize("name", ["cheapest", "dearest", "best-single", *LEARNING])
def test_permuted_arms_permute_the_decisions(name: str) -> None:
    outcomes, order_A = with_gaps(world(150), 0.1), np.array([2, 0, 3, 1])
    permuted = outcomes.take_arms(order_A)
    expected_Q = decided(fitted(name, outcomes), outcomes)
    np.testing.assert_array_equal(order_A[decided(fitted(name, permuted), permuted)], expected_Q)


@pytest.mark.parametrize("name", [*PLAIN, *LEARNING])
def test_the_same_seed_gives_the_same_decisions(name: str) -> None:
    outcomes = world(150)
    first, again = fitted(name, outcomes, seed=3), fitted(name, outcomes, seed=3)
    np.testing.assert_array_equal(decided(first, outcomes), decided(again, outcomes))
    if first.deterministic:
        np.testing.assert_array_equal(decided(first, outcomes), decided(fitted(name, outcomes, seed=4), outcomes))


@pytest.mark.parametrize("name", [each for each in (*PLAIN, *LEARNING) if each not in STOPPED_ON_VALIDATION])
def test_poisoned_validation_outcomes_change_nothing(name: str) -> None:
    outcomes = world(150)
    poisoned_Q = outcomes.split_Q == "validation"
    poisoned = replace(outcomes, score_QA=np.where(poisoned_Q[:, None], (0, 0, 0, 9), outcomes.score_QA))
    np.testing.assert_array_equal(decided(fitted(name, poisoned), outcomes), decided(fitted(name, outcomes), outcomes))


@pytest.mark.parametrize("name", STOPPED_ON_VALIDATION)
def test_what_stops_on_validation_needs_one(name: str) -> None:
    outcomes = world(60)
    outcomes = outcomes.take(outcomes.split_Q != "validation")
    with pytest.raises(RecalBenchError, match="needs outcomes in the split validation"):
        fitted(name, outcomes)


def test_the_mlp_logs_its_epochs() -> None:
    outcomes, lines = world(60), []
    context = Context(0, "cpu", Path(), lines.append)
    create("mlp", {"epochs": 3}).fit(part(outcomes, "train"), part(outcomes, "validation"), context)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(line["train_error"] > 0 and line["validation_error"] > 0 for line in lines)


def test_random_is_uniform_over_the_available_arms_and_depends_on_the_seed() -> None:
    queries = Queries(tuple(str(row) for row in range(4_000)), ("same prompt",) * 4_000)
    available_QA = np.tile([True, False, True, True], (4_000, 1))
    calls = Calls(ARMS, Objective(), available_QA, np.array(USD))
    chosen = []
    for seed in (0, 1):
        router = create("random")
        router.fit(
            part(world(30), "train"), part(world(30), "validation"), Context(seed, "cpu", Path(), lambda _: None)
        )
        chosen.append(decide(router, queries, calls).arm_Q)
    counts_A = np.bincount(chosen[0], minlength=4)
    np.testing.assert_allclose(counts_A, [1_333, 0, 1_333, 1_333], atol=120)
    assert 0.25 < (chosen[0] == chosen[1]).mean() < 0.42


# Missing outcomes and costs


@pytest.mark.parametrize("name", [*PLAIN, *LEARNING])
def test_an_arm_that_is_not_on_offer_is_never_chosen(name: str) -> None:
    outcomes = with_gaps(world(240), 0.6)
    decided(fitted(name, outcomes), outcomes)  # decide() raises otherwise


@pytest.mark.parametrize("name", ["cheapest", "best-single", *LEARNING])
def test_an_arm_without_any_train_outcome_comes_last(name: str) -> None:
    outcomes = world(150)
    unseen_QA = (outcomes.split_Q != "test")[:, None] & (np.arange(4) == 3)
    unseen = replace(
        outcomes,
        score_QA=np.where(unseen_QA, np.nan, outcomes.score_QA),
        cost_QA=np.where(unseen_QA, np.nan, outcomes.cost_QA),
    )
    assert not (decided(fitted(name, unseen), unseen) == 3).any()


@pytest.mark.parametrize("name", LEARNING)
def test_an_arm_with_two_lucky_outcomes_is_not_taken_for_the_best(name: str) -> None:
    outcomes = world(240)
    score_QA, cost_QA = outcomes.score_QA.copy(), outcomes.cost_QA.copy()
    rows = np.flatnonzero(outcomes.split_Q == "train")
    score_QA[rows[2:], 3] = cost_QA[rows[2:], 3] = np.nan
    score_QA[rows[:2]] = (0, 0, 0, 1)
    lucky = replace(outcomes, score_QA=score_QA, cost_QA=cost_QA)
    assert (decided(fitted(name, lucky), lucky) == 3).mean() < 0.2


@pytest.mark.parametrize("name", PREDICTING)
def test_predictions_are_in_units_of_the_outcomes(name: str) -> None:
    outcomes = world()
    score_QA, cost_QA = fitted(name, with_gaps(outcomes, 0.3)).predict(queries_of(outcomes.of_split("test")))
    np.testing.assert_allclose(score_QA.mean(axis=0), [0.4, 0.4, 0.4, 0.6], atol=0.15)
    np.testing.assert_allclose(cost_QA.mean(axis=0), USD, rtol=0.25)


@pytest.mark.parametrize("name", PREDICTING)
def test_without_a_cost_the_predicted_cost_is_unknown(name: str) -> None:
    outcomes = without_cost(world(90))
    score_QA, cost_QA = fitted(name, outcomes).predict(queries_of(outcomes.of_split("test")))
    assert np.isfinite(score_QA).all()
    assert np.isnan(cost_QA).all()
    decided(fitted(name, outcomes), outcomes)


@pytest.mark.parametrize(("name", "arm"), [("cheapest", 0), ("dearest", 3)])
def test_cheapest_and_dearest_follow_the_mean_train_cost(name: str, arm: int) -> None:
    outcomes = world(60)
    assert (decided(fitted(name, outcomes), outcomes) == arm).all()
    with pytest.raises(RecalBenchError, match="n/a: the outcomes hold no cost"):
        fitted(name, without_cost(outcomes))


@pytest.mark.parametrize(("name", "arm"), [("cheapest", 1), ("dearest", 2)])
def test_an_unknown_cost_is_neither_the_lowest_nor_the_highest(name: str, arm: int) -> None:
    outcomes = world(60)
    outcomes = replace(outcomes, cost_QA=outcomes.cost_QA * np.array([np.nan, 1, 1, np.nan]))
    assert (decided(fitted(name, outcomes), outcomes) == arm).all()


@given(st.integers(0, 10_000), st.floats(0, 0.8))
@settings(max_examples=30)
def test_best_single_is_the_one_of_the_references(seed: int, share: float) -> None:
    outcomes = with_gaps(world(60, seed=seed), share, seed)
    train, calls = part(outcomes, "train"), calls_for(outcomes)
    calls.available_QA[:] = True
    arm_Q = decide(fitted("best-single", outcomes), queries_of(outcomes.of_split("test")), calls).arm_Q
    assert (arm_Q == references.best_single(train.utility_QA, train.outcomes.task_Q, calls.mean_cost_A)).all()


@pytest.mark.parametrize("name", ["best-single", *PREDICTING])
def test_train_without_any_outcome_is_refused(name: str) -> None:
    outcomes = world(60)
    train_Q = (outcomes.split_Q == "train")[:, None]
    outcomes = replace(without_cost(outcomes), score_QA=np.where(train_Q, np.nan, outcomes.score_QA))
    with pytest.raises(RecalBenchError, match="no arm has any outcome on train"):
        fitted(name, outcomes)


# Saving, settings


@pytest.mark.parametrize("name", [*PLAIN, *LEARNING])
def test_a_loaded_router_decides_alike(name: str, tmp_path: Path) -> None:
    outcomes = with_gaps(world(150), 0.2)
    router = fitted(name, outcomes)
    router.save(tmp_path)
    loaded = create(name, settings_of(router))
    loaded.load(tmp_path)
    np.testing.assert_array_equal(decided(loaded, outcomes), decided(router, outcomes))
    if isinstance(router, Predicts):
        queries = queries_of(outcomes.of_split("test"))
        np.testing.assert_array_equal(np.stack(loaded.predict(queries)), np.stack(router.predict(queries)))


def test_a_saved_ensemble_of_other_types_is_not_loaded(tmp_path: Path) -> None:
    from skops.io import dump

    fitted("gradient-boosting", world(60)).save(tmp_path)
    dump([Path()], tmp_path / "ensembles.skops")
    with pytest.raises(RecalBenchError, match="holds types that no saved ensemble has"):
        create("gradient-boosting").load(tmp_path)


@pytest.mark.parametrize("name", [*PLAIN, *LEARNING])
def test_the_search_space_holds_settings_that_exist(name: str) -> None:
    router = create(name)
    space = getattr(router, "space", {})
    assert ("encoder" in space) == (name in LEARNING)
    for key, values in space.items():
        assert len(values) > 1
        for value in values:
            assert settings_of(create(name, {key: value}))[key] == value


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("knn", "k", 0),
        ("knn", "weights", "inverse"),
        ("ridge", "penalty", -1.0),
        ("logistic", "penalty", 0.0),
        ("svm", "c", 0.0),
        ("mlp", "hidden", 0),
        ("gradient-boosting", "leaves", 1),
    ],
)
def test_senseless_settings_are_refused(name: str, key: str, value: Any) -> None:
    with pytest.raises(RecalBenchError, match=f"router {name}, setting {key}={value}"):
        create(name, {key: value})


@pytest.mark.parametrize("name", LEARNING)
def test_an_unknown_encoder_is_refused_with_a_hint(name: str) -> None:
    with pytest.raises(RecalBenchError, match=r"did you mean tfidf\?"):
        fitted(name, world(60), encoder="tf-idf")


def test_every_baseline_has_a_line_in_the_list() -> None:
    for name in (*PLAIN, *LEARNING):
        assert type(create(name)).__doc__.strip().partition("\n")[0].endswith(".")


# Real outcomes. The bounds on kNN notice a change and are no claim: the mean's standard error is 1.4 points.


@pytest.fixture(scope="module")
def routerdc(data_folder: Path) -> Any:
    return load_bench(data_folder / "routerdc_7llm.parquet")


@pytest.mark.parametrize(("name", "lowest", "highest"), [("best-single", 54.55, 54.57), ("knn", 55.5, 60.0)])
def test_known_results_on_the_outcomes_of_routerdc(routerdc: Any, name: str, lowest: float, highest: float) -> None:
    router = create(name)
    router.fit(routerdc.train, routerdc.validation, Context(0, "cpu", Path(), lambda line: None))
    test = routerdc.splits.test
    decisions: Decisions = decide(router, queries_of(test), routerdc.calls(test))
    score_Q = test.score_QA[np.arange(len(test)), decisions.arm_Q]
    tasks = ("mmlu", "gsm8k", "cmmlu", "arc_challenge", "humaneval")
    assert lowest < 100 * np.mean([score_Q[test.task_Q == task].mean() for task in tasks]) < highest
