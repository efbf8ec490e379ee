"""The maths of the calibration: invariances, reductions to the published forms, and what it must never do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.calibration import (
    ESTIMATORS,
    Batch,
    Calibration,
    CalibrationState,
    Running,
    component_advantages,
    dataset_scales,
    dr_grpo,
    gdpo,
    group_spread,
    grpo,
    normalise_datasets,
    observe,
    observe_mean,
    observe_scale,
    observe_spread,
    recal,
    relative_weights,
    variance_weights,
    weighted_sum,
)
from recal_bench.training.seeds import leaves, like

WEIGHT_K = np.array([1.0, 1.0, 0.2])


@st.composite
def groups(draw: st.DrawFn, components: int = 3, all_valid: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Rewards on a grid of eighths, so that equal means equal, and a mask with at least one valid rollout a group."""
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 6)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    reward_QGK = rng.integers(-8, 9, (*shape, components)) / 8
    no_spread_QK = rng.random((shape[0], components)) < 0.2
    reward_QGK = np.where(no_spread_QK[:, None, :], 0.375, reward_QGK)
    valid_QG = np.ones(shape, dtype=bool) if all_valid else rng.random(shape) < 0.8
    valid_QG[:, 0] = True
    return reward_QGK, valid_QG


def fresh(components: int = 3, datasets: int = 2) -> CalibrationState:
    return CalibrationState.empty(np.zeros(components), np.zeros(datasets), Calibration())


def batch_of(reward_QGK: Any, weight_K: Any, outcome: int, dataset_Q: Any, valid_QG: Any) -> Batch:
    """A batch of drawn rollouts."""
    share_QG = np.full(reward_QGK.shape[:2], 1 / reward_QGK.shape[1])
    is_outcome_K = np.arange(reward_QGK.shape[-1]) == outcome
    return Batch(reward_QGK, weight_K, is_outcome_K, reward_QGK[..., outcome], share_QG, dataset_Q, valid_QG)


def as_torch(batch: Batch) -> Batch:
    return Batch(*(torch.tensor(part) for part in batch))


def calibrate(
    reward_QGK: Any, weight_K: Any, outcome: int, dataset_Q: Any, valid_QG: Any, state: Any, settings: Calibration
) -> Any:
    """ReCal's own calibration."""
    return recal(batch_of(reward_QGK, weight_K, outcome, dataset_Q, valid_QG), state, settings)


@given(groups(), st.integers(-3, 3), st.sampled_from([0.25, 2.0, 16.0]))
def test_a_component_may_be_shifted_and_scaled(data: Any, shift: int, scale: float) -> None:
    reward_QGK, valid_QG = data
    moved = component_advantages(reward_QGK * scale + shift, valid_QG, eps=0.0)
    np.testing.assert_allclose(moved, component_advantages(reward_QGK, valid_QG, eps=0.0), atol=1e-9)


@given(groups(), st.randoms(use_true_random=False))
def test_order_within_a_group_and_of_groups_does_not_matter(data: Any, random: Any) -> None:
    reward_QGK, valid_QG = data
    dataset_Q = np.arange(len(reward_QGK)) % 2
    of_groups = random.sample(range(len(reward_QGK)), len(reward_QGK))
    of_rollouts = random.sample(range(reward_QGK.shape[1]), reward_QGK.shape[1])
    plain, _ = calibrate(reward_QGK, WEIGHT_K, 1, dataset_Q, valid_QG, fresh(), Calibration())
    permuted, _ = calibrate(
        reward_QGK[of_groups][:, of_rollouts],
        WEIGHT_K,
        1,
        dataset_Q[of_groups],
        valid_QG[of_groups][:, of_rollouts],
        fresh(),
        Calibration(),
    )
    np.testing.assert_allclose(permuted, plain[of_groups][:, of_rollouts], atol=1e-9)


@given(groups(components=1), st.sampled_from([0.0, 1e-6, 1e-4]))
def test_no_advantage_exceeds_its_bound(data: Any, eps: float) -> None:
    reward_QGK, valid_QG = data
    bound_Q = np.sqrt(np.maximum(valid_QG.sum(axis=1) - 1, 0))
    assert (np.abs(grpo(reward_QGK[..., 0], valid_QG, eps)) <= bound_Q[:, None] + 1e-9).all()


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7, -1.0])
@pytest.mark.parametrize("group_size", [1, 3, 7])
def test_a_group_without_spread_and_a_group_of_one_give_exactly_zero(value: float, group_size: int) -> None:
    reward_QG, valid_QG = np.full((2, group_size), value), np.ones((2, group_size), dtype=bool)
    for advantage_QG in (
        grpo(reward_QG, valid_QG),
        grpo(reward_QG, valid_QG, eps=0.0),
        dr_grpo(reward_QG, valid_QG),
        gdpo(reward_QG[..., None], np.ones(1), valid_QG, eps=0.0),
        calibrate(reward_QG[..., None], np.ones(1), 0, np.array([0, 1]), valid_QG, fresh(1), Calibration())[0],
    ):
        assert (advantage_QG == 0).all()


