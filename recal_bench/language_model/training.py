"""RL on a policy that is a language model: TRL's trainer, our advantages, our log, and what is kept of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig

from recal_bench.calibration.rewards import Reward
from recal_bench.errors import SettingsError
from recal_bench.language_model.dialogue import Dialogue
from recal_bench.language_model.pool import LoggedPool
from recal_bench.language_model.rollouts import Rollout, TrainingRollouts, roll_out
from recal_bench.language_model.trainer import REWARDS, ROW, Advantages, ComponentTrainer, Judged
from recal_bench.policies.actions import Actions
from recal_bench.training.checkpoint import read_checkpoint, remove_checkpoint, write_checkpoint
from recal_bench.training.examples import draw_rows, reach_of
from recal_bench.training.metrics import Judged as Weighed
from recal_bench.training.metrics import cheapest_arms, step_metrics
from recal_bench.training.seeds import by_seed
from recal_bench.training.selection import Selection, macro_mean

TRAINER = "trainer"


@dataclass(frozen=True)
class Steps:
    """How long and how fast, as GRPOConfig wants to know it; `trl` are arguments of it that go through as they are."""

    steps: int
    batch_size: int
    group_size: int
    epochs: int
    learning_rate: float
    clip: float
    clip_high: float
    kl: float
    entropy: float
    balance: bool
    evaluate_every: int
    checkpoint_every: int
    trl: Mapping[str, Any]


@dataclass
class Judge:
    """The policy on validation: what it chooses (`greedy`) and what it draws, one draw a query, by their outcomes."""

    dialogue: Dialogue
    pool: LoggedPool
    prompt_ids_Q: list[list[int]]
    alpha: float
    price: float
    best_single: float
    cost_ref: float | None
    cost_rank_A: Tensor

    def rollouts(self, sample: torch.Generator | None) -> list[Rollout]:
        """One trajectory a query: of the likeliest tokens, or drawn."""
        rows = list(range(len(self.prompt_ids_Q)))
        generate = lambda prompts: self.dialogue.generate(prompts, sample)  # noqa: E731
        return roll_out(self.dialogue, self.prompt_ids_Q, rows, generate, self.pool.answer)

    def line(self, selection: Selection, parameters: dict[str, Tensor], step: int) -> dict[str, float]:
        """What to log of the policy now; `selection` remembers its parameters where they are to be kept."""
        greedy, drawn = self.rollouts(None), self.rollouts(torch.Generator().manual_seed(step))
        utility_Q, score_Q, cost_Q, arm_Q = self._outcomes(greedy)
        dataset_Q = torch.tensor(self.pool.dataset_Q)
        selection.consider(utility_Q, dataset_Q, parameters, step)
        line = {
            "validation_utility": macro_mean(utility_Q, dataset_Q),
            "validation_score": macro_mean(score_Q, dataset_Q),
            "validation_top_arm_share": float(torch.bincount(arm_Q).max() / len(arm_Q)),
            "validation_malformed_share": float(np.mean([not each.well_formed for each in greedy])),
            "validation_sampled_utility": macro_mean(self._outcomes(drawn)[0], dataset_Q),
            "validation_sampled_malformed_share": float(np.mean([not each.well_formed for each in drawn])),
            "validation_best_single": self.best_single,
            "kept_step": selection.kept_step,
            "kept_gain": selection.gain,
            "kept_gain_error": selection.error,
        }
        if self.cost_ref is not None:
            cheapest_Q = cheapest_arms(self.cost_rank_A, torch.tensor(self.pool.available_QA))
            line["validation_cost_usd_per_1k"] = 1000 * self.cost_ref * float(cost_Q.mean())
            line["validation_cheapest_share"] = float((arm_Q == cheapest_Q).float().mean())
        return line

    def _outcomes(self, rollouts: list[Rollout]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Utility, score, cost (in units of `cost_ref`) and arm of each; a malformed one falls back to best-single."""
        rows = np.arange(len(rollouts))
        arm_Q = np.array([self.pool.chosen(each) for each in rollouts])
        score_Q = self.pool.score_QA[rows, arm_Q]
        calls = [{*each.calls, arm} for each, arm in zip(rollouts, arm_Q, strict=True)]
        cost_Q = np.array([self.pool.cost(row, paid) for row, paid in enumerate(calls)])
        cost_Q = cost_Q + self.price * np.array([each.tokens for each in rollouts])
        values = (
            torch.tensor(value, dtype=torch.float32) for value in (score_Q - self.alpha * cost_Q, score_Q, cost_Q)
        )
        return *values, torch.tensor(arm_Q)


