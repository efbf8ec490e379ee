"""Reward components and their hierarchy, and Router-R1's reward, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.calibration import Component, Drawn, component
from recal_bench.calibration.components import Weighted
from recal_bench.calibration.rewards import (
    Components,
    RouterR1,
    Terms,
    component_names,
    component_rewards,
    component_weights,
    quantile,
    router_r1_reward,
)
from recal_bench.errors import PluginError
from recal_bench.outcomes import Objective


def test_each_level_is_gated_by_the_one_above() -> None:
    well_formed_QG = np.array([[True, True, False, False]])
    score_QG, cost_QG = np.array([[1.0, 0.0, 1.0, 0.0]]), np.array([[0.5, 0.25, 0.5, 0.25]])
    expected = [[[1, 1, -0.5], [1, 0, -0.25], [0, 0, 0], [0, 0, 0]]]
    np.testing.assert_array_equal(component_rewards(well_formed_QG, score_QG, cost_QG), expected)
    gated = [[[1, 1, -0.5], [1, 0, 0], [0, 0, 0], [0, 0, 0]]]
    np.testing.assert_array_equal(component_rewards(well_formed_QG, score_QG, cost_QG, gate_cost=True), gated)


@given(st.floats(0, 1), st.floats(0, 3), st.floats(0, 2))
def test_the_sum_of_a_well_formed_action_is_its_utility_and_one(score: float, cost: float, alpha: float) -> None:
    components = component_rewards(np.array([[True]]), np.array([[score]]), np.array([[cost]]))
    total = (components * np.array(component_weights(alpha, has_cost=True))).sum()
    utility = Objective(alpha, cost_ref=0.002).utility(np.array(score), np.array(cost * 0.002))
    assert total == pytest.approx(1 + float(utility))


def test_without_cost_in_the_data_there_is_no_cost_component() -> None:
    reward = Components(Terms(alpha=0.2, has_cost=False))
    components, _ = reward(Drawn(np.array([[True]]), np.array([[0.5]]), np.zeros((1, 1)), {}), [np.zeros(0)])
    assert components.shape == (1, 1, 2)
    assert reward.names == component_names(False) == ("format", "outcome")
    assert reward.weights == (1.0, 1.0)


def test_router_r1_by_hand() -> None:
    # Square roots of the costs of well-formed actions: 1, 2, 3, 4, 5; quantiles .05 and .95: 1.2 and 4.8.
    well_formed_QG = np.array([[True, True, True, True, True, False]])
    score_QG = np.array([[1.0, 1.0, 0.0, 0.5, 1.0, 1.0]])
    cost_QG = np.array([[1.0, 4.0, 9.0, 16.0, 25.0, 1e6]])
    reward_QG, buffer_N = router_r1_reward(well_formed_QG, score_QG, cost_QG, np.zeros(0), alpha=0.2)
    cheap = [1.0, 1 - 0.8 / 3.6, None, 1 - 2.8 / 3.6, 0.0]
    expected = [0.8 + 0.2 * cheap[0], 0.8 + 0.2 * cheap[1], 0.0, 0.4 + 0.2 * cheap[3], 0.8, -1.0]  # type: ignore[operator]
    np.testing.assert_allclose(reward_QG, [expected])
    np.testing.assert_array_equal(buffer_N, [1, 2, 3, 4, 5])


def test_router_r1_without_a_range_or_any_cost_is_in_the_middle() -> None:
    one = np.ones((1, 2))
    reward_QG, _ = router_r1_reward(one > 0, one, one, np.zeros(0), alpha=0.4)
    np.testing.assert_allclose(reward_QG, [[0.8, 0.8]])
    reward_QG, buffer_N = router_r1_reward(one < 0, one, one, np.zeros(0), alpha=0.4)
    np.testing.assert_array_equal(reward_QG, [[-1, -1]])
    assert len(buffer_N) == 0


def test_router_r1_keeps_the_last_thousand_costs_in_torch_as_in_numpy() -> None:
    rng = np.random.default_rng(0)
    well_formed_QG, score_QG = rng.random((40, 30)) < 0.9, rng.integers(0, 2, (40, 30)).astype(float)
    cost_QG = rng.random((40, 30))
    by_numpy, buffer_N = router_r1_reward(well_formed_QG, score_QG, cost_QG, np.zeros(0), alpha=0.2)
    by_torch, torch_buffer_N = router_r1_reward(
        *map(torch.tensor, (well_formed_QG, score_QG, cost_QG)), torch.zeros(0, dtype=torch.float64), alpha=0.2
    )
    np.testing.assert_allclose(by_torch.numpy(), by_numpy)
    np.testing.assert_allclose(torch_buffer_N.numpy(), buffer_N)
    assert len(buffer_N) == 1000
    np.testing.assert_allclose(buffer_N, np.sqrt(cost_QG[well_formed_QG])[-1000:])


@given(st.lists(st.floats(0, 10), min_size=1, max_size=20), st.floats(0, 1))
def test_quantile_is_numpys(values: list[float], level: float) -> None:
    np.testing.assert_allclose(quantile(np.array(values), level), np.quantile(values, level), atol=1e-9)


def test_router_r1_is_one_component() -> None:
    reward = RouterR1(Terms(alpha=0.2, has_cost=True))
    one = np.ones((4, 2, 3))
    reward_SQGK, buffers = reward(Drawn(one > 0, one, one, {}), [np.zeros(0)] * 4)
    assert reward_SQGK.shape == (4, 2, 3, 1)
    assert [len(buffer_N) for buffer_N in buffers] == [6] * 4
    assert (reward.names, reward.weights, reward.outcome) == (("router-r1",), (1.0,), 0)


# Components of one's own


def late(drawn: Drawn) -> np.ndarray:
    return -drawn.column_QG["latency_s"]


def test_a_further_component_counts_for_well_formed_actions_and_keeps_what_is_missing() -> None:
    added = (Weighted(Component("late", late, ("latency_s",), 1.0), 0.25),)
    reward = Components(Terms(alpha=0.2, has_cost=True, added=added))
    one = np.ones((1, 3))
    drawn = Drawn(np.array([[True, True, False]]), one, one, {"latency_s": np.array([[4.0, np.nan, np.nan]])})
    reward_QGK, _ = reward(drawn, [])
    np.testing.assert_array_equal(reward_QGK[..., 3], [[-4.0, np.nan, 0.0]])
    assert (reward.names, reward.weights) == (("format", "outcome", "cost", "late"), (1.0, 1.0, 0.2, 0.25))
    assert reward.priced == 2


def test_a_component_of_another_shape_or_a_taken_name_is_refused() -> None:
    added = (Weighted(Component("short", lambda drawn: drawn.score_QG[:, :1], (), 1.0), 1.0),)
    one = np.ones((1, 3))
    with pytest.raises(PluginError, match="component short must give one reward an action"):
        Components(Terms(alpha=0.2, has_cost=True, added=added))(Drawn(one > 0, one, one, {}), [])
    with pytest.raises(PluginError, match="component cost: every reward has one of that name"):
        component("cost")
