"""RL on a policy that is a language model: TRL's trainer, our advantages, our log, and what is kept of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig

from recal_bench.calibration.rewards import Reward
from recal_bench.errors import SettingsError
from recal_bench.language_model.dialogue import Dialogue
from recal_bench.language_model.judging import Judge
from recal_bench.language_model.live import LivePool
from recal_bench.language_model.pool import LoggedPool
from recal_bench.language_model.processes import is_first, require_world, share_of
from recal_bench.language_model.rollouts import TrainingRollouts
from recal_bench.language_model.trainer import REWARDS, ROW, Advantages, ComponentTrainer, Judged
from recal_bench.language_model.warm_start import divisor, halved, trained_parameters
from recal_bench.policies.actions import Actions
from recal_bench.training.checkpoint import read_checkpoint, remove_checkpoint, write_checkpoint
from recal_bench.training.examples import draw_rows, reach_of
from recal_bench.training.metrics import Asked, step_metrics
from recal_bench.training.metrics import Judged as Weighed
from recal_bench.training.seeds import by_seed
from recal_bench.training.selection import Selection

TRAINER = "trainer"


@dataclass(frozen=True)
class Steps:
    """How long and how fast, as GRPOConfig wants to know it; `trl` are arguments of it that go through as they are."""

    steps: int
    batch_size: int
    group_size: int
    epochs: int
    learning_rate: float
    micro_batch: int
    clip: float
    clip_high: float
    kl: float
    entropy: float
    balance: bool
    evaluate_every: int
    checkpoint_every: int
    trl: Mapping[str, Any]


class Log(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """One line a step: what the rollouts were, what TRL says of the update, and now and then how validation goes."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
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
    def pool(self) -> LoggedPool | LivePool:
        return self.rollouts.pool

    def fit(self) -> None:
        """Train, from the checkpoint of the same configuration where there is one.

        Of several processes the first judges, logs and writes; all of them end with the parameters that are kept.
        """
        step = self._resume()
        if step == 0 and is_first():
            shutil.rmtree(self.folder / TRAINER, ignore_errors=True)
            self.log({"step": 0, **self.evaluate(0)})
        trainer = self._trainer()
        trainer.remove_callback(PrinterCallback)
        require_world(trainer.accelerator.num_processes)
        if step < self.steps.steps:
            trainer.train(resume_from_checkpoint=str(self._saved(step)) if step else None)
        self._take_kept(trainer.accelerator.device)
        if is_first():
            remove_checkpoint(self.folder)
            shutil.rmtree(self.folder / TRAINER, ignore_errors=True)

    def _saved(self, step: int) -> Path:
        return self.folder / TRAINER / f"checkpoint-{step}"

    def _resume(self) -> int:
        """Take up the checkpoint of the same configuration; the step from which to go on, 0 where there is none."""
        found = read_checkpoint(self.folder)
        if found is None or found["configuration"] != self.configuration or not self._saved(found["step"]).is_dir():
            return 0
        learner = found["learner"]
        self.advantages.restore(learner["advantages"])
        self.rollouts.buffer = learner["buffer"]
        self.selection = Selection(**learner["selection"])
        return int(found["step"])

    def _take_kept(self, device: Any) -> None:
        """The kept parameters, which the first process knows, become the model's in all."""
        model = self.dialogue.local.model
        kept = self.selection.kept if is_first() else trained_parameters(model)
        assert kept is not None
        kept = broadcast({name: value.to(device) for name, value in kept.items()})
        model.load_state_dict(kept, strict=False)
        model.eval()

    def _trainer(self) -> Any:
        return ComponentTrainer(
            model=self.dialogue.local.model,
            processing_class=self.dialogue.local.tokenizer,
            reward_funcs=[_component(number, name) for number, name in enumerate(self.reward.names)],
            args=self._arguments(),
            train_dataset=self._dataset(),
            rollout_func=self.rollouts,
            callbacks=[Log(self)],
            advantages=self.advantages,
            watch=self._watch,
        )

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

    def _watch(self, judged: Judged) -> None:
        group_size = self.steps.group_size

        def in_groups(value: Tensor) -> Tensor:
            return value.cpu().view(1, -1, group_size, *value.shape[1:])

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
        asked = Asked(self.advantages.dataset_Q[rows][None], torch.tensor(self.pool.available_QA[rows])[None])
        metrics = step_metrics(actions, weighed, asked, self.reward, self.tasks, self.judge.cost_rank_A)
        self.watched = by_seed(metrics)[0]

    def _dataset(self) -> Dataset:
        """The queries of all steps in their order, each with its row; drawn here, for TRL knows no balance of tasks."""
        generator = torch.Generator().manual_seed(self.seed)
        reach_Q = reach_of(self.advantages.dataset_Q, self.steps.balance)
        blocks = -(-self.steps.steps // self.steps.epochs)
        rows = draw_rows(reach_Q, blocks * self.steps.batch_size, generator).tolist()
        return Dataset.from_dict({"prompt": [str(row) for row in rows], ROW: rows})

    def _shared_arguments(self) -> dict[str, Any]:
        """What TRL's trainer and transformers' own are told alike."""
        steps = self.steps
        # In the middle of a block of reused rollouts a checkpoint could not be gone on from: they are not in it.
        every = -(-steps.checkpoint_every // steps.epochs) * steps.epochs
        return {
            "output_dir": str(self.folder / TRAINER),
            "max_steps": steps.steps,
            "learning_rate": steps.learning_rate,
            "lr_scheduler_type": "linear",
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
            "bf16": halved(self.dialogue, self.device),
        }

    def _arguments(self) -> GRPOConfig:
        steps = self.steps
        share = share_of(steps.batch_size * steps.group_size, "batch_size x group_size")
        micro = divisor(share, steps.micro_batch)
        own = self._shared_arguments() | {
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": share // micro,
            "num_generations": steps.group_size,
            "num_iterations": steps.epochs,
            "max_completion_length": self.dialogue.max_new_tokens,
            "shuffle_dataset": False,
            "temperature": 1.0,
            "epsilon": steps.clip,
            "epsilon_high": steps.clip_high,
            "beta": steps.kl,
            "entropy_coef": steps.entropy,
            "loss_type": "dr_grpo",
            "scale_rewards": "none",
            "reward_weights": list(self.advantages.weight_K),
            "gradient_checkpointing": False,
        }
        try:
            arguments = GRPOConfig(**{**own, **steps.trl})
        except (TypeError, ValueError) as error:
            raise SettingsError(f"TRL refuses its settings: {str(error).splitlines()[0]}") from error
        drawn, steps_of_draw = arguments.generation_batch_size, arguments.steps_per_generation
        # The queries of the steps, and the steps of which there are checkpoints, are counted on it.
        if drawn != steps.batch_size * steps.group_size or steps_of_draw != arguments.gradient_accumulation_steps:
            raise SettingsError(
                f"trl={json.dumps(dict(steps.trl))} changes how many rollouts a step has ({drawn} in {steps_of_draw} "
                "parts): say that by batch_size and group_size"
            )
        return arguments


def _component(number: int, name: str) -> Callable[..., list[float | None]]:
    def reward(**columns: Any) -> list[float | None]:
        return [row[number] for row in columns[REWARDS]]

    reward.__name__ = name
    return reward
