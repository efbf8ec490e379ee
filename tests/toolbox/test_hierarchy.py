"""The hierarchical prior and its parts: contrasts of arms, left-out ridge, shrunk means, texts of no known task."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from recal_bench.outcomes import Arm
from recal_bench.toolbox.contrasts import contrasts, fill_gaps, main_effects, repeated
from recal_bench.toolbox.hierarchy import fit_hierarchy, packed, shrunk_means, unpacked, with_constant
from recal_bench.toolbox.inferred_tasks import fit_posterior
from recal_bench.toolbox.novelty import distances, fit_novelty, shares_of
from recal_bench.toolbox.penalties import PENALTIES, left_out_ridge, transferring_ridge

GRID = [Arm(model, strategy) for model, strategy in itertools.product(("l", "m", "s"), ("cot", "direct"))]
pairs = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz")), min_size=1, max_size=12, unique=True)


def world(rng: np.random.Generator, n: int = 900, tasks: int = 4, size: int = 32, slope: float = 0.2) -> dict[str, Any]:
    """Texts around a centre of their task; arms differ by task, and by the text within it."""
    number_Q = rng.integers(tasks, size=n)
    embedding_QE = 6 * np.eye(size)[number_Q] + rng.standard_normal((n, size))
    embedding_QE /= np.linalg.norm(embedding_QE, axis=1, keepdims=True)
    effect_TA = 0.15 * rng.standard_normal((tasks, len(GRID)))
    slope_EA = slope * rng.standard_normal((size, len(GRID)))
    truth_QA = 0.5 + effect_TA[number_Q] + (embedding_QE - embedding_QE.mean(axis=0)) @ slope_EA
    score_QA = (rng.random(truth_QA.shape) < truth_QA).astype(float)
    task_Q = np.array([f"task {number}" for number in number_Q], dtype=object)
    return {"embedding_QE": embedding_QE, "truth_QA": truth_QA, "score_QA": score_QA, "task_Q": task_Q}


def fitted(data: dict[str, Any], rows: Any = slice(None), **options: Any) -> Any:
    value_QA = data["score_QA"][rows]
    typical_A = np.nanmean(value_QA, axis=0)
    return fit_hierarchy(data["embedding_QE"][rows], value_QA, typical_A, data["task_Q"][rows], GRID, **options)


@given(pairs)
def test_contrasts_are_an_orthonormal_basis_that_begins_with_what_all_share(names: list[tuple[str, str]]) -> None:
    arms = [Arm(*each) for each in names]
    found = contrasts(arms)
    np.testing.assert_allclose(found.basis_AC.T @ found.basis_AC, np.eye(len(arms)), atol=1e-9)
    assert len(np.unique(np.round(found.basis_AC[:, 0], 9))) == 1
    assert found.kind_C.tolist() == sorted(found.kind_C)
    models = len({arm.model for arm in arms})
    assert (found.kind_C == 1).sum() == models - 1
    # Values that only models tell apart have no part of any strategy or pair.
    value_A = np.array([ord(arm.model) for arm in arms], dtype=float)
    np.testing.assert_allclose((value_A @ found.basis_AC)[found.kind_C > 1], 0, atol=1e-8)


def test_score_and_cost_have_contrasts_of_their_own() -> None:
    found = repeated(contrasts(GRID), 2)
    assert found.basis_AC.shape == (12, 12)
    assert not found.basis_AC[:6, 6:].any()
    assert set(found.kind_C[:6]).isdisjoint(found.kind_C[6:])


def test_an_unseen_arm_is_what_its_model_and_its_strategy_say() -> None:
    level = {arm: {"l": 0.6, "m": 0.5, "s": 0.2}[arm.model] + (0.1 if arm.strategy == "cot" else 0.0) for arm in GRID}
    known, new = GRID[:-1], [GRID[-1], Arm("new", "cot")]
    value_B = np.array([level[arm] for arm in known]) @ main_effects(known, new)
    assert value_B[0] == pytest.approx(level[GRID[-1]])
    mean_of_models = np.mean([level[arm] for arm in GRID if arm.strategy == "cot"])
    assert value_B[1] == pytest.approx(mean_of_models)


def test_gaps_are_filled_by_what_is_known_of_the_query() -> None:
    """A query that all seen arms fail is hard: an arm that was not asked is expected to fail more often too."""
    found = contrasts(GRID)
    variance_C = np.where(found.kind_C == 0, 4.0, 0.01)
    expected_QA = np.full((2, 6), 0.5)
    value_QA = np.array([[0, 0, 0, 0, 0, np.nan], [1, 1, 1, 1, 1, np.nan]])
    known_QA = ~np.isnan(value_QA)
    filled_QA = fill_gaps(np.nan_to_num(value_QA), known_QA, expected_QA, variance_C, found)
    np.testing.assert_array_equal(filled_QA[known_QA], value_QA[known_QA])
    assert filled_QA[0, 5] == pytest.approx(0, abs=0.02)
    assert filled_QA[1, 5] == pytest.approx(1, abs=0.02)


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_left_out_predictions_are_those_of_a_refit_without_the_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    input_QE, target_QX = rng.standard_normal((30, 4)), rng.standard_normal((30, 3))
    target_QX[:, :2] += input_QE[:, :2]
    kind_X = np.array([0, 0, 1])
    weight_EX, left_out_QX = left_out_ridge(input_QE, target_QX, kind_X)
    errors = {}
    for penalty in PENALTIES:
        kept = [np.arange(30) != row for row in range(30)]
        solved = [
            np.linalg.solve(input_QE[k].T @ input_QE[k] + penalty * np.eye(4), input_QE[k].T @ target_QX[k])
            for k in kept
        ]
        errors[penalty] = np.array([input_QE[row] @ weights for row, weights in enumerate(solved)])
    for kind in (0, 1):
        of = kind_X == kind
        best = min(PENALTIES, key=lambda each: ((errors[each] - target_QX)[:, of] ** 2).sum())
        np.testing.assert_allclose(left_out_QX[:, of], errors[best][:, of], atol=1e-8)
        whole = np.linalg.solve(input_QE.T @ input_QE + best * np.eye(4), input_QE.T @ target_QX[:, of])
        np.testing.assert_allclose(weight_EX[:, of], whole, atol=1e-8)


def test_slopes_that_do_not_carry_over_to_other_tasks_are_switched_off() -> None:
    """Within every task the text decides, in each to the other side: nothing of it helps elsewhere."""
    rng = np.random.default_rng(0)
    number_Q = np.repeat(np.arange(6), 60)
    text_Q = rng.standard_normal(360)
    input_QE = np.stack([text_Q, np.ones(360)], axis=1)
    turned_QX = (text_Q * np.where(number_Q % 2, 1, -1))[:, None]
    steady_QX = text_Q[:, None]
    for value_Q1, carries_over in ((turned_QX, False), (steady_QX, True)):
        value_QX = np.hstack([value_Q1, -value_Q1])
        slope = transferring_ridge(input_QE, value_QX, number_Q, lambda value_QX: value_QX)[0]
        np.testing.assert_allclose(slope, [1, -1] if carries_over else [0, 0], atol=0.1 * carries_over)


def test_means_of_groups_are_shrunk_by_what_the_groups_differ() -> None:
    rng = np.random.default_rng(0)
    number_Q = np.repeat(np.arange(5), 40)
    kind_X = np.array([0, 1])
    weight_QX = np.ones((200, 2))
    value_QX = rng.standard_normal((200, 2))
    value_QX[:, 1] += np.array([-2, -1, 0, 1, 2])[number_Q]
    kept_TX, left_out_QX = shrunk_means(value_QX, weight_QX, number_Q, kind_X)
    mean_TX = np.array([value_QX[number_Q == task].mean(axis=0) for task in range(5)])
    assert np.abs(kept_TX[:, 0]).max() < 0.5 * np.abs(mean_TX[:, 0]).max()
    np.testing.assert_allclose(kept_TX[:, 1], mean_TX[:, 1], atol=0.1)
    # A row has no part in what is said of it.
    moved_QX = value_QX.copy()
    moved_QX[7] += 0.01
    shift = shrunk_means(moved_QX, weight_QX, number_Q, kind_X)[1] - left_out_QX
    assert abs(shift[8, 1]) > 10 * abs(shift[7, 1])


def test_the_hierarchy_beats_its_parts_and_its_left_out_values_are_honest() -> None:
    rng = np.random.default_rng(1)
    data = world(rng)
    train, test = slice(0, 600), slice(600, None)
    hierarchy, left_out_QA = fitted(data, train)
    typical_A = data["score_QA"][train].mean(axis=0)

    def error(value_QA: np.ndarray, rows: slice) -> float:
        return float(((value_QA - data["truth_QA"][rows]) ** 2).mean())

    value_QA = hierarchy.values(data["embedding_QE"][test])
    plain = fitted(data, train, tasks=False)[0].values(data["embedding_QE"][test])
    assert error(value_QA, test) < error(plain, test) < error(np.tile(typical_A, (300, 1)), test)
    # What is said of a train query without its outcomes is as good as what is said of a new one.
    assert error(left_out_QA, train) == pytest.approx(error(value_QA, test), rel=0.35)
    squares = ((left_out_QA - data["score_QA"][train]) ** 2).mean()
    assert squares > ((hierarchy.values(data["embedding_QE"][train]) - data["score_QA"][train]) ** 2).mean()


def test_gaps_cost_little_and_do_not_favour_arms_that_were_asked_easier_queries() -> None:
    rng = np.random.default_rng(2)
    data = world(rng, n=1500)
    hard_Q = rng.random(1500) < 0.5
    data["truth_QA"] = np.clip(data["truth_QA"] - 0.4 * hard_Q[:, None], 0.02, 0.98)
    data["score_QA"] = (rng.random(data["truth_QA"].shape) < data["truth_QA"]).astype(float)
    whole_QA = fitted(data)[0].values(data["embedding_QE"])
    gaps_QA = rng.random(data["score_QA"].shape) < 0.3
    # The last arm is rarely asked a hard query.
    gaps_QA[:, -1] = hard_Q & (rng.random(1500) < 0.9)
    gappy = data | {"score_QA": np.where(gaps_QA, np.nan, data["score_QA"])}
    typical_A = data["score_QA"].mean(axis=0)
    arguments = (data["embedding_QE"], gappy["score_QA"], typical_A, data["task_Q"], GRID)
    gappy_QA = fit_hierarchy(*arguments)[0].values(data["embedding_QE"])
    assert np.abs(gappy_QA - whole_QA).mean() < 0.05
    assert (gappy_QA - whole_QA)[:, -1].mean() < 0.06


def test_clusters_of_texts_take_the_place_of_tasks_where_there_is_one() -> None:
    data = world(np.random.default_rng(3), n=1200, size=200, slope=0.0)
    train, test = slice(0, 900), slice(900, None)
    one = data | {"task_Q": np.full(1200, "all", dtype=object)}
    errors = [
        ((fitted(one, train, tasks=tasks)[0].values(data["embedding_QE"][test]) - data["truth_QA"][test]) ** 2).mean()
        for tasks in (True, False)
    ]
    assert errors[0] < errors[1]


def test_texts_of_no_known_task_are_told_from_the_rest() -> None:
    rng = np.random.default_rng(4)
    data = world(rng, n=2000, tasks=6)
    number_Q = np.unique(data["task_Q"], return_inverse=True)[1]
    known_Q = number_Q < 5
    novelty = fit_novelty(data["embedding_QE"][known_Q], number_Q[known_Q], 0.04, 0.02)
    new_QE, seen_QE = data["embedding_QE"][~known_Q], data["embedding_QE"][known_Q]
    assert np.mean(distances(novelty, new_QE)[:, None] > distances(novelty, seen_QE)) > 0.9
    assert shares_of(novelty, seen_QE).foreign_Q.mean() < 0.05
    assert shares_of(novelty, new_QE).foreign_Q.mean() > 0.4


def test_a_text_is_familiar_as_far_as_most_are_and_not_at_all_where_it_begins_to_be_foreign() -> None:
    rng = np.random.default_rng(7)
    data = world(rng, n=2000, tasks=6)
    number_Q = np.unique(data["task_Q"], return_inverse=True)[1]
    train_Q, fresh_Q = (number_Q < 5) & (np.arange(2000) % 2 == 0), (number_Q < 5) & (np.arange(2000) % 2 == 1)
    embedding_QE = data["embedding_QE"]
    novelty = fit_novelty(embedding_QE[train_Q], number_Q[train_Q], 0.1, 0.02, embedding_QE[fresh_Q])
    fresh, new = shares_of(novelty, embedding_QE[fresh_Q]), shares_of(novelty, embedding_QE[number_Q == 5])
    assert abs(np.mean(fresh.familiar_Q == 1) - 0.5) < 0.01
    assert abs(np.mean(fresh.familiar_Q == 0) - 0.1) < 0.01
    assert not fresh.familiar_Q[fresh.foreign_Q > 0].any()
    assert new.familiar_Q.mean() < 0.3 < fresh.familiar_Q.mean()


def test_an_encoder_that_knows_its_texts_by_heart_makes_no_strangers_of_new_ones() -> None:
    """Train's own texts lie where no other text does: only new ones tell how far off is usual."""
    rng = np.random.default_rng(6)
    number_Q = np.arange(150) % 3
    by_heart_QE = np.hstack([np.eye(3)[number_Q], np.eye(150)])
    fresh_QE = np.hstack([np.eye(3)[number_Q], 0.5 * rng.standard_normal((150, 150))])
    shares = [
        shares_of(fit_novelty(by_heart_QE, number_Q, 0.1, 0.02, fresh), fresh_QE[75:]).foreign_Q.mean()
        for fresh in (None, fresh_QE[:75])
    ]
    assert shares[0] > 0.9
    assert shares[1] < 0.2