class Queried(NamedTuple):
    """The queries of a step, as `step_metrics` counts them."""

    dataset_Q: Tensor
    available_QA: Tensor


class _Log(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """One line a step: what the rollouts were, what TRL says of the update, and now and then how validation goes."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.run.steps.evaluate_every == 0 or state.global_step == state.max_steps:
            self.run.judged = self.run.evaluate(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs and "grad_norm" in logs and state.is_world_process_zero:
            self.run.tell(state.global_step, logs)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self.run.keep(state.global_step)


@dataclass
class Run:
    """One training. `fit` leaves the policy's model with the parameters that are kept."""

    dialogue: Dialogue
    rollouts: TrainingRollouts
    advantages: Advantages
    reward: Reward
    judge: Judge
    tasks: tuple[str, ...]
    steps: Steps
    seed: int
    device: str
    folder: Path
    configuration: str
    log: Callable[[dict[str, Any]], None]

    def __post_init__(self) -> None:
        self.selection = Selection()
        self.judged: dict[str, float] = {}
        self.watched: dict[str, float] = {}

    @property
    def pool(self) -> LoggedPool:
        return self.rollouts.pool

    def fit(self) -> None:
        """Train, from the checkpoint of the same configuration where there is one."""
        found = read_checkpoint(self.folder)
        going_on = found is not None and found["configuration"] == self.configuration
        step = found["step"] if found is not None and going_on else 0
        saved = self.folder / TRAINER / f"checkpoint-{step}"
        if found is not None and step and saved.is_dir():
            self._restore(found["learner"])
        else:
            step = 0
            shutil.rmtree(self.folder / TRAINER, ignore_errors=True)
            self.log({"step": 0, **self.evaluate(0)})
        trainer = ComponentTrainer(
            model=self.dialogue.local.model,
            processing_class=self.dialogue.local.tokenizer,
            reward_funcs=[_component(number, name) for number, name in enumerate(self.reward.names)],
            args=self._arguments(),
            train_dataset=self._dataset(),
            rollout_func=self.rollouts,
            callbacks=[_Log(self)],
            advantages=self.advantages,
            watch=self._watch,
        )
        trainer.remove_callback(PrinterCallback)
        require_world(trainer.accelerator.num_processes)
        trainer.train(resume_from_checkpoint=str(saved) if step else None)
        self.dialogue.local.model.load_state_dict(self.selection.kept, strict=False)
        self.dialogue.local.model.eval()
        remove_checkpoint(self.folder)
        shutil.rmtree(self.folder / TRAINER, ignore_errors=True)

    def evaluate(self, step: int) -> dict[str, float]:
        return self.judge.line(self.selection, trained_parameters(self.dialogue.local.model), step)

    def tell(self, step: int, logs: Mapping[str, Any]) -> None:
        """Log a step."""
        mean_length = float(logs.get("completions/mean_length") or 0.0)
        told = {
            "entropy": float(logs["entropy"]) * mean_length,
            "gradient_norm": float(logs["grad_norm"]),
            "clip_fraction": float(logs.get("clip_ratio/region_mean") or 0.0),
            "learning_rate": float(logs["learning_rate"]),
            "reply_tokens": mean_length,
        }
        if logs.get("kl") is not None:
            told["kl"] = float(logs["kl"])
        self.log({"step": step, **told, **self.watched, **self.judged})
        self.judged = {}

    def keep(self, step: int) -> None:
        """What TRL's checkpoint does not hold of a run, beside it."""
        learner = {
            "advantages": self.advantages.pack(),
            "buffer": self.rollouts.buffer,
            "selection": self.selection.pack(),
        }
        write_checkpoint(self.folder, {"configuration": self.configuration, "step": step, "learner": learner})

    def _restore(self, learner: dict[str, Any]) -> None:
        self.advantages.restore(learner["advantages"])
        self.rollouts.buffer = learner["buffer"]
        self.selection = Selection(**learner["selection"])

    def _watch(self, judged: Judged) -> None:
        group_size = self.steps.group_size
        in_groups = lambda value: value.cpu().view(1, -1, group_size, *value.shape[1:])  # noqa: E731
        rows = judged.row_N.cpu().view(-1, group_size)[:, 0]
        reward_SQGK = in_groups(judged.reward_NK.float())
        actions = Actions(
            in_groups(judged.well_formed_N),
            in_groups(judged.arm_N),
            torch.full(reward_SQGK.shape[:3], 1 / group_size),
        )
        weighed = Weighed(
            reward_SQGK,
            torch.tensor(self.advantages.weight_K),
            ~reward_SQGK.isnan().all(dim=-1),
            in_groups(judged.advantage_N.float()),
        )
        asked = Queried(self.advantages.dataset_Q[rows][None], torch.tensor(self.pool.available_QA[rows])[None])
        metrics = step_metrics(actions, weighed, asked, self.reward, self.tasks, self.judge.cost_rank_A)
        self.watched = by_seed(metrics, 1)[0]

    def _dataset(self) -> Dataset:
        """The queries of all steps in their order, each with its row; drawn here, for TRL knows no balance of tasks."""
        generator = torch.Generator().manual_seed(self.seed)
        reach_Q = reach_of(self.advantages.dataset_Q, self.steps.balance)
        blocks = -(-self.steps.steps // self.steps.epochs)
        rows = draw_rows(reach_Q, blocks * self.steps.batch_size, generator).tolist()
        return Dataset.from_dict({"prompt": [str(row) for row in rows], ROW: rows})

    def _arguments(self) -> GRPOConfig:
        steps = self.steps
        world, rollouts = world_size(), steps.batch_size * steps.group_size
        if rollouts % world:
            raise SettingsError(
                f"batch_size={steps.batch_size} x group_size={steps.group_size} is not a multiple of {world} processes"
            )
        # In the middle of a block of reused rollouts a checkpoint could not be gone on from: they are not in it.
        every = -(-steps.checkpoint_every // steps.epochs) * steps.epochs
        own = {
            "output_dir": str(self.folder / TRAINER),
            "max_steps": steps.steps,
            "per_device_train_batch_size": rollouts // world,
            "gradient_accumulation_steps": 1,
            "num_generations": steps.group_size,
            "num_iterations": steps.epochs,
            "max_completion_length": self.dialogue.max_new_tokens,
            "shuffle_dataset": False,
            "temperature": 1.0,
            "learning_rate": steps.learning_rate,
            "lr_scheduler_type": "linear",
            "epsilon": steps.clip,
            "epsilon_high": steps.clip_high,
            "beta": steps.kl,
            "entropy_coef": steps.entropy,
            "loss_type": "dr_grpo",
            "scale_rewards": "none",
            "reward_weights": list(self.advantages.weight_K),
            "remove_unused_columns": False,
            "save_strategy": "steps",
            "save_steps": every,
            "save_total_limit": 2,
            "logging_strategy": "steps",
            "logging_steps": 1,
            "report_to": "none",
            "disable_tqdm": True,
            "seed": self.seed,
            "use_cpu": self.device == "cpu",
            "bf16": False,
            "gradient_checkpointing": False,
        }
        try:
            return GRPOConfig(**{**own, **steps.trl})
        except (TypeError, ValueError) as error:
            raise SettingsError(f"TRL refuses its settings: {str(error).splitlines()[0]}") from error


def _component(number: int, name: str) -> Callable[..., list[float | None]]:
    def reward(**columns: Any) -> list[float | None]:
        return [row[number] for row in columns[REWARDS]]

    reward.__name__ = name
    return reward


def trained_parameters(model: Any) -> dict[str, Tensor]:
    """Copies of the parameters that training changes (of LoRA the adapters alone)."""
    return {name: value.detach().cpu().clone() for name, value in model.named_parameters() if value.requires_grad}


def world_size() -> int:
    """The number of processes that torchrun started."""
    import os

    return int(os.environ.get("WORLD_SIZE", "1"))


def require_world(found: int) -> None:
    """Raises SettingsError where the processes do not train together."""
    if found != world_size():
        raise SettingsError(
            f"{world_size()} processes were started, and each would train alone ({found} together): start them by "
            "torchrun"
        )
