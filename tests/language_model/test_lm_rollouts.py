"""Trajectories of several rounds: which tokens are learnt from, and what is billed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trl", minversion="1.16", reason="TRL is not installed: it comes with the extra lm")

import preset_training as preset
import torch
from datasets import Dataset
from trl import GRPOConfig

from recal_bench import routers
from recal_bench.calibration import ESTIMATORS
from recal_bench.calibration.rewards import REWARDS, Terms
from recal_bench.language_model.dialogue import Dialogue
from recal_bench.language_model.local import tiny
from recal_bench.language_model.pool import LoggedPool
from recal_bench.language_model.prompting import describe
from recal_bench.language_model.protocol import Turn, render
from recal_bench.language_model.rollouts import Rollout, TrainingRollouts, roll_out
from recal_bench.language_model.router import LanguageModelRouter
from recal_bench.language_model.trainer import Advantages, ComponentTrainer
from recal_bench.routers import Calls

# TRL, transformers and torch warn of each other's deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")

TOKEN_PRICE = 0.5
GROUP_SIZE = 4
SPLIT = preset.small_split(6, responses=True)
ARMS = SPLIT.outcomes.arms


@pytest.fixture(scope="module")
def dialogue() -> Dialogue:
    texts = [*SPLIT.queries.prompt, *(render(Turn("", arm, None, None)) for arm in ARMS)]
    return Dialogue(tiny(texts, 0, hidden=32, layers=1), ARMS, describe(), rounds=3, max_new_tokens=12)


def spoken(dialogue: Dialogue) -> dict[str, list[int]]:
    """Replies by what they do."""
    route = {f"call {number}": dialogue.reply_ids(Turn("", arm, None, None)) for number, arm in enumerate(ARMS)}
    broken = [*dialogue.local.tokenizer("river lake")["input_ids"], dialogue.local.tokenizer.eos_token_id]
    return {**route, "answer": dialogue.reply_ids(Turn("", None, None, "a song")), "broken": broken}


SCRIPTS = (
    ["call 0", "call 0", "call 1"],
    ["call 2", "answer"],
    ["call 1", "broken"],
    ["broken"],
    ["answer"],
    ["call 1", "call 2", "call 2"],
)
"""What the policy says round by round, of each query."""
CALLED = ([0, 0, 1], [2], [1], [], [], [1, 2, 2])
WELL_FORMED = (True, True, False, False, False, True)


def scripted(dialogue: Dialogue, prompts: list[list[int]]) -> Any:
    """A policy that says its scripts; a reply is told from another by the prompt that it begins with."""
    replies, said = spoken(dialogue), [0] * len(prompts)

    def generate(given: list[list[int]]) -> list[list[int]]:
        told = []
        for ids in given:
            row = next(number for number, prompt in enumerate(prompts) if ids[: len(prompt)] == prompt)
            told.append(list(replies[SCRIPTS[row][said[row]]]))
            said[row] += 1
        return told

    return generate


@pytest.fixture(scope="module")
def rollouts(dialogue: Dialogue) -> list[Rollout]:
    prompts = [dialogue.prompt_ids(each) for each in SPLIT.queries.prompt]
    pool = LoggedPool.of(SPLIT, np.arange(3), None, 1.0)
    return roll_out(dialogue, prompts, range(6), scripted(dialogue, prompts), pool.answers)


def test_the_mask_is_of_what_the_policy_wrote(dialogue: Dialogue, rollouts: list[Rollout]) -> None:
    replies = spoken(dialogue)
    for rollout, script, called, good in zip(rollouts, SCRIPTS, CALLED, WELL_FORMED, strict=True):
        assert rollout.calls == called
        assert rollout.well_formed == good
        written = [token for token, own in zip(rollout.completion_ids, rollout.mask, strict=True) if own]
        assert written == [token for said in script for token in replies[said]]
        inserted = [token for token, own in zip(rollout.completion_ids, rollout.mask, strict=True) if not own]
        told = [SPLIT.outcomes.response_QA[rollout.row, arm] for arm in called[: len(script) - 1]]
        assert inserted == [token for text in told for token in dialogue.information_ids(text)]


def test_each_arm_is_paid_once_and_every_token_read_or_written(dialogue: Dialogue, rollouts: list[Rollout]) -> None:
    """In training, in units of `cost_ref`, and while routing, in USD: the same bill."""
    price = TOKEN_PRICE / 1e6
    pool = LoggedPool.of(SPLIT, np.arange(3), None, 1.0)
    reward = REWARDS["components"](Terms(SPLIT.objective.alpha, True))
    prompts = [dialogue.prompt_ids(each) for each in SPLIT.queries.prompt]
    training = TrainingRollouts(
        dialogue, pool, reward, prompts, price / SPLIT.objective.cost_ref, False, torch.zeros(0)
    )
    cost_N = -training.judge(rollouts)[:, reward.names.index("cost")] * SPLIT.objective.cost_ref

    router = LanguageModelRouter(token_price=TOKEN_PRICE, rounds=3)
    router.arms, router._fallback, router._dialogue = ARMS, [str(arm) for arm in ARMS], dialogue
    calls = Calls(
        ARMS, SPLIT.objective, np.ones((6, 3), dtype=bool), np.arange(3.0),
        lambda row, arm: routers.Reply(SPLIT.outcomes.response_QA[row, arm], 0.0),
    )  # fmt: skip
    generate, dialogue.generate = dialogue.generate, scripted(dialogue, prompts)  # type: ignore[method-assign]
    decisions = router.route(SPLIT.queries, calls)
    dialogue.generate = generate  # type: ignore[method-assign]

    paid_QA = calls.paid_QA(decisions)
    for row, (rollout, called) in enumerate(zip(rollouts, CALLED, strict=True)):
        # Whoever is malformed is answered by the first arm, which is then paid too.
        assert set(np.flatnonzero(paid_QA[row])) == {*called} | (set() if WELL_FORMED[row] else {0})
        rounds = len(SCRIPTS[row])
        lengths = [len(spoken(dialogue)[said]) for said in SCRIPTS[row]]
        told = [len(dialogue.information_ids(SPLIT.outcomes.response_QA[row, arm])) for arm in called[: rounds - 1]]
        # Each round reads the prompt, and all that was said and told before it.
        tokens = sum(len(prompts[row]) + sum(lengths[: turn + 1]) + sum(told[:turn]) for turn in range(rounds))
        assert rollout.tokens == tokens
        assert calls.router_cost_Q[row] == pytest.approx(tokens * price)
        if WELL_FORMED[row]:
            usd = SPLIT.outcomes.cost_QA[row, list({*called})].sum() + tokens * price
            assert float(cost_N[row]) == pytest.approx(usd, rel=1e-5)
            assert decisions.arm_Q[row] == called[-1]
        else:
            assert cost_N[row] == 0


def test_no_token_that_was_inserted_is_learnt_from(dialogue: Dialogue, rollouts: list[Rollout], tmp_path: Path) -> None:
    """By the gradient of the loss by each token's log-probability: it is not 0 at just what the policy wrote."""
    pool = LoggedPool.of(SPLIT, np.arange(3), None, 1.0)
    reward = REWARDS["components"](Terms(SPLIT.objective.alpha, True))
    prompts = [dialogue.prompt_ids(each) for each in SPLIT.queries.prompt]
    generate, broken = scripted(dialogue, prompts), spoken(dialogue)["broken"]
    seen: dict[str, Any] = {}

    class Watched(ComponentTrainer):
        def _generate_single_turn(self, prompt_ids: Any, *_: Any) -> Any:
            """Of a query's rollouts all but the first break a rule at once, so that there is something to learn."""
            begins = len(prompt_ids) == len(prompts) * GROUP_SIZE
            own = [not begins or place % GROUP_SIZE == 0 for place in range(len(prompt_ids))]
            said = iter(generate([ids for ids, mine in zip(prompt_ids, own, strict=True) if mine]))
            return [next(said) if mine else list(broken) for mine in own], None

        def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
            logps, *rest = super()._get_per_token_logps_and_entropies(*args, **kwargs)
            if logps.requires_grad:
                logps.register_hook(lambda gradient: seen.update(gradient=gradient.clone()))
            return logps, *rest

        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            seen.update(inputs=inputs)
            return super()._compute_loss(model, inputs)

    entry = ESTIMATORS["dr-grpo"]
    Watched(
        model=dialogue.local.model,
        processing_class=dialogue.local.tokenizer,
        reward_funcs=[preset.component(number) for number in range(len(reward.names))],
        args=GRPOConfig(
            output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=6 * GROUP_SIZE,
            num_generations=GROUP_SIZE, max_completion_length=12, shuffle_dataset=False, loss_type="dr_grpo",
            reward_weights=list(reward.weights), remove_unused_columns=False, use_cpu=True, bf16=False,
            gradient_checkpointing=False, report_to="none", save_strategy="no", disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"prompt": [str(row) for row in range(6)], "row": list(range(6))}),
        rollout_func=TrainingRollouts(dialogue, pool, reward, prompts, 0.0, False, torch.zeros(0)),
        advantages=Advantages(entry, entry.settings(), reward.weights, reward.outcome, torch.zeros(6).long()),
        watch=lambda judged: None,
    ).train()  # fmt: skip
    gradient, inputs = seen["gradient"], seen["inputs"]
    mask_of = {tuple(each.completion_ids): each.mask for each in rollouts} | {tuple(broken): [1] * len(broken)}
    counted = 0
    for place in range(6 * GROUP_SIZE):
        length = int(inputs["completion_mask"][place].sum())
        mask = mask_of[tuple(inputs["completion_ids"][place, :length].tolist())]
        learnt = gradient[place] != 0
        if inputs["advantages"][place] == 0:
            assert not learnt.any()
        else:
            assert learnt[:length].int().tolist() == mask
            assert not learnt[length:].any()
            counted += int(0 in mask)
    assert counted == 3