def test_rollouts_that_are_not_valid_count_for_nothing() -> None:
    reward_QG = np.array([[1.0, 0.0, np.nan]])
    valid_QG = np.array([[True, True, False]])
    np.testing.assert_allclose(grpo(reward_QG, valid_QG, eps=0.0), [[1.0, -1.0, 0.0]])
    np.testing.assert_allclose(dr_grpo(reward_QG, valid_QG), [[0.5, -0.5, 0.0]])


def test_the_values_by_hand() -> None:
    reward_QG, valid_QG = np.array([[1.0, 0.0, 0.0, 0.0]]), np.ones((1, 4), dtype=bool)
    root = np.sqrt(3)  # population spread: sqrt(1/4 * 3/4) = sqrt(3)/4, so the lone success reaches sqrt(G - 1)
    np.testing.assert_allclose(grpo(reward_QG, valid_QG, eps=0.0), [[root, -root / 3, -root / 3, -root / 3]])


def test_the_floor_keeps_tiny_differences_tiny() -> None:
    reward_QGK = np.array([[[0.300], [0.301]], [[0.0], [1.0]]])
    valid_QG = np.ones((2, 2), dtype=bool)
    running = observe_spread(Running.empty(np.zeros(1)), reward_QGK.std(axis=1, keepdims=True), decay=0.9)
    np.testing.assert_allclose(running.value_N, [(0.0005 + 0.5) / 2])
    without = component_advantages(reward_QGK, valid_QG)
    floored = component_advantages(reward_QGK, valid_QG, 0.5 * running.value_N)
    assert abs(without[0]).max() > 0.99
    assert abs(floored[0]).max() < 0.01
    np.testing.assert_allclose(floored[1], without[1])


# Reductions


@given(groups(components=1))
def test_one_component_alone_is_grpo(data: Any) -> None:
    reward_QGK, valid_QG = data
    alone = Calibration(keep_utility=False, floor=0.0, reweighting=False, dataset_norm=False)
    dataset_Q = np.zeros(len(reward_QGK), dtype=int)
    for components in (True, False):
        alone.components = components
        advantage_QG, _ = calibrate(reward_QGK, np.ones(1), 0, dataset_Q, valid_QG, fresh(1), alone)
        np.testing.assert_array_equal(advantage_QG, grpo(reward_QGK[..., 0], valid_QG))


@given(groups())
def test_several_components_and_batch_whitening_are_gdpo(data: Any) -> None:
    reward_QGK, valid_QG = data
    as_gdpo = Calibration(keep_utility=False, floor=0.0, reweighting=False, dataset_norm="batch")
    dataset_Q = np.zeros(len(reward_QGK), dtype=int)
    advantage_QG, _ = calibrate(reward_QGK, WEIGHT_K, 1, dataset_Q, valid_QG, fresh(), as_gdpo)
    np.testing.assert_array_equal(advantage_QG, gdpo(reward_QGK, WEIGHT_K, valid_QG))


@given(groups())
def test_without_standardising_components_or_not_is_dr_grpo(data: Any) -> None:
    reward_QGK, valid_QG = data
    dataset_Q = np.zeros(len(reward_QGK), dtype=int)
    plain = dr_grpo(weighted_sum(reward_QGK, WEIGHT_K), valid_QG)
    for components in (True, False):
        off = Calibration(components=components, standardise=False, reweighting=False, dataset_norm=False)
        advantage_QG, _ = calibrate(reward_QGK, WEIGHT_K, 1, dataset_Q, valid_QG, fresh(3 if components else 1), off)
        np.testing.assert_allclose(advantage_QG, plain, atol=1e-12)


@given(groups(components=1))
def test_weights_proportional_to_the_spread_are_dr_grpo(data: Any) -> None:
    reward_QG, valid_QG = data[0][..., 0], data[1]
    weighted = group_spread(reward_QG, valid_QG)[:, None] * grpo(reward_QG, valid_QG, eps=0.0)
    np.testing.assert_allclose(weighted, dr_grpo(reward_QG, valid_QG), atol=1e-12)


