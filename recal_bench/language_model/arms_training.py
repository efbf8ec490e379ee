"""RL on the probabilities of the arms (`decode=arms`): nothing is generated, and the gradient can be exact.

A step reads each prompt once, with the tree of the arms' replies behind it. From the distribution over the arms come
actions, drawn or all of them, their rewards, advantages, and the clipped objective, in transformers' own Trainer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments

from recal_bench.errors import SettingsError
from recal_bench.language_model.judging import Judge
from recal_bench.language_model.pool import LoggedPool, Results, component_rewards
from recal_bench.language_model.processes import share_of, world_size
from recal_bench.language_model.rollouts import Rollout, TrainingRollouts
from recal_bench.language_model.scoring import distribution_of, log_probs, named_log_probs, named_tree
from recal_bench.language_model.trainer import ROW, Advantages
from recal_bench.language_model.training import Log, Run, Steps
from recal_bench.policies.actions import ActionDistribution, Actions
from recal_bench.training.examples import draw_rows, reach_of
from recal_bench.training.metrics import Asked, Judged, step_metrics
from recal_bench.training.seeds import by_seed


class Drawn(NamedTuple):
    """Actions of one process's queries, `[1, Q, G]`, their log-probability when drawn and their advantages."""

    actions: Actions
    log_prob_SQG: Tensor
    advantage_SQG: Tensor


