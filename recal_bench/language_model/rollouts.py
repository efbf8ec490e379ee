"""Rollouts: up to T rounds of a reply and what the called arm answers to it, for training and for routing alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recal_bench.calibration.rewards import Reward
from recal_bench.language_model.dialogue import Dialogue
from recal_bench.language_model.learned import Learned
from recal_bench.language_model.live import LivePool
from recal_bench.language_model.pool import Call, LoggedPool, component_rewards
from recal_bench.language_model.protocol import format_grade

Generate = Callable[[list[list[int]]], list[list[int]]]
"""Prompts in tokens to replies in tokens, each with its end where it came to one."""
Ask = Callable[[Sequence[Call]], list[str | None]]
"""Calls to what the arms answer; None where an arm gives no answer."""


@dataclass
class Rollout:
    """One trajectory. `mask` is 1 for tokens that the policy wrote and 0 for what was inserted; `calls` are the arms
    that were called, the last of them the one whose answer stands; `queries` what each was asked (None: the question
    itself), where that is known; `answer` the policy's own; `tokens` counts what the policy read and wrote."""

    row: int
    prompt_ids: list[int]
    completion_ids: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    queries: list[str | None] = field(default_factory=list)
    answer: str | None = None
    broken: tuple[str, ...] = ()
    done: bool = False
    tokens: int = 0

    @property
    def well_formed(self) -> bool:
        return not self.broken and bool(self.calls)

    @property
    def asked(self) -> list[Call]:
        """Its calls, each with what it asks."""
        return [Call(self.row, arm, query) for arm, query in zip(self.calls, self.queries, strict=True)]

    def wrote(self, ids: Sequence[int]) -> None:
        self.tokens += len(self.prompt_ids) + len(self.completion_ids) + len(ids)
        self._append(ids, 1)

    def read(self, ids: Sequence[int]) -> None:
        self._append(ids, 0)

    def _append(self, ids: Sequence[int], written: int) -> None:
        self.completion_ids += ids
        self.mask += [written] * len(ids)


def roll_out(
    dialogue: Dialogue,
    prompts: Sequence[list[int]],
    rows: Sequence[int],
    generate: Generate,
    ask: Ask | None = None,
) -> list[Rollout]:
    """A trajectory for each prompt. After a route the called arm's answer is inserted, until the policy answers itself,
    breaks a rule or has used its rounds; the calls of a round are asked together.

    With one round nothing is inserted: the first route ends the trajectory.
    """
    rollouts = [Rollout(row, list(prompt)) for row, prompt in zip(rows, prompts, strict=True)]
    for turn in range(dialogue.rounds):
        going = [each for each in rollouts if not each.done]
        if not going:
            break
        replies = generate([each.prompt_ids + each.completion_ids for each in going])
        for rollout, reply in zip(going, replies, strict=True):
            rollout.wrote(reply)
            _take(dialogue, rollout, reply)
        called = [each for each in going if not each.done]
        answers = (
            ask([each.asked[-1] for each in called]) if ask and turn < dialogue.rounds - 1 else [None] * len(called)
        )
        for rollout, text in zip(called, answers, strict=True):
            rollout.done = text is None
            if text is not None:
                rollout.read(dialogue.information_ids(text))
    return rollouts


def _take(dialogue: Dialogue, rollout: Rollout, reply: list[int]) -> None:
    """What a reply does: it calls an arm, or ends the trajectory."""
    parsed = dialogue.parse(reply, rollout.completion_ids[: -len(reply)] if reply else rollout.completion_ids)
    rollout.done = True
    if parsed.turn is None:
        rollout.broken = parsed.broken
    elif parsed.turn.arm is None:
        # A router's decision is an arm: without a call there is none.
        rollout.broken = () if rollout.calls else ("no-call",)
        rollout.answer = parsed.turn.answer
    else:
        rollout.calls.append(dialogue.arms.index(parsed.turn.arm))
        rollout.queries.append(parsed.turn.query)
        rollout.done = False


@dataclass
class TrainingRollouts:
    """What TRL calls for a batch of prompts: the replies of the policy in training, each with its reward.

    `prompt_ids_Q` are the train prompts in tokens; `price` is that of one token of the policy's own, in units of
    `cost_ref`. `learned` gives the component of that name, where the reward has it.
    """

    dialogue: Dialogue
    pool: LoggedPool | LivePool
    reward: Reward
    prompt_ids_Q: Sequence[list[int]]
    price: float
    graded: bool
    buffer: Any
    learned: Learned | None = None

    def __call__(self, prompts: Sequence[Any], trainer: Any) -> dict[str, Any]:
        from accelerate.utils import gather_object

        rows = list(trainer.rows)
        rollouts = roll_out(
            self.dialogue,
            [self.prompt_ids_Q[row] for row in rows],
            rows,
            lambda ids: trainer._generate_single_turn(ids, None, {}, 1)[0],
            self.pool.answers,
        )
        # The buffer of a reward, and with it what an action is worth, is of the rollouts of all processes.
        reward_NK = self.judge(gather_object(rollouts), remember=bool(trainer.model.training))
        begin = trainer.accelerator.process_index * len(rollouts)
        reward_NK = reward_NK[begin : begin + len(rollouts)]
        return {
            "prompt_ids": [each.prompt_ids for each in rollouts],
            "completion_ids": [each.completion_ids for each in rollouts],
            "logprobs": None,
            "env_mask": [each.mask for each in rollouts],
            "arm": [each.calls[-1] if each.calls else 0 for each in rollouts],
            "well_formed": [each.well_formed for each in rollouts],
            "component_rewards": [[None if np.isnan(value) else value for value in row] for row in reward_NK.tolist()],
        }

    def judge(self, rollouts: Sequence[Rollout], remember: bool = True) -> Any:
        """Component rewards of rollouts, `[N, K]`. The reward's buffer moves on only where it is to `remember`."""
        results = self.pool.results(rollouts)
        results = results._replace(cost_N=results.cost_N + self.price * np.array([each.tokens for each in rollouts]))
        well_formed_N = np.array([each.well_formed for each in rollouts])
        columns = {}
        if self.learned:
            told = [self.learned(each.row, each.calls, results.score_N[n]) for n, each in enumerate(rollouts)]
            columns["learned"] = np.array(told)
        reward_NK, buffer = component_rewards(self.reward, results, well_formed_N, self.buffer, columns)
        if remember:
            self.buffer = buffer
        if self.graded and "format" in self.reward.names:
            grades = [format_grade(each.broken, True, self.dialogue.short) for each in rollouts]
            reward_NK[:, self.reward.names.index("format")] = reward_NK.new_tensor(grades)
        return reward_NK
