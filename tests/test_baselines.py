"""The shipped baselines, all through the interface that a user's own router has."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recal_bench.errors import RecalBenchError
from recal_bench.evaluation import references
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.experiments.bench import load_bench, queries_of
from recal_bench.folders import shipped
from recal_bench.outcomes import Arm, Objective, Outcomes, mean_over_observed
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, create, decide, fit_seeds, load_folder

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


def fitted(name: str, outcomes: Outcomes, alpha: float = 0.2, seed: int = 0, log: Any = None, **chosen: Any) -> Any:
    """The router, fitted as a run does it: it sees what it may see. `log` gets the lines of the training log."""
    router = create(name, {**SMALL.get(name, {}), **chosen})
    context = Context(seed, "cpu", Path(), (log if log is not None else []).append)
    fit_seeds([router], part(outcomes, "train", alpha), part(outcomes, "validation", alpha), [context])
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


# What they may not see


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
    lines: list[dict[str, Any]] = []
    fitted("mlp", world(60), log=lines, epochs=3)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(line["train_error"] > 0 and line["validation_error"] > 0 for line in lines)


def test_random_is_uniform_over_the_available_arms_and_depends_on_the_seed() -> None:
    queries = Queries(tuple(str(row) for row in range(4_000)), ("same prompt",) * 4_000)
    available_QA = np.tile([True, False, True, True], (4_000, 1))
    calls = Calls(ARMS, Objective(), available_QA, np.array(USD))
    chosen = []
    for seed in (0, 1):
        chosen.append(decide(fitted("random", world(30), seed=seed), queries, calls).arm_Q)
    counts_A = np.bincount(chosen[0], minlength=4)
    np.testing.assert_allclose(counts_A, [1_333, 0, 1_333, 1_333], atol=120)
    assert 0.25 < (chosen[0] == chosen[1]).mean() < 0.42


# Missing outcomes and costs


@pytest.mark.parametrize("name", PREDICTING)
def test_predictions_are_in_units_of_the_outcomes(name: str) -> None:
    outcomes = world()
    score_QA, cost_QA = fitted(name, with_gaps(outcomes, 0.3)).predict(queries_of(outcomes.of_split("test")))
    np.testing.assert_allclose(score_QA.mean(axis=0), [0.4, 0.4, 0.4, 0.6], atol=0.15)
    np.testing.assert_allclose(cost_QA.mean(axis=0), USD, rtol=0.25)


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


# Saving, settings


def test_boosting_computes_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """More wait for each other: beside other work they take ten times longer."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_info

    seen = set()
    own = HistGradientBoostingRegressor.fit

    def watched(*args: object, **named: object) -> object:
        seen.update(each["num_threads"] for each in threadpool_info() if each["user_api"] == "openmp")
        return own(*args, **named)

    monkeypatch.setattr(HistGradientBoostingRegressor, "fit", watched)
    fitted("gradient-boosting", world(60))
    assert seen == {1}


@pytest.mark.parametrize(
    ("place", "value"),
    [("left_TN", 10**6), ("right_TN", -1), ("left_TN", 0), ("feature_TN", 10**6), ("value_TN", np.nan)],
)
def test_trees_that_lead_out_of_their_arrays_are_not_loaded(tmp_path: Path, place: str, value: float) -> None:
    router = fitted("gradient-boosting", world(60))
    trees = next(each for each in router.trees_C if each is not None and each.value_TN.shape[1] > 2)
    getattr(trees, place)[0, 1 if place == "left_TN" and value == 0 else 0] = value
    router.save(tmp_path)
    with pytest.raises(RecalBenchError, match="holds damaged trees: run the router again with --fresh"):
        create("gradient-boosting").load(tmp_path)


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


# Real outcomes. The bounds on kNN notice a change and are no claim: the mean's standard error is 1.4 points.


@pytest.fixture(scope="module")
def routerdc(data_folder: Path) -> Any:
    return load_bench(data_folder / "routerdc_7llm.parquet")


@pytest.mark.parametrize(("name", "lowest", "highest"), [("best-single", 54.55, 54.57), ("knn", 55.5, 60.0)])
def test_known_results_on_the_outcomes_of_routerdc(routerdc: Any, name: str, lowest: float, highest: float) -> None:
    router = create(name)
    fit_seeds([router], routerdc.train, routerdc.validation, [Context(0, "cpu", Path(), lambda line: None)])
    test = routerdc.splits.test
    decisions: Decisions = decide(router, queries_of(test), routerdc.calls(test))
    score_Q = test.score_QA[np.arange(len(test)), decisions.arm_Q]
    tasks = ("mmlu", "gsm8k", "cmmlu", "arc_challenge", "humaneval")
    assert lowest < 100 * np.mean([score_Q[test.task_Q == task].mean() for task in tasks]) < highest
