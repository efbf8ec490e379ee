"""Learned scores of rounds: what Clip and Delta bound, and what n-step returns are in their limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recal_bench.calibration.process import clip_scores, n_step_returns, score_deltas

scores = arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 6)), elements=st.floats(-10, 10))
thresholds = st.floats(-5, 5)


@given(scores, thresholds)
def test_clipped_scores_only_lose(score_NT: Any, threshold: float) -> None:
    clipped_NT = clip_scores(score_NT, threshold)
    assert (clipped_NT <= 0).all()
    assert (clipped_NT.sum(axis=-1) <= 0).all()
    np.testing.assert_array_equal(clipped_NT, np.minimum(score_NT - threshold, 0))
    longer_NT = clip_scores(np.concatenate([score_NT, score_NT], axis=-1), threshold)
    assert (longer_NT.sum(axis=-1) <= clipped_NT.sum(axis=-1)).all()


@given(scores)
def test_from_any_round_on_deltas_add_up_to_its_score(score_NT: Any) -> None:
    delta_NT = score_deltas(score_NT)
    from_T = np.flip(np.flip(delta_NT, axis=-1).cumsum(axis=-1), axis=-1)
    np.testing.assert_allclose(from_T, score_NT, atol=1e-9)


@given(scores, st.integers(0, 5), st.data())
def test_repeating_a_round_collects_nothing_by_delta(score_NT: Any, again: int, data: st.DataObject) -> None:
    row = score_NT[0]
    at = data.draw(st.integers(0, len(row) - 1))
    repeated = np.concatenate([row[:at], np.full(again, row[at]), row[at:]])
    np.testing.assert_allclose(score_deltas(repeated).sum(), score_deltas(row).sum(), atol=1e-9)


@given(scores, st.floats(0, 1), st.integers(0, 3), st.data())
def test_n_step_returns_are_one_step_targets_and_monte_carlo_in_their_limits(
    reward_NT: Any, discount: float, more: int, data: st.DataObject
) -> None:
    value_NT = data.draw(arrays(np.float64, reward_NT.shape, elements=st.floats(-10, 10)))
    rounds = reward_NT.shape[-1]
    np.testing.assert_array_equal(n_step_returns(reward_NT, value_NT, 0, discount), value_NT)
    following_NT = np.concatenate([value_NT[:, 1:], np.zeros((len(value_NT), 1))], axis=1)
    one_NT = n_step_returns(reward_NT, value_NT, 1, discount)
    np.testing.assert_allclose(one_NT, reward_NT + discount * following_NT, atol=1e-9)
    power_TT = np.triu([[discount ** max(0, to - at) for to in range(rounds)] for at in range(rounds)])
    monte_carlo_NT = reward_NT @ power_TT.T
    np.testing.assert_allclose(n_step_returns(reward_NT, value_NT, rounds + more, discount), monte_carlo_NT, atol=1e-9)
    np.testing.assert_allclose(
        n_step_returns(reward_NT, monte_carlo_NT, data.draw(st.integers(0, 7)), discount), monte_carlo_NT, atol=1e-8
    )


@given(scores, thresholds, st.integers(0, 4))
def test_torch_gives_what_numpy_gives(score_NT: Any, threshold: float, steps: int) -> None:
    as_torch = torch.tensor(score_NT)
    np.testing.assert_array_equal(clip_scores(as_torch, threshold).numpy(), clip_scores(score_NT, threshold))
    np.testing.assert_array_equal(score_deltas(as_torch).numpy(), score_deltas(score_NT))
    np.testing.assert_allclose(
        n_step_returns(as_torch, as_torch, steps, 0.5), n_step_returns(score_NT, score_NT, steps, 0.5)
    )