@given(groups(components=1, all_valid=True), st.floats(0.1, 10))
def test_a_weight_of_a_whole_dataset_cancels_in_its_scale(data: Any, weight: float) -> None:
    reward_QGK, valid_QG = data
    dataset_Q = np.arange(len(reward_QGK)) % 2
    advantage_QG = dr_grpo(reward_QGK[..., 0], valid_QG)

    def normalised(advantage_QG: np.ndarray) -> np.ndarray:
        scale_D = observe_scale(Running.empty(np.zeros(2)), advantage_QG, dataset_Q, valid_QG, decay=0.0)
        return np.asarray(normalise_datasets(advantage_QG, dataset_Q, dataset_scales(scale_D, eps=0.0)))

    weighted_QG = advantage_QG * np.where(dataset_Q == 0, weight, 1.0)[:, None]
    np.testing.assert_allclose(normalised(weighted_QG), normalised(advantage_QG), atol=1e-9)


# What is optimised


def two_arms() -> tuple[np.ndarray, np.ndarray]:
    """Arm A right with p = .75, cheapness .45; arm B with p = .70, cheapness .50: all four outcomes, as often as due.

    40 groups of one rollout of each arm. At alpha = .2 the utilities are .64 and .60: A is better.
    """
    pairs = [(1.0, 1.0)] * 21 + [(1.0, 0.0)] * 9 + [(0.0, 1.0)] * 7 + [(0.0, 0.0)] * 3
    score_QG = np.array(pairs)
    cost_QG = np.tile([1 - 0.45, 1 - 0.50], (40, 1))
    return np.stack([np.ones((40, 2)), score_QG, -cost_QG], axis=-1), np.ones((40, 2), dtype=bool)


def test_dividing_by_a_spread_changes_what_is_optimised() -> None:
    reward_QGK, valid_QG = two_arms()
    total_QG = weighted_sum(reward_QGK, WEIGHT_K)
    dataset_Q = np.zeros(40, dtype=int)

    def prefers_a(advantage_QG: np.ndarray) -> bool:
        return bool((advantage_QG[:, 0] - advantage_QG[:, 1]).sum() > 0)

    def calibrated(**changed: Any) -> np.ndarray:
        made = Calibration(**changed)
        return np.asarray(calibrate(reward_QGK, WEIGHT_K, 1, dataset_Q, valid_QG, fresh(), made)[0])

    assert prefers_a(dr_grpo(total_QG, valid_QG))
    assert not prefers_a(grpo(total_QG, valid_QG))
    assert not prefers_a(gdpo(reward_QGK, WEIGHT_K, valid_QG))
    assert not prefers_a(calibrated(keep_utility=False, floor=0.0))
    assert prefers_a(calibrated())
    assert prefers_a(calibrated(reweighting=False, dataset_norm=False, floor=0.0))


# Weights


def test_weights_follow_the_sigmoid_in_either_direction() -> None:
    spread_Q = np.array([0.0, 0.2, 0.5])
    np.testing.assert_allclose(variance_weights(spread_Q, 0.2)[1], 1.25)
    np.testing.assert_allclose(variance_weights(spread_Q, 0.2)[2], 0.5 + 1.5 / (1 + np.exp(-1.5)))
    assert (np.diff(variance_weights(spread_Q, 0.2)) > 0).all()
    assert (np.diff(variance_weights(spread_Q, 0.2, inverse=True)) < 0).all()


def test_relative_weights_have_mean_one_where_they_count() -> None:
    weight_Q, counts_Q = np.array([0.5, 1.0, 2.0]), np.array([False, True, True])
    np.testing.assert_allclose(relative_weights(weight_Q, counts_Q), weight_Q / 1.5)
    np.testing.assert_array_equal(relative_weights(weight_Q, counts_Q & False), weight_Q)


def test_keeping_the_utility_leaves_the_cost_its_weight() -> None:
    reward_QGK, valid_QG = two_arms()
    dataset_Q = np.zeros(40, dtype=int)
    for reweighting in (True, "inverse", False):
        made = Calibration(reweighting=reweighting, dataset_norm=False)  # type: ignore[arg-type]
        advantage_QG, _ = calibrate(reward_QGK, WEIGHT_K, 1, dataset_Q, valid_QG, fresh(), made)
        only_cost_differs = slice(0, 21)
        np.testing.assert_allclose(advantage_QG[only_cost_differs], [[-0.005, 0.005]] * 21, rtol=1e-3)


# Datasets and state


