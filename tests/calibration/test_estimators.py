"""The advantage estimators: each is its published formula, and they relate to each other as the algebra says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.calibration import (
    ESTIMATORS,
    Batch,
    Running,
    Spread,
    component_advantages,
    dapo,
    dataset_scales,
    disco,
    dr_grpo,
    dvao,
    expected,
    gdpo,
    grpo,
    hero,
    lite_ppo,
    normalise_datasets,
    observe_datasets,
    observe_scale,
    popart,
    reinforce,
    reinforce_pp,
    rloo,
    variance_weights,
    whiten,
)

WEIGHT_K = np.array([1.0, 1.0, 0.2])


@st.composite
def rewards(draw: st.DrawFn, least_rollouts: int = 1) -> np.ndarray:
    """Complete groups of one reward, on a grid of eighths; some groups without spread."""
    shape = (draw(st.integers(1, 6)), draw(st.integers(least_rollouts, 6)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    flat_Q1 = rng.random((shape[0], 1)) < 0.2
    return np.where(flat_Q1, 0.375, rng.integers(-8, 9, shape) / 8)


def everything(reward_QG: np.ndarray) -> np.ndarray:
    return np.ones(reward_QG.shape[:2], dtype=bool)


# Relations


@given(rewards(least_rollouts=2))
def test_rloo_takes_the_mean_of_the_others(reward_QG: np.ndarray) -> None:
    n = reward_QG.shape[1]
    others_QG = (reward_QG.sum(axis=1, keepdims=True) - reward_QG) / (n - 1)
    np.testing.assert_allclose(rloo(reward_QG, everything(reward_QG)), reward_QG - others_QG, atol=1e-12)
    np.testing.assert_allclose(
        rloo(reward_QG, everything(reward_QG)), dr_grpo(reward_QG, everything(reward_QG)) * n / (n - 1), atol=1e-12
    )


@given(rewards())
def test_batch_baselines_subtract_one_number(reward_QG: np.ndarray) -> None:
    valid_QG = everything(reward_QG)
    advantage_QG = reinforce(reward_QG, valid_QG)
    np.testing.assert_allclose(advantage_QG, reward_QG - reward_QG.mean(), atol=1e-12)
    spread = reward_QG.std()
    np.testing.assert_allclose(reinforce_pp(reward_QG, valid_QG) * (spread + 1e-6), advantage_QG, atol=1e-9)
    np.testing.assert_array_equal(reinforce_pp(reward_QG, valid_QG), whiten(reward_QG, valid_QG))


@given(rewards())
def test_lite_ppo_is_dr_grpo_by_the_spread_of_the_batch(reward_QG: np.ndarray) -> None:
    valid_QG = everything(reward_QG)
    scaled_QG = lite_ppo(reward_QG, valid_QG) * (reward_QG.std() + 1e-6)
    np.testing.assert_allclose(scaled_QG, dr_grpo(reward_QG, valid_QG), atol=1e-9)


@given(rewards(), st.sampled_from([0, 1]))
def test_a_z_score_is_bounded_by_the_size_of_its_group(reward_QG: np.ndarray, ddof: int) -> None:
    n = reward_QG.shape[1]
    bound = (n - 1) / np.sqrt(n) if ddof else np.sqrt(n - 1)
    assert np.abs(grpo(reward_QG, everything(reward_QG), eps=0.0, ddof=ddof)).max() <= bound + 1e-9


@given(rewards())
def test_a_dataset_mean_has_nothing_to_subtract_from_complete_groups(reward_QG: np.ndarray) -> None:
    valid_QG, dataset_Q = everything(reward_QG), np.arange(len(reward_QG)) % 2
    for advantage_QG in (dr_grpo(reward_QG, valid_QG), grpo(reward_QG, valid_QG), rloo(reward_QG, valid_QG)):
        for dataset in np.unique(dataset_Q):
            assert abs(advantage_QG[dataset_Q == dataset].mean()) < 1e-9


@given(rewards(), st.floats(0.1, 10.0), st.floats(0.1, 10.0))
def test_the_scale_of_a_dataset_undoes_what_was_weighted_between_datasets(
    reward_QG: np.ndarray, first: float, second: float
) -> None:
    valid_QG, dataset_Q = everything(reward_QG), np.arange(len(reward_QG)) % 2
    weight_Q1 = np.where(dataset_Q == 0, first, second)[:, None]

    def normalised(advantage_QG: np.ndarray, **limits: float) -> np.ndarray:
        scale_D = observe_scale(Running.empty(np.zeros(2)), advantage_QG, dataset_Q, valid_QG, decay=0.0)
        return np.asarray(normalise_datasets(advantage_QG, dataset_Q, dataset_scales(scale_D, eps=0.0, **limits)))

    plain_QG = dr_grpo(reward_QG, valid_QG)
    np.testing.assert_allclose(normalised(plain_QG * weight_Q1), normalised(plain_QG), atol=1e-9)
    # With a cap of 1 every dataset has one scale at least, and the weights survive.
    if plain_QG[dataset_Q == 1].any() and plain_QG[dataset_Q == 0].any() and first > 1.01 * second:
        capped_QG = normalised(plain_QG * weight_Q1, cap=1.0)
        assert np.abs(capped_QG).max() <= np.abs(normalised(plain_QG * weight_Q1)).max() + 1e-9


@given(rewards())
def test_equal_shares_make_the_expected_gradient_dr_grpo(reward_QG: np.ndarray) -> None:
    share_QG = np.full(reward_QG.shape, 1 / reward_QG.shape[1])
    valid_QG = everything(reward_QG)
    np.testing.assert_allclose(expected(reward_QG, share_QG, valid_QG), dr_grpo(reward_QG, valid_QG), atol=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_the_expected_advantage_is_the_gradient_of_the_expected_reward(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logit_A, reward_A = rng.normal(size=5), rng.normal(size=5)

    def softmax(logit_A: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(logit_A) / np.exp(logit_A).sum())

    p_A = softmax(logit_A)
    advantage_A = expected(reward_A[None], p_A[None], np.ones((1, 5), dtype=bool))[0]
    by_estimator_A = np.array([(advantage_A * (np.eye(5)[a] - p_A[a])).mean() for a in range(5)])
    step = 1e-6
    by_differences_A = [
        (softmax(logit_A + step * np.eye(5)[a]) @ reward_A - softmax(logit_A - step * np.eye(5)[a]) @ reward_A)
        / (2 * step)
        for a in range(5)
    ]
    np.testing.assert_allclose(by_estimator_A, by_differences_A, atol=1e-6)


# By hand


def test_dapo_drops_groups_whose_outcomes_agree_and_scales_up_the_rest() -> None:
    reward_QG = np.array([[1.0, 0.9], [1.0, 0.0], [0.0, 0.1], [0.5, 1.0]])
    outcome_QG = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    advantage_QG = dapo(reward_QG, outcome_QG, everything(reward_QG), eps=0.0)
    np.testing.assert_allclose(advantage_QG, [[0, 0], [2, -2], [0, 0], [-2, 2]])
    np.testing.assert_array_equal(dapo(reward_QG, np.ones((4, 2)), everything(reward_QG)), np.zeros((4, 2)))


def test_dvao_weights_a_component_by_its_share_of_the_spread() -> None:
    reward_QGK = np.array([[[1.0, 0.0], [0.0, 0.5]]])
    # Spreads .5 and .25, weights 1 and 2: both components weigh one half, and their z-scores cancel.
    np.testing.assert_allclose(dvao(reward_QGK, np.array([1.0, 2.0]), np.ones((1, 2), dtype=bool)), [[0, 0]], atol=1e-5)
    alone = dvao(reward_QGK, np.array([1.0, 0.0]), np.ones((1, 2), dtype=bool), eps=0.0)
    np.testing.assert_allclose(alone, [[1, -1]])


def test_hero_is_grpo_times_the_weight_of_the_group() -> None:
    reward_QG = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    spread_Q = reward_QG.std(axis=1)
    weight_Q1 = variance_weights(spread_Q, 0.4)[:, None]
    valid_QG = everything(reward_QG)
    np.testing.assert_allclose(hero(reward_QG, reward_QG, 0.4, valid_QG), grpo(reward_QG, valid_QG) * weight_Q1)
    assert weight_Q1[1] > weight_Q1[0]


def test_popart_standardises_by_the_dataset() -> None:
    reward_QG, dataset_Q = np.array([[1.0, 3.0], [10.0, 30.0]]), np.array([0, 1])
    valid_QG = everything(reward_QG)
    mean_D = observe_datasets(Running.empty(np.zeros(2)), reward_QG, dataset_Q, valid_QG, decay=0.9)
    square_D = observe_datasets(Running.empty(np.zeros(2)), reward_QG**2, dataset_Q, valid_QG, decay=0.9)
    advantage_QG = popart(reward_QG, dataset_Q, mean_D, square_D, valid_QG, eps=0.0)
    np.testing.assert_allclose(advantage_QG, [[-1, 1], [-1, 1]])


def test_disco_weighs_rare_datasets_and_hard_queries_more() -> None:
    reward_QG = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    outcome_QG = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    advantage_QG = disco(reward_QG, outcome_QG, np.array([0, 0, 0, 1]), 2, everything(reward_QG), eps=0.1)
    common, rare = np.log1p(1 / 0.75), np.log1p(1 / 0.25)
    np.testing.assert_allclose(
        advantage_QG[:, 0], 0.5 * np.array([common / 0.6, common / 0.6, common / 1.1, rare / 0.6])
    )


# Groups of unequal size, missing components


@pytest.mark.parametrize("name", list(ESTIMATORS))
@given(data=st.data())
def test_padding_a_group_changes_nothing_and_nothing_missing_becomes_a_number(name: str, data: Any) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    reward_QGK = rng.random((5, 4, 3))
    dataset_Q, entry = np.arange(5) % 2, ESTIMATORS[name]
    state = entry.start(np.zeros(3), np.zeros(2), entry.settings())

    def advantages(reward_QGK: np.ndarray, valid_QG: np.ndarray, share_QG: np.ndarray) -> np.ndarray:
        batch = Batch(reward_QGK, WEIGHT_K, np.arange(3) == 1, reward_QGK[..., 1], share_QG, dataset_Q, valid_QG)
        return np.asarray(entry.compute(batch, state, entry.settings())[0])

    whole = advantages(reward_QGK, np.ones((5, 4), dtype=bool), np.full((5, 4), 0.25))
    padding = np.full((5, 2, 3), np.nan)
    padded_valid = np.concatenate([np.ones((5, 4), dtype=bool), np.zeros((5, 2), dtype=bool)], axis=1)
    shares = np.concatenate([np.full((5, 4), 0.25), np.zeros((5, 2))], axis=1)
    padded = advantages(np.concatenate([reward_QGK, padding], axis=1), padded_valid, shares)
    # The loop's mean over a group runs over the padding too; one that sees all actions makes up for their number.
    factor = 6 / 4 if entry.all_actions else 1.0
    np.testing.assert_allclose(padded[:, :4], factor * whole, rtol=1e-9, atol=1e-9)
    assert (padded[:, 4:] == 0).all()

    reward_QGK[rng.random((5, 4, 3)) < 0.2] = np.nan
    holey = advantages(reward_QGK, np.ones((5, 4), dtype=bool), np.full((5, 4), 0.25))
    assert np.isfinite(holey).all()
    assert (holey[np.isnan(reward_QGK).all(axis=-1)] == 0).all()


def test_a_missing_component_is_left_out_and_the_others_count() -> None:
    reward_QGK = np.array([[[1.0, np.nan], [0.0, 0.4], [0.5, 0.6]]])
    valid_QG = np.ones((1, 3), dtype=bool)
    advantage_QGK = component_advantages(reward_QGK, valid_QG, eps=0.0)
    np.testing.assert_allclose(advantage_QGK[0, :, 1], [0, -1, 1])
    np.testing.assert_allclose(advantage_QGK[0, :, 0], [np.sqrt(1.5), -np.sqrt(1.5), 0], atol=1e-12)
    summed_QG = reward_QGK.sum(axis=-1)
    np.testing.assert_allclose(dr_grpo(summed_QG, valid_QG), [[0, -0.35, 0.35]])


def test_a_rollout_without_any_component_is_not_whitened() -> None:
    reward_QGK = np.array([[[1.0, 1.0], [0.0, 0.0], [np.nan, np.nan]]])
    without = gdpo(reward_QGK[:, :2], np.ones(2), np.ones((1, 2), dtype=bool))
    np.testing.assert_allclose(gdpo(reward_QGK, np.ones(2), np.ones((1, 3), dtype=bool))[:, :2], without)


# Numbers at the edge


def batch_of(reward_QGK: np.ndarray) -> Batch:
    n_queries, n_rollouts, n_components = reward_QGK.shape
    return Batch(
        reward_QGK,
        np.array([1.0, 1.0, 0.2], dtype=reward_QGK.dtype)[:n_components],
        np.arange(n_components) == min(1, n_components - 1),
        reward_QGK[..., min(1, n_components - 1)],
        np.full((n_queries, n_rollouts), 1 / n_rollouts, dtype=reward_QGK.dtype),
        np.arange(n_queries) % 2,
        np.ones((n_queries, n_rollouts), dtype=bool),
    )


def components(seed: int, dtype: Any = np.float64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    right_QG = (rng.random((8, 6)) < 0.5).astype(float)
    return np.stack([np.ones((8, 6)), right_QG, -rng.random((8, 6))], axis=-1).astype(dtype)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e30, -1e38])
@pytest.mark.parametrize("place", [(0, 0, 2), (0, 0, 1), (0,), (slice(None), 0)], ids=str)
def test_one_reward_beyond_all_bounds_counts_for_nothing(name: str, value: float, place: tuple[Any, ...]) -> None:
    estimator, like_K, like_D = ESTIMATORS[name], np.zeros(3, dtype=np.float32), np.zeros(2, dtype=np.float32)
    settings = estimator.settings()
    state = estimator.start(like_K, like_D, settings)
    spoilt_QGK = components(0, np.float32)
    spoilt_QGK[place] = value
    missing_QGK = components(0, np.float32)
    missing_QGK[place] = np.nan
    advantage_QG, after = estimator.compute(batch_of(spoilt_QGK), state, settings)
    without_QG, _ = estimator.compute(batch_of(missing_QGK), state, settings)
    assert np.isfinite(advantage_QG).all()
    np.testing.assert_allclose(advantage_QG, without_QG, atol=1e-6)
    later_QG, _ = estimator.compute(batch_of(components(1, np.float32)), after, settings)
    assert np.isfinite(later_QG).all()
    assert later_QG.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 1000.1, -12345.67, 1e6 + 0.3])
def test_popart_sees_no_difference_between_equal_rewards_however_large(dtype: Any, offset: float) -> None:
    estimator, settings = ESTIMATORS["popart"], ESTIMATORS["popart"].settings()
    state = estimator.start(np.zeros(1, dtype=dtype), np.zeros(2, dtype=dtype), settings)
    for _ in range(5):
        advantage_QG, state = estimator.compute(batch_of(np.full((8, 6, 1), offset, dtype=dtype)), state, settings)
        assert not advantage_QG.any()
    equal_QG = np.full((8, 6), offset, dtype=dtype)
    moments = [
        observe_datasets(Running.empty(np.zeros(2, dtype=dtype)), each, np.arange(8) % 2, everything(equal_QG), 0.95)
        for each in (equal_QG, equal_QG**2)
    ]
    assert not popart(equal_QG, np.arange(8) % 2, *moments, everything(equal_QG)).any()


@pytest.mark.parametrize("offset", [1000.0, -12345.0, 2.0**20])
def test_popart_is_the_same_for_rewards_that_are_all_larger(offset: float) -> None:
    estimator, settings = ESTIMATORS["popart"], ESTIMATORS["popart"].settings()
    right_QGK = components(2, np.float32)[..., 1:2]
    found = []
    for reward_QGK in (right_QGK, right_QGK + np.float32(offset)):
        state = estimator.start(np.zeros(1, dtype=np.float32), np.zeros(2, dtype=np.float32), settings)
        for _ in range(3):
            advantage_QG, state = estimator.compute(batch_of(reward_QGK), state, settings)
        found.append(advantage_QG)
    np.testing.assert_allclose(*found, rtol=1e-5)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("eps", [1e-6, 1e-4])
def test_the_settings_of_a_spread_reach_the_formula(ddof: int, eps: float) -> None:
    batch = batch_of(components(3))
    of_total = {"grpo": grpo, "lite-ppo": lite_ppo, "reinforce-pp": reinforce_pp}
    expected = {name: each(batch.total_QG, batch.valid_QG, eps, ddof) for name, each in of_total.items()}
    expected["gdpo"] = gdpo(batch.reward_QGK, batch.weight_K, batch.valid_QG, eps, ddof)
    assert set(expected) == {name for name in ESTIMATORS if ESTIMATORS[name].settings is Spread}
    for name, advantage_QG in expected.items():
        found_QG, _ = ESTIMATORS[name].compute(batch, (), Spread(ddof, eps))
        np.testing.assert_array_equal(found_QG, advantage_QG)
