"""Our estimators against verl's, where verl is installed: see docs/peers.md for an environment that has it.

verl takes sample standard deviations (ddof 1) and adds 1e-6 to them. Its advantages are those of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recal_bench.calibration import component_advantages, dr_grpo, gdpo, grpo, reinforce_pp, rloo, weighted_sum

algos = pytest.importorskip("verl.trainer.ppo.core_algos", reason="verl is not installed: see docs/peers.md")
pytestmark = pytest.mark.filterwarnings("ignore")  # verl and what it imports warn of each other's deprecations

Array = NDArray[np.float32]
N_QUERIES, GROUP_SIZE, PROMPT_LENGTH, RESPONSE_LENGTH = 6, 5, 2, 7
WEIGHT_K = np.array([1.0, 0.5, 0.25], dtype=np.float32)
COMPONENTS = ("format", "outcome", "cost")


def rewards(seed: int) -> Array:
    """`[Q, G, K]`, with groups in which one component, or none, has any spread; see test_trl.py."""
    rng = np.random.default_rng(seed)
    reward_QGK = rng.normal(size=(N_QUERIES, GROUP_SIZE, len(WEIGHT_K))).astype(np.float32)
    reward_QGK[..., 1] = rng.integers(0, 2, reward_QGK.shape[:-1])
    reward_QGK[0, :, 1] = 1.0
    reward_QGK[1, :, 1:] = 0.5
    reward_QGK[2] = 0.25
    return reward_QGK


def lengths(kind: str, seed: int = 0) -> NDArray[np.int64]:
    """Tokens of each response, `[Q, G]`."""
    if kind == "unequal":
        return np.random.default_rng([seed, 1]).integers(1, RESPONSE_LENGTH + 1, (N_QUERIES, GROUP_SIZE))
    return np.full((N_QUERIES, GROUP_SIZE), 1 if kind == "one token" else RESPONSE_LENGTH)


@dataclass
class Responses:
    """A batch as verl has it: a row a response (N), a column a token (T), the reward on the last token."""

    length_QG: NDArray[np.int64]

    def __post_init__(self) -> None:
        self.length_N = torch.from_numpy(self.length_QG.reshape(-1))
        self.mask_NT = (torch.arange(RESPONSE_LENGTH) < self.length_N[:, None]).float()
        name_Q = np.array([f"query {q}" for q in range(len(self.length_QG))], dtype=object)
        self.uid_N = np.repeat(name_Q, self.length_QG.shape[1])

    def on_tokens(self, reward_QG: Array) -> torch.Tensor:
        reward_NT = torch.zeros_like(self.mask_NT)
        reward_NT[torch.arange(len(reward_NT)), self.length_N - 1] = torch.from_numpy(reward_QG.reshape(-1))
        return reward_NT

    def of_responses(self, advantage_NT: torch.Tensor) -> Array:
        """`[Q, G]`: what every token of a response got."""
        advantage_N = advantage_NT[:, 0]
        spread_NT = advantage_N[:, None] * self.mask_NT
        torch.testing.assert_close(advantage_NT, spread_NT, rtol=0, atol=0, equal_nan=True)
        return advantage_N.numpy().reshape(self.length_QG.shape)

    def estimate(self, name: str, reward_QG: Array, **settings: Any) -> Array:
        estimator = algos.get_adv_estimator_fn(name)
        reward_NT = self.on_tokens(reward_QG)
        advantage_NT, _ = estimator(
            token_level_rewards=reward_NT, response_mask=self.mask_NT, index=self.uid_N, **settings
        )
        return self.of_responses(advantage_NT)

    def gdpo(self, reward_QGK: Array, weight_K: Array) -> Array:
        from verl.trainer.config import AlgoConfig

        prompt_NP = torch.ones(len(self.mask_NT), PROMPT_LENGTH)
        return self.estimate(
            "gdpo",
            weighted_sum(reward_QGK, weight_K),
            config=AlgoConfig(gdpo_reward_keys=list(COMPONENTS), gdpo_reward_weights=weight_K.tolist()),
            non_tensor_batch={name: reward_QGK[..., k].reshape(-1) for k, name in enumerate(COMPONENTS)},
            batch={"prompts": prompt_NP, "attention_mask": torch.cat([prompt_NP, self.mask_NT], 1).long()},
        )


def everywhere(reward: Array) -> NDArray[np.bool_]:
    return np.ones(reward.shape[:2], dtype=bool)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["grpo", "grpo_vectorized"])
def test_grpo_and_dr_grpo_agree_whatever_the_lengths(name: str, seed: int) -> None:
    reward_QG = weighted_sum(rewards(seed), WEIGHT_K)
    responses = Responses(lengths("unequal", seed))
    theirs_QG = responses.estimate(name, reward_QG)
    np.testing.assert_allclose(grpo(reward_QG, everywhere(reward_QG), eps=1e-6, ddof=1), theirs_QG, atol=1e-5)
    theirs_QG = responses.estimate(name, reward_QG, norm_adv_by_std_in_grpo=False)
    np.testing.assert_allclose(dr_grpo(reward_QG, everywhere(reward_QG)), theirs_QG, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["rloo", "rloo_vectorized"])
def test_rloo_agrees_whatever_the_lengths(name: str, seed: int) -> None:
    reward_QG = weighted_sum(rewards(seed), WEIGHT_K)
    theirs_QG = Responses(lengths("unequal", seed)).estimate(name, reward_QG)
    np.testing.assert_allclose(rloo(reward_QG, everywhere(reward_QG)), theirs_QG, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_is_whitened_over_the_batch_agrees_for_responses_of_one_token(seed: int) -> None:
    from verl.trainer.config import AlgoConfig

    reward_QGK = rewards(seed)
    responses = Responses(lengths("one token"))
    ours_QG = gdpo(reward_QGK, WEIGHT_K, everywhere(reward_QGK), ddof=1)
    np.testing.assert_allclose(ours_QG, responses.gdpo(reward_QGK, WEIGHT_K), atol=1e-5)
    reward_QG = weighted_sum(reward_QGK, WEIGHT_K)
    theirs_QG = responses.estimate("reinforce_plus_plus", reward_QG, config=AlgoConfig(gamma=1.0))
    np.testing.assert_allclose(reinforce_pp(reward_QG, everywhere(reward_QG), ddof=1), theirs_QG, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gdpo_for_equal_lengths_differs_by_the_count_of_tokens_in_the_variance(seed: int) -> None:
    """n tokens are whitened with n - 1 in the denominator, where we count responses: a factor next to 1."""
    reward_QGK = rewards(seed)
    n_responses, n_tokens = N_QUERIES * GROUP_SIZE, N_QUERIES * GROUP_SIZE * RESPONSE_LENGTH
    factor = np.sqrt(n_responses / (n_responses - 1) * (n_tokens - 1) / n_tokens)
    ours_QG = gdpo(reward_QGK, WEIGHT_K, everywhere(reward_QGK), ddof=1)
    theirs_QG = Responses(lengths("equal")).gdpo(reward_QGK, WEIGHT_K)
    np.testing.assert_allclose(ours_QG * factor, theirs_QG, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gdpo_for_unequal_lengths_differs_since_verl_weighs_responses_by_their_tokens(seed: int) -> None:
    reward_QGK = rewards(seed)
    length_QG = lengths("unequal", seed)
    valid_QG = everywhere(reward_QGK)
    theirs_QG = Responses(length_QG).gdpo(reward_QGK, WEIGHT_K)
    ours_QG = gdpo(reward_QGK, WEIGHT_K, valid_QG, ddof=1)
    assert np.abs(ours_QG - theirs_QG).max() > 0.02
    # Ours are centred over the responses, theirs over the tokens.
    assert abs(ours_QG.mean()) < 1e-6 < 1e-3 < abs(theirs_QG.mean())
    assert abs(np.average(theirs_QG, weights=length_QG)) < 1e-6
    # Up to the whitening they are the same: ours with every response counted once for each of its tokens.
    summed_QG = weighted_sum(component_advantages(reward_QGK, valid_QG, ddof=1), WEIGHT_K)
    by_token = np.repeat(summed_QG.reshape(-1), length_QG.reshape(-1))
    expected_QG = (summed_QG - by_token.mean()) / by_token.std(ddof=1)
    np.testing.assert_allclose(theirs_QG, expected_QG, atol=1e-5)


@pytest.mark.parametrize("name", ["grpo", "grpo_vectorized", "rloo"])
def test_a_group_of_one_gets_its_raw_reward_from_verl_and_nothing_from_us(name: str) -> None:
    reward_QG = np.float32([[0.75], [-0.5]])
    theirs_QG = Responses(np.full((2, 1), 3)).estimate(name, reward_QG)
    np.testing.assert_allclose(theirs_QG, reward_QG, rtol=1e-5)
    ours = rloo if name == "rloo" else grpo
    assert (ours(reward_QG, everywhere(reward_QG)) == 0).all()
    assert (Responses(np.full((2, 1), 3)).estimate("rloo_vectorized", reward_QG) == 0).all()


@pytest.mark.parametrize("name", ["grpo", "grpo_vectorized"])
def test_without_spread_ours_is_exactly_zero_and_theirs_nearly(name: str) -> None:
    """The mean of equal values is not always that value in float32, and dividing by 1e-6 makes the error visible."""
    reward_QG = np.tile(np.float32([0.1, 0.2, 0.3, 0.6, 0.7])[:, None], (1, 7))
    theirs_QG = Responses(np.full(reward_QG.shape, 3)).estimate(name, reward_QG)
    assert 0 < np.abs(theirs_QG).max() < 1
    assert (grpo(reward_QG, everywhere(reward_QG), ddof=1) == 0).all()


def test_a_missing_component_spoils_verls_whole_batch_and_is_left_out_by_us() -> None:
    reward_QGK = rewards(0)
    reward_QGK[3, 1, 0] = np.nan
    assert np.isnan(Responses(lengths("equal")).gdpo(reward_QGK, WEIGHT_K)).all()
    assert np.isfinite(gdpo(reward_QGK, WEIGHT_K, everywhere(reward_QGK))).all()
