"""Our estimators against the advantages that TRL's own trainers compute, trained for real on a model made here.

TRL takes sample standard deviations (ddof 1) and adds 1e-4 to them. See docs/peers.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recal_bench.calibration import dr_grpo, gdpo, grpo, lite_ppo, rloo, weighted_sum

pytest.importorskip("trl", minversion="1.16", reason="TRL is not installed: see docs/peers.md")
# TRL, transformers and torch warn of each other's deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")

Array = NDArray[np.float32]
EPS = 1e-4
N_STEPS, N_QUERIES, GROUP_SIZE = 3, 5, 6
WEIGHT_K = np.array([1.0, 0.5, 0.25], dtype=np.float32)


def rewards(seed: int) -> Array:
    """`[S, Q, G, K]`: three steps, with groups in which one component, or none, has any spread.

    Weights and what does not vary are sums of a few powers of two, so that float32 holds their means exactly.
    """
    rng = np.random.default_rng(seed)
    reward_SQGK = rng.normal(size=(N_STEPS, N_QUERIES, GROUP_SIZE, len(WEIGHT_K))).astype(np.float32)
    reward_SQGK[..., 1] = rng.integers(0, 2, reward_SQGK.shape[:-1])
    reward_SQGK[:, 0, :, 1] = 1.0
    reward_SQGK[:, 1, :, 1:] = 0.5
    reward_SQGK[:, 2] = 0.25
    return reward_SQGK


def with_gaps(reward_SQGK: Array) -> Array:
    """NaN in places: single components, whole rollouts, all rollouts of a group, and all but one."""
    reward_SQGK = reward_SQGK.copy()
    reward_SQGK[:, 0, 1, 0] = np.nan
    reward_SQGK[:, 4, 2, 1:] = np.nan
    reward_SQGK[:, 4, 5] = np.nan
    reward_SQGK[1, 1] = np.nan
    reward_SQGK[2, 3, 1:] = np.nan
    return reward_SQGK


def preset(reward_SQGK: Array, component: int) -> Callable[..., list[float | None]]:
    """A reward function for TRL that returns the values we chose, each query's in the order of its rollouts."""

    def reward(query: list[int], trainer_state: Any, **_: Any) -> list[float | None]:
        reward_QG = reward_SQGK[trainer_state.global_step, :, :, component]
        rollout = {q: iter(reward_QG[q].tolist()) for q in set(query)}
        values = [next(rollout[q]) for q in query]
        return [None if np.isnan(value) else value for value in values]

    reward.__name__ = f"component_{component}"
    return reward


def trained(kind: str, reward_SQGK: Array, folder: Path, **settings: Any) -> Array:
    """The advantages `[S, Q, G]` of a short training by TRL's `{kind}Trainer`, one batch of all queries a step."""
    import trl
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    n_steps, n_queries, group_size, n_components = reward_SQGK.shape
    words = ["<pad>", "<eos>", *(f"word{i}" for i in range(14))]
    word_level = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    word_level.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=word_level, pad_token="<pad>", eos_token="<eos>")
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=32,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=1,
        )
    )
    advantage_SQG = np.full(reward_SQGK.shape[:-1], np.nan, dtype=np.float32)

    class Watched(getattr(trl, f"{kind}Trainer")):
        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            scored = super()._generate_and_score_completions(inputs)
            query = np.array([example["query"] for example in inputs])
            for q in range(n_queries):
                advantage_SQG[self.state.global_step, q] = scored["advantages"].numpy()[query == q]
            return scored

    Watched(
        model=model,
        reward_funcs=[preset(reward_SQGK, component) for component in range(n_components)],
        args=getattr(trl, f"{kind}Config")(
            output_dir=str(folder),
            max_steps=n_steps,
            per_device_train_batch_size=n_queries * group_size,
            num_generations=group_size,
            max_completion_length=2,
            beta=0.0,
            reward_weights=WEIGHT_K[:n_components].tolist(),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            **settings,
        ),
        train_dataset=Dataset.from_dict({"prompt": [f"word{q}" for q in range(n_queries)], "query": range(n_queries)}),
        processing_class=tokenizer,
    ).train()
    assert not np.isnan(advantage_SQG).any()
    return advantage_SQG


def everywhere(reward: Array) -> NDArray[np.bool_]:
    return np.ones(reward.shape[:2], dtype=bool)


def scorable(reward_QGK: Array) -> NDArray[np.bool_]:
    """TRL leaves a rollout out where it has no component at all."""
    return ~np.isnan(reward_QGK).all(axis=-1)


