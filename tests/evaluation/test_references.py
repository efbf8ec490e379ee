"""Single arms and references."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recal_bench.errors import RecalBenchError
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.evaluation.references import arm_effects, bayes, best_single, oracle, task_best
from recal_bench.outcomes import Objective

NO_COST = np.full(4, np.nan)


def tasks_of(rng, n, names=("a", "b", "c")):
    return np.array([*names, *rng.choice(names, n - len(names))], dtype=object)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 60), arms=st.integers(1, 6))
def test_complete_data_give_the_plain_macro_mean(seed, n, arms):
    rng = np.random.default_rng(seed)
    value_QA, task_Q = rng.normal(size=(n, arms)), tasks_of(rng, n)
    np.testing.assert_allclose(arm_effects(value_QA, task_Q), macro_mean(value_QA.T, task_Q), rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 0.6))
def test_an_additive_truth_is_recovered_whatever_is_missing(seed, share):
    """Query difficulty + arm quality: adjusted means are exact where raw means over different queries are not."""
    rng = np.random.default_rng(seed)
    task_Q = tasks_of(rng, 90)
    value_QA = rng.normal(size=(90, 1)) + rng.normal(size=5)
    truth_A = macro_mean(value_QA.T, task_Q)
    # Hard queries are missing more often; arm 0 has all, so everything stays connected.
    missing_QA = rng.random((90, 5)) < share * (1 + np.sign(-value_QA[:, :1])) / 1.5
    missing_QA[:, 0] = False
    missing_QA[[0, 1, 2], 1:] = False
    value_QA[missing_QA] = np.nan
    np.testing.assert_allclose(arm_effects(value_QA, task_Q), truth_A, atol=1e-9)


def test_an_arm_missing_in_a_task_is_compared_on_the_tasks_it_shares():
    value_QA = np.array([[0.9, 0.8, np.nan], [0.9, 0.8, np.nan], [0.3, 0.2, 0.6], [0.3, 0.2, 0.6]])
    effect_A = arm_effects(value_QA, np.array(["easy", "easy", "hard", "hard"], dtype=object))
    # Arm 2 was asked in the hard task alone, where it is 0.3 above arm 0; arms 0 and 1 keep their macro means.
    np.testing.assert_allclose(effect_A, [0.6, 0.5, 0.9])


def test_blocks_without_a_shared_query_are_put_at_the_same_level():
    nan = np.nan
    value_QA = np.array([[0.9, 0.7, nan, nan], [0.9, 0.7, nan, nan], [nan, nan, 0.3, 0.1], [nan, nan, 0.3, 0.1]])
    effect_A = arm_effects(value_QA, np.array(["a"] * 4, dtype=object))
    np.testing.assert_allclose(effect_A, [0.6, 0.4, 0.6, 0.4])


def test_only_an_arm_without_any_outcome_has_no_level():
    value_QA = np.array([[0.5, np.nan, np.nan], [np.nan, 0.5, np.nan]])
    assert np.isnan(arm_effects(value_QA, np.array(["a", "b"], dtype=object))).tolist() == [False, False, True]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_levels_depend_neither_on_the_order_of_queries_nor_of_arms(seed):
    rng = np.random.default_rng(seed)
    value_QA, task_Q = rng.random((40, 5)), tasks_of(rng, 40)
    value_QA[rng.random((40, 5)) < 0.5] = np.nan
    rows, arms = rng.permutation(40), rng.permutation(5)
    shuffled_A = arm_effects(value_QA[np.ix_(rows, arms)], task_Q[rows])
    np.testing.assert_allclose(shuffled_A, arm_effects(value_QA, task_Q)[arms], atol=1e-9)


def test_best_single_weighs_tasks_equally_and_prefers_the_cheaper_of_equals():
    task_Q = np.array(["big"] * 3 + ["small"], dtype=object)
    value_QA = np.array([[1.0, 0.6, 0.6]] * 3 + [[0.0, 0.6, 0.6]])
    assert best_single(value_QA, task_Q, np.array([1.0, 3.0, 2.0])) == 2
    assert best_single(value_QA, task_Q, np.array([1.0, np.nan, np.nan])) == 1
    assert best_single(value_QA[:3], task_Q[:3], np.array([9.0, 1.0, 1.0])) == 0


def test_no_outcome_at_all_is_an_error():
    with pytest.raises(RecalBenchError, match="no arm has any outcome"):
        best_single(np.full((2, 4), np.nan), np.array(["a", "a"], dtype=object), NO_COST)


def test_oracle_takes_the_best_observed_arm_and_breaks_ties_by_cost_then_index():
    utility_QA = np.array([[0.2, 0.9, np.nan], [1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, np.nan]])
    cost_QA = np.array([[1.0, 1.0, 0.0], [3.0, 2.0, 2.0], [np.nan, np.nan, 1.0], [np.nan, 5.0, 0.0]])
    assert oracle(utility_QA, cost_QA).tolist() == [1, 1, 0, 1]


def test_oracle_needs_an_outcome():
    with pytest.raises(RecalBenchError, match="1 queries have no outcome"):
        oracle(np.array([[np.nan], [1.0]]), np.zeros((2, 1)))


def test_task_best_is_chosen_on_train_and_falls_back():
    train_task_Q = np.array(["a", "a", "b", "b"], dtype=object)
    train_QA = np.array([[1.0, 0.0, np.nan], [1.0, 0.0, np.nan], [0.0, 0.9, 0.1], [0.0, 0.9, 0.1]])
    test_task_Q = np.array(["b", "a", "new", "a", "a"], dtype=object)
    available_QA = np.ones((5, 3), dtype=bool)
    available_QA[3, 0] = False
    available_QA[4, :2] = False
    chosen_Q = task_best(train_QA, train_task_Q, test_task_Q, available_QA, np.ones(3))
    # `new` is unknown to train: the best arm overall. Then the next best available, unknown ones last.
    assert chosen_Q.tolist() == [1, 0, best_single(train_QA, train_task_Q, np.ones(3)), 1, 2]


def test_bayes_maximises_expected_utility_among_available_arms():
    score_QA, cost_QA = np.array([[0.75, 0.70], [0.75, 0.70], [0.5, 0.5]]), np.array([[1.0, 0.1]] * 3)
    available_QA = np.array([[True, True], [True, False], [True, True]])
    assert bayes(score_QA, cost_QA, Objective(0.2, 1.0), available_QA).tolist() == [1, 0, 1]
    assert bayes(score_QA, cost_QA, Objective(0.0, 1.0), available_QA).tolist() == [0, 0, 1]


@pytest.mark.skipif("RECAL_BENCH_DATA" not in os.environ, reason="needs the logged outcomes")
def test_references_on_the_routerdc_log():
    """Known values: best single 54.56, best per task chosen on train 58.67, oracle 77.52 over five tasks."""
    import pandas as pd

    frame = pd.read_parquet(Path(os.environ["RECAL_BENCH_DATA"]) / "routerdc_7llm.parquet")
    names = ["mmlu", "gsm8k", "cmmlu", "arc_challenge", "humaneval"]
    frame = frame[frame["task"].isin(names)]
    dense = frame.pivot(index=["split", "task", "query_id"], columns="model", values="score").sort_index()
    split_Q, task_Q = (dense.index.get_level_values(level).to_numpy(dtype=object) for level in (0, 1))
    score_QA, train, test = dense.to_numpy(dtype=float), split_Q == "train", split_Q == "test"
    no_cost_A = np.full(score_QA.shape[1], np.nan)
    single = best_single(score_QA[train], task_Q[train], no_cost_A)
    by_task_Q = task_best(score_QA[train], task_Q[train], task_Q[test], ~np.isnan(score_QA[test]), no_cost_A)
    best_Q = oracle(score_QA[test], np.full_like(score_QA[test], np.nan))
    rows = np.arange(test.sum())
    assert macro_mean(score_QA[test][:, single], task_Q[test]) == pytest.approx(0.5456, abs=5e-5)
    assert macro_mean(score_QA[test][rows, by_task_Q], task_Q[test]) == pytest.approx(0.5867, abs=5e-5)
    assert macro_mean(score_QA[test][rows, best_Q], task_Q[test]) == pytest.approx(0.7752, abs=5e-5)


@pytest.mark.skipif("RECAL_BENCH_DATA" not in os.environ, reason="needs the logged outcomes")
def test_levels_on_a_log_in_which_most_arms_are_missing():
    import pandas as pd

    frame = pd.read_parquet(Path(os.environ["RECAL_BENCH_DATA"]) / "thoughtsource_model_x_strategy.parquet")
    dense = frame.pivot(index=["task", "query_id"], columns=["model", "strategy"], values="score").sort_index()
    score_QA, task_Q = dense.to_numpy(dtype=float), dense.index.get_level_values(0).to_numpy(dtype=object)
    assert np.isnan(score_QA).mean() > 0.8
    level_A = arm_effects(score_QA, task_Q)
    assert np.isfinite(level_A).all()
    # Of the 71 arms none is asked on all queries; adjusted levels still lie where accuracies do.
    assert -0.1 < level_A.min() < level_A.max() < 1.1