def test_amplification_is_capped_and_waits_for_enough_rollouts() -> None:
    advantage_QG = np.array([[1.0, -1.0], [1e-4, -1e-4], [0.0, 0.0]])
    dataset_Q, valid_QG = np.array([0, 1, 2]), np.ones((3, 2), dtype=bool)
    scale_D = observe_scale(Running.empty(np.zeros(3)), advantage_QG, dataset_Q, valid_QG, decay=0.9)
    overall = np.sqrt((1 + 1e-8) / 3)
    np.testing.assert_allclose(dataset_scales(scale_D, cap=3.0), [1.0, overall / 3, overall / 3], rtol=1e-4)
    np.testing.assert_allclose(dataset_scales(scale_D)[1], 1e-4, rtol=0.02)
    np.testing.assert_allclose(dataset_scales(scale_D, least_count=3), [overall] * 3, rtol=1e-4)
    normalised_QG = normalise_datasets(advantage_QG, dataset_Q, dataset_scales(scale_D, cap=3.0))
    assert np.abs(normalised_QG[1]).max() < 1e-3
    assert (normalised_QG[2] == 0).all()


def test_running_averages_have_no_start_up_bias_and_skip_what_is_not_seen() -> None:
    running = Running.empty(np.zeros(2))
    np.testing.assert_array_equal(running.value_N, [0, 0])
    running = observe(running, np.array([4.0, 9.0]), np.array([5.0, 0.0]), decay=0.9)
    np.testing.assert_allclose(running.value_N, [4.0, 0.0])
    running = observe(running, np.array([6.0, 1.0]), np.array([1.0, 2.0]), decay=0.5)
    np.testing.assert_allclose(running.value_N, [(0.5 * 0.4 + 0.5 * 6) / (0.5 * 0.1 + 0.5), 1.0])
    np.testing.assert_array_equal(running.count_N, [6, 2])
    mean = observe_mean(Running.empty(np.zeros(1)), np.array([0.0, 0.5]), decay=0.9)
    np.testing.assert_allclose(mean.value_N, [0.25])


def test_state_is_not_changed_in_place_and_survives_a_checkpoint() -> None:
    reward_QGK, valid_QG = two_arms()
    dataset_Q = np.arange(40) % 2
    start = fresh()
    _, after = calibrate(reward_QGK, WEIGHT_K, 1, dataset_Q, valid_QG, start, Calibration())
    assert (start.spread_K.count_N == 0).all()
    again = like(after, leaves(after))
    first, _ = calibrate(reward_QGK, WEIGHT_K, 1, dataset_Q, valid_QG, after, Calibration())
    second, _ = calibrate(reward_QGK, WEIGHT_K, 1, dataset_Q, valid_QG, again, Calibration())
    np.testing.assert_array_equal(first, second)


# Backends


@given(
    groups(),
    st.sampled_from(list(ESTIMATORS)),
    st.sampled_from([True, False]),
    st.sampled_from([True, False, "inverse"]),
    st.sampled_from([True, "batch"]),
)
def test_numpy_and_torch_agree(data: Any, name: str, keep_utility: bool, reweighting: Any, dataset_norm: Any) -> None:
    reward_QGK, valid_QG = data
    made = Calibration(keep_utility=keep_utility, reweighting=reweighting, dataset_norm=dataset_norm)
    batch = batch_of(reward_QGK, WEIGHT_K, 1, np.arange(len(reward_QGK)) % 2, valid_QG)
    entry, zeros = ESTIMATORS[name], torch.zeros(3, dtype=torch.float64)
    made = entry.settings_from(made)
    by_numpy, numpy_state = entry.compute(batch, entry.start(np.zeros(3), np.zeros(2), made), made)
    by_torch, torch_state = entry.compute(as_torch(batch), entry.start(zeros, zeros[:2], made), made)
    np.testing.assert_allclose(by_torch.numpy(), by_numpy, atol=1e-9)
    for of_numpy, of_torch in zip(leaves(numpy_state), leaves(torch_state), strict=True):
        np.testing.assert_allclose(of_torch.numpy(), of_numpy, atol=1e-9)


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_every_estimator_works_on_many_seeds_at_once_as_on_one(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    reward_SQGK = torch.rand((3, 6, 5, 3), generator=generator)
    dataset_SQ = torch.randint(2, (3, 6), generator=generator)
    batches = [
        as_torch(batch_of(reward_SQGK[seed].numpy(), WEIGHT_K, 1, dataset_SQ[seed].numpy(), np.ones((6, 5), bool)))
        for seed in range(3)
    ]
    entry = ESTIMATORS[name]
    settings = entry.settings_from(Calibration())
    state = entry.start(torch.zeros(3), torch.zeros(2), settings)
    together = torch.vmap(lambda batch: entry.compute(batch, state, settings)[0])(
        Batch(*(torch.stack(parts) for parts in zip(*batches, strict=True)))
    )
    for seed, batch in enumerate(batches):
        alone, _ = entry.compute(batch, state, settings)
        torch.testing.assert_close(together[seed], alone, rtol=1e-6, atol=1e-6)