OF_THE_SUM: dict[str, tuple[str, dict[str, Any], Callable[..., Any]]] = {
    "group": ("GRPO", {"scale_rewards": "group"}, lambda r, v: grpo(r, v, eps=EPS, ddof=1)),
    "batch": ("GRPO", {"scale_rewards": "batch"}, lambda r, v: lite_ppo(r, v, eps=EPS, ddof=1)),
    "none": ("GRPO", {"scale_rewards": "none"}, dr_grpo),
    "rloo": ("RLOO", {}, rloo),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", OF_THE_SUM)
def test_estimators_of_the_summed_reward_agree(name: str, seed: int, tmp_path: Path) -> None:
    kind, settings, ours = OF_THE_SUM[name]
    reward_SQGK = rewards(seed)
    theirs_SQG = trained(kind, reward_SQGK, tmp_path, **settings)
    for reward_QGK, theirs_QG in zip(reward_SQGK, theirs_SQG, strict=True):
        ours_QG = ours(weighted_sum(reward_QGK, WEIGHT_K), everywhere(reward_QGK))
        np.testing.assert_allclose(ours_QG, theirs_QG, atol=1e-5, rtol=1e-5)
        assert (ours_QG[2] == 0).all()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("n_components", [1, 3])
def test_gdpo_agrees(n_components: int, seed: int, tmp_path: Path) -> None:
    reward_SQGK = rewards(seed)[..., :n_components]
    theirs_SQG = trained("GRPO", reward_SQGK, tmp_path, multi_objective_aggregation="normalize_then_sum")
    for reward_QGK, theirs_QG in zip(reward_SQGK, theirs_SQG, strict=True):
        ours_QG = gdpo(reward_QGK, WEIGHT_K[:n_components], everywhere(reward_QGK), eps=EPS, ddof=1)
        np.testing.assert_allclose(ours_QG, theirs_QG, atol=1e-5, rtol=1e-5)


def test_gdpo_leaves_out_the_same_missing_components(tmp_path: Path) -> None:
    reward_SQGK = with_gaps(rewards(0))
    theirs_SQG = trained("GRPO", reward_SQGK, tmp_path, multi_objective_aggregation="normalize_then_sum")
    for reward_QGK, theirs_QG in zip(reward_SQGK, theirs_SQG, strict=True):
        ours_QG = gdpo(reward_QGK, WEIGHT_K, scorable(reward_QGK), eps=EPS, ddof=1)
        np.testing.assert_allclose(ours_QG, theirs_QG, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", OF_THE_SUM)
def test_rollouts_without_any_reward_are_left_out_alike(name: str, tmp_path: Path) -> None:
    kind, settings, ours = OF_THE_SUM[name]
    reward_SQGK = rewards(0)
    reward_SQGK[np.isnan(with_gaps(reward_SQGK)).all(axis=-1)] = np.nan
    theirs_SQG = trained(kind, reward_SQGK, tmp_path, **settings)
    for reward_QGK, theirs_QG in zip(reward_SQGK, theirs_SQG, strict=True):
        ours_QG = ours(weighted_sum(reward_QGK, WEIGHT_K), everywhere(reward_QGK))
        np.testing.assert_allclose(ours_QG, theirs_QG, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", OF_THE_SUM)
def test_in_a_sum_trl_takes_a_missing_component_for_zero_and_we_do_not(name: str, tmp_path: Path) -> None:
    kind, settings, ours = OF_THE_SUM[name]
    reward_SQGK = with_gaps(rewards(0))
    theirs_SQG = trained(kind, reward_SQGK, tmp_path, **settings)
    for reward_QGK, theirs_QG in zip(reward_SQGK, theirs_SQG, strict=True):
        filled_QG = weighted_sum(np.nan_to_num(reward_QGK), WEIGHT_K)
        np.testing.assert_allclose(ours(filled_QG, scorable(reward_QGK)), theirs_QG, atol=1e-5, rtol=1e-5)
        ours_QG = ours(weighted_sum(reward_QGK, WEIGHT_K), everywhere(reward_QGK))
        partly_QG = np.isnan(reward_QGK).any(axis=-1) & scorable(reward_QGK)
        assert (ours_QG[partly_QG] == 0).all()
        assert (theirs_QG[partly_QG] != 0).any()


def test_without_spread_ours_is_exactly_zero_and_theirs_nearly(tmp_path: Path) -> None:
    """The mean of equal values is not always that value in float32, and dividing by 1e-4 makes the error visible."""
    reward_QGK = np.tile(np.float32([0.1, 0.2, 0.3, 0.6, 0.7])[:, None, None], (1, 7, 1))
    theirs_QG = trained("GRPO", reward_QGK[None], tmp_path)[0]
    assert 0 < np.abs(theirs_QG).max() < 1e-2
    assert (grpo(reward_QGK[..., 0], everywhere(reward_QGK), eps=EPS, ddof=1) == 0).all()