class ArmTrainer(Trainer):  # type: ignore[misc, unused-ignore]
    """transformers' Trainer on the clipped objective of the arms' distribution. `watch` is told of every draw.

    `rollouts` hold the train prompts and their outcomes, `advantages` the estimator. Batches are rows of train.
    """

    def __init__(
        self,
        *args: Any,
        rollouts: TrainingRollouts,
        advantages: Advantages,
        steps: Steps,
        seed: int,
        watch: Callable[[Actions, Judged, Tensor], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.rollouts, self.advantages, self.steps = rollouts, advantages, steps
        self.draw_seed, self.watch = seed, watch
        self.tree = named_tree(rollouts.dialogue)
        self.drawn: Drawn | None = None
        self.told: dict[str, float] = {}
        self.untrained = copy.deepcopy(rollouts.dialogue.local.model) if steps.kl else None

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def distribution(self, model: Any, rows: list[int]) -> ActionDistribution:
        """Of the arms, for rows of train: `[1, Q, A]`."""
        pad = self.rollouts.dialogue.local.tokenizer.pad_token_id

        def of_prompts(prompts: list[list[int]]) -> Tensor:
            return log_probs(model, prompts, [self.tree] * len(prompts), pad)

        prompts, most = [self.rollouts.prompt_ids_Q[row] for row in rows], self.steps.micro_batch
        if len(rows) > most and world_size() == 1:
            # What a forward keeps for the backward is computed again: memory is bounded, and nothing else changes.
            parts = [prompts[start : start + most] for start in range(0, len(rows), most)]
            score_QA = torch.cat([checkpoint(of_prompts, part, use_reentrant=False) for part in parts])
        else:
            score_QA = of_prompts(prompts)
        available_QA = torch.tensor(self.rollouts.pool.available_QA[rows], device=score_QA.device)
        return distribution_of(score_QA[None], available_QA[None])

    def compute_loss(self, model: Any, inputs: Mapping[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """The clipped objective, negated, at the actions of this step, which serve `steps.epochs` steps."""
        steps, rows = self.steps, inputs[ROW].tolist()
        now = self.distribution(model, rows)
        if self.state.global_step % steps.epochs == 0 or self.drawn is None:
            self.drawn = self._draw(now, rows)
        actions, log_prob_SQG, advantage_SQG = self.drawn
        ratio_SQG = (now.log_prob(actions) - log_prob_SQG).exp()
        clipped_SQG = ratio_SQG.clamp(1 - steps.clip, 1 + steps.clip_high)
        gain = torch.minimum(ratio_SQG * advantage_SQG, clipped_SQG * advantage_SQG).mean()
        entropy = now.entropy().mean()
        loss = -gain - steps.entropy * entropy
        told = {"entropy": entropy, "clip_fraction": (ratio_SQG != clipped_SQG).float().mean()}
        if self.untrained is not None:
            with torch.no_grad():
                before = self.distribution(self.untrained.to(now.log_arm_QA.device), rows)
            told["kl"] = now.kl(before).mean()
            loss = loss + steps.kl * told["kl"]
        means = self.accelerator.gather(torch.stack([value.detach() for value in told.values()])[None]).mean(dim=0)
        self.told = dict(zip(told, means.tolist(), strict=True))
        return loss

    @torch.no_grad()
    def _draw(self, now: ActionDistribution, rows: list[int]) -> Drawn:
        """Actions, judged together with those of the other processes."""
        if self.advantages.estimator.all_actions:
            # Without the malformed action, whose share is 0.
            actions = Actions(*(part[..., :-1] for part in now.everything()))
        else:
            seed = np.random.SeedSequence([self.draw_seed, self.state.global_step, self.accelerator.process_index])
            generator = torch.Generator().manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1))
            actions = now.sample(self.steps.group_size, [generator])
        group_size, device = actions.arm_QG.shape[-1], now.log_arm_QA.device
        everyone = Actions(
            self.accelerator.gather(actions.well_formed_QG[0].long()).bool()[None],
            self.accelerator.gather(actions.arm_QG[0].contiguous())[None],
            self.accelerator.gather(actions.share_QG[0])[None],
        )
        row_Q = self.accelerator.gather(torch.tensor(rows, device=device))
        reward_NK = self._rewards(row_Q.tolist(), everyone).to(device)
        advantage_N = self.advantages(
            reward_NK, row_Q.repeat_interleave(group_size), group_size, remember=True, share_QG=everyone.share_QG[0]
        )
        advantage_SQG, reward_SQGK = (
            value.view(1, -1, group_size, *value.shape[1:]) for value in (advantage_N, reward_NK)
        )
        weight_K = torch.tensor(self.advantages.weight_K, device=device)
        judged = Judged(reward_SQGK, weight_K, ~reward_SQGK.isnan().all(dim=-1), advantage_SQG)
        self.watch(everyone, judged, row_Q)
        begin = self.accelerator.process_index * len(rows)
        return Drawn(actions, now.log_prob(actions), advantage_SQG[:, begin : begin + len(rows)])

    def _rewards(self, rows: list[int], actions: Actions) -> Tensor:
        """Component rewards, `[N, K]`, the actions of a query one after the other."""
        rollouts = self.rollouts
        group_size = actions.arm_QG.shape[-1]
        row_N, arm_N = np.repeat(rows, group_size), actions.arm_QG.flatten().cpu().numpy()
        tokens_N = np.repeat([len(rollouts.prompt_ids_Q[row]) for row in rows], group_size) + len(self.tree.inner_I)
        pool = rollouts.pool
        assert isinstance(pool, LoggedPool)
        cost_N = pool.cost_QA[row_N, arm_N] + rollouts.price * tokens_N
        results = Results(pool.score_QA[row_N, arm_N], cost_N, pool.available_QA[row_N, arm_N])
        well_formed_N = actions.well_formed_QG.flatten().cpu().numpy()
        reward_NK, rollouts.buffer = component_rewards(rollouts.reward, results, well_formed_N, rollouts.buffer)
        return reward_NK


class ArmJudge(Judge):
    """The same of a policy that chooses among the arms: the likeliest available one, and all by their probability."""

    def greedy(self) -> list[Rollout]:
        arm_Q, read = self._log_probs().argmax(dim=-1), len(named_tree(self.dialogue).inner_I)
        return [
            Rollout(row, prompt, calls=[arm], done=True, tokens=len(prompt) + read)
            for row, (prompt, arm) in enumerate(zip(self.prompt_ids_Q, arm_Q.tolist(), strict=True))
        ]

    def sampled(self) -> tuple[Tensor, float]:
        read = len(named_tree(self.dialogue).inner_I)
        assert isinstance(self.pool, LoggedPool)
        return self._mean_utility(self.pool, self._log_probs().numpy(), [read] * len(self.dialogue.arms)), 0.0

    def _log_probs(self) -> Tensor:
        log_prob_QA = torch.tensor(named_log_probs(self.dialogue, self.prompt_ids_Q))
        return distribution_of(log_prob_QA[None], torch.tensor(self.pool.available_QA)[None]).log_arm_QA[0]


class ArmRun(Run):
    """The same training, log and checkpoints with `ArmTrainer` in the place of TRL's."""

    def tell(self, step: int, logs: Mapping[str, Any]) -> None:
        told = {"gradient_norm": float(logs["grad_norm"]), "learning_rate": float(logs["learning_rate"])}
        self.log({"step": step, **self.trainer.told, **told, **self.watched, **self.judged})
        self.judged = {}

    def _trainer(self) -> ArmTrainer:
        self.trainer = ArmTrainer(
            model=self.dialogue.local.model,
            args=self._training_arguments(),
            train_dataset=self._rows(),
            data_collator=lambda rows: {ROW: torch.tensor(rows)},
            callbacks=[Log(self)],
            rollouts=self.rollouts,
            advantages=self.advantages,
            steps=self.steps,
            seed=self.seed,
            watch=self._see,
        )
        return self.trainer

    def _see(self, actions: Actions, judged: Judged, row_Q: Tensor) -> None:
        rows = row_Q.cpu()
        asked = Asked(self.advantages.dataset_Q[rows][None], torch.tensor(self.pool.available_QA[rows])[None])
        on_cpu = Actions(*(part.cpu() for part in actions)), Judged(*(part.cpu() for part in judged))
        self.watched = by_seed(step_metrics(*on_cpu, asked, self.reward, self.tasks, self.judge.cost_rank_A))[0]

    def _rows(self) -> list[int]:
        """The rows of train of all steps in their order; those of a step again for each epoch."""
        steps, generator = self.steps, torch.Generator().manual_seed(self.seed)
        reach_Q = reach_of(self.advantages.dataset_Q, steps.balance)
        blocks = -(-steps.steps // steps.epochs)
        rows = draw_rows(reach_Q, blocks * steps.batch_size, generator).view(blocks, steps.batch_size)
        return [int(row) for row in rows.repeat_interleave(steps.epochs, dim=0).flatten()]

    def _training_arguments(self) -> TrainingArguments:
        steps = self.steps
        own = self._shared_arguments() | {
            "per_device_train_batch_size": share_of(steps.batch_size, f"batch_size={steps.batch_size}"),
            "dataloader_pin_memory": False,
        }
        try:
            arguments = TrainingArguments(**{**own, **steps.trl})
        except (TypeError, ValueError) as error:
            raise SettingsError(f"transformers refuses its settings: {str(error).splitlines()[0]}") from error
        if arguments.gradient_accumulation_steps != 1:
            raise SettingsError("decode=arms takes a step for each batch: leave out gradient_accumulation_steps")
        return arguments