def test_a_posterior_over_tasks_tells_them_apart_whatever_their_sizes() -> None:
    data = world(np.random.default_rng(5), n=1000)
    number_Q = np.unique(data["task_Q"], return_inverse=True)[1]
    rows = np.flatnonzero((number_Q > 0) | (np.arange(1000) % 10 == 0))
    weight_ET = fit_posterior(data["embedding_QE"][rows], number_Q[rows])
    posterior_QT = softmax(with_constant(data["embedding_QE"]) @ weight_ET, axis=1)
    assert [np.mean(posterior_QT.argmax(axis=1)[number_Q == task] == task) > 0.8 for task in range(4)] == [True] * 4
    assert not fit_posterior(data["embedding_QE"], np.zeros(1000)).any()
    two = fit_posterior(data["embedding_QE"][number_Q < 2], number_Q[number_Q < 2])
    likely = softmax(with_constant(data["embedding_QE"][number_Q == 1]) @ two, axis=1)[:, 1]
    assert likely.mean() > 0.8


def test_it_is_kept_in_a_file_of_arrays(tmp_path: Path) -> None:
    data = world(np.random.default_rng(6))
    for options in ({}, {"tasks": False}):
        hierarchy, _ = fitted(data, **options)
        np.savez(tmp_path / "h.npz", **packed(hierarchy))
        with np.load(tmp_path / "h.npz", allow_pickle=False) as arrays:
            again = unpacked(dict(arrays))
        np.testing.assert_array_equal(again.values(data["embedding_QE"]), hierarchy.values(data["embedding_QE"]))
    with pytest.raises(KeyError, match="slope_EX"):
        unpacked({name: value for name, value in packed(hierarchy).items() if name != "slope_EX"})
