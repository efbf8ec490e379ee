"""Trainings on completions and rewards that are preset, so that two trainers, or one and two processes, see the same.

As a script it is what torchrun starts: see test_two_processes.py.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

WORDS = ["<pad>", "<eos>", *(f"word{number}" for number in range(14))]
EOS = 1


def tiny_model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=32,
            # Logits far from 0, so that a difference in rewards is one in gradients.
            initializer_range=0.5,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=EOS,
        )
    )


def tiny_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    word_level = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    word_level.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=word_level, pad_token="<pad>", eos_token="<eos>")


def preset_rewards(n_steps: int, n_queries: int, group_size: int, seed: int = 0) -> NDArray[np.float32]:
    """`[S, Q, G, 3]`: one component of few values, a group in which one of them, and one in which all do not vary."""
    rng = np.random.default_rng(seed)
    reward_SQGK = rng.normal(size=(n_steps, n_queries, group_size, 3)).astype(np.float32)
    reward_SQGK[..., 1] = rng.integers(0, 2, reward_SQGK.shape[:-1])
    reward_SQGK[:, 0, :, 1] = 1.0
    reward_SQGK[:, 1] = 0.25
    return reward_SQGK


class Seen(NamedTuple):
    """What one optimiser step saw: its loss and its gradients, before any clipping."""

    loss: float
    gradient: dict[str, torch.Tensor]


@dataclass
class Training:
    """What became of a training."""

    steps: list[Seen] = field(default_factory=list)
    logs: list[dict[str, float]] = field(default_factory=list)
    advantages: list[list[float]] = field(default_factory=list)
    parameters: dict[str, torch.Tensor] = field(default_factory=dict)
    trainer: Any = None


def preset_rollouts(reward_SQGK: NDArray[np.float32]) -> Callable[[Sequence[str], Any], dict[str, Any]]:
    """TRL's `rollout_func`: completions drawn from a seed by their place in the batch, with the rewards of that place.

    The middle of every completion is masked as if it had been inserted.
    """
    _, _, group_size, _ = reward_SQGK.shape

    def rollouts(prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        step, begin = trainer.state.global_step, trainer.accelerator.process_index * len(prompts)
        completions, masks, rewards = [], [], []
        for place in range(begin, begin + len(prompts)):
            rng = np.random.default_rng([step, place])
            ids = [*rng.integers(2, len(WORDS), rng.integers(2, 6)).tolist(), EOS]
            completions.append(ids)
            masks.append([int(position != 1) for position in range(len(ids))])
            value_K = reward_SQGK[step % len(reward_SQGK), place // group_size, place % group_size]
            rewards.append([None if np.isnan(value) else float(value) for value in value_K])
        tokenizer = trainer.processing_class
        return {
            "prompt_ids": [tokenizer(each)["input_ids"] for each in prompts],
            "completion_ids": completions,
            "logprobs": None,
            "env_mask": masks,
            "component_rewards": rewards,
        }

    return rollouts


def component(number: int) -> Callable[..., list[float | None]]:
    def reward(component_rewards: list[list[float | None]], **_: Any) -> list[float | None]:
        return [each[number] for each in component_rewards]

    reward.__name__ = f"component_{number}"
    return reward


def train(
    cls: type[Any],
    reward_SQGK: NDArray[np.float32],
    weight_K: Sequence[float],
    folder: Path,
    processes: int = 1,
    config: dict[str, Any] | None = None,
    **given: Any,
) -> Training:
    """A short training by a trainer class, one batch of all queries a step, by plain gradient descent."""
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOConfig

    n_steps, n_queries, group_size, n_components = reward_SQGK.shape
    done = Training()

    class Watching(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            named = {name.removeprefix("module."): value for name, value in model.named_parameters()}
            gradient = {name: value.grad.clone() for name, value in named.items() if value.grad is not None}
            done.steps.append(Seen(float("nan"), gradient))

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            if "grad_norm" in logs:
                done.logs.append({name: value for name, value in logs.items() if name != "step_time"})
                done.steps[-1] = done.steps[-1]._replace(loss=logs["loss"])

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            done.advantages.append(list(done.trainer._logs["advantages"]))

    model = tiny_model()
    queries = {"prompt": [f"word{query}" for query in range(n_queries)], "row": list(range(n_queries))}
    done.trainer = cls(
        model=model,
        reward_funcs=[component(number) for number in range(n_components)],
        args=GRPOConfig(
            output_dir=str(folder),
            max_steps=n_steps,
            per_device_train_batch_size=n_queries * group_size // processes,
            per_device_eval_batch_size=n_queries * group_size // processes,
            num_generations=group_size,
            max_completion_length=6,
            shuffle_dataset=False,
            learning_rate=0.1,
            optim="sgd",
            max_grad_norm=0.0,
            loss_type="dr_grpo",
            reward_weights=list(weight_K),
            remove_unused_columns=False,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            logging_strategy="steps",
            logging_steps=1,
            disable_tqdm=True,
            **(config or {}),
        ),
        train_dataset=Dataset.from_dict(queries),
        eval_dataset=Dataset.from_dict(queries),
        processing_class=tiny_tokenizer(),
        rollout_func=preset_rollouts(reward_SQGK),
        callbacks=[Watching()],
        **given,
    )
    done.trainer.remove_callback(PrinterCallback)
    done.trainer.train()
    done.parameters = {name: value.detach().clone() for name, value in model.named_parameters()}
    return done


def train_ours(
    estimator: str,
    settings: dict[str, Any],
    reward_SQGK: NDArray[np.float32],
    weight_K: Sequence[float],
    folder: Path,
    **given: Any,
) -> Training:
    """The same by our trainer; the queries' datasets take turns."""
    from recal_bench.calibration import ESTIMATORS
    from recal_bench.language_model.trainer import Advantages, ComponentTrainer

    entry = ESTIMATORS[estimator]
    dataset_Q = torch.arange(reward_SQGK.shape[1]) % 2
    advantages = Advantages(entry, entry.settings(**settings), weight_K, 1, dataset_Q)
    return train(
        ComponentTrainer, reward_SQGK, weight_K, folder, advantages=advantages, watch=lambda judged: None, **given
    )


def small_split(
    rows: int, seed: int = 0, responses: bool = False, objective: Any = None, tasks: Sequence[str] = ("odd", "even")
) -> Any:
    """A split with two tasks and three arms, of which the words of a query decide which is right."""
    from recal_bench.outcomes import Arm, Objective, Outcomes
    from recal_bench.routers import Queries, Train

    rng = np.random.default_rng(seed)
    words = ("river lake", "theorem proof", "song choir")
    topic_Q = np.arange(rows) % 3
    score_QA = (rng.random((rows, 3)) < np.where(np.arange(3) == topic_Q[:, None], 0.9, 0.1)).astype(float)
    prompts = [f"{words[topic]} {rng.integers(99)}" for topic in topic_Q]
    outcomes = Outcomes(
        task_Q=np.array([tasks[row % 2] for row in range(rows)], dtype=object),
        query_id_Q=np.array([f"q{seed}-{row:03d}" for row in range(rows)], dtype=object),
        prompt_Q=np.array(prompts, dtype=object),
        split_Q=np.array(["train"] * rows, dtype=object),
        arms=(Arm("large", "cot"), Arm("large", "direct"), Arm("small", "direct")),
        score_QA=score_QA,
        cost_QA=rng.uniform(0.5, 1.5, (rows, 3)) * [0.003, 0.002, 0.001],
        name="topics",
        data_hash="",
        response_QA=np.array([["the river", "a proof", "a song"]] * rows, dtype=object) if responses else None,
    )
    objective = objective or Objective.from_train(outcomes.score_QA, outcomes.cost_QA)
    return Train(Queries(tuple(outcomes.query_id_Q), tuple(prompts)), outcomes, objective)


SMALL = {
    "warm_start": "format", "examples": 1536, "warm_learning_rate": 5e-3, "steps": 6, "batch_size": 3, "group_size": 4,
    "evaluate_every": 3, "trust": 1.0, "max_new_tokens": 8, "learning_rate": 1e-3,
}  # fmt: skip


def fitted(folder: Path, log: Callable[[dict[str, Any]], None], **settings: Any) -> Any:
    """A `recal-lm` after a fit that takes seconds, with a checkpoint every other step."""
    from recal_bench import routers
    from recal_bench.language_model import fitting, router  # noqa: F401  registers itself

    fitting.CHECKPOINT_EVERY = 2
    made = routers.create("recal-lm", {**SMALL, **settings})
    tasks = LIVE_TASKS if made.live else ("odd", "even")
    train = small_split(24, tasks=tasks)
    validation = small_split(9, 1, objective=train.objective, tasks=tasks)
    made.fit(train, validation, routers.Context(0, "cpu", folder, log, max_usd=1.0))
    return made


LIVE_TASKS = ("nq", "popqa")
"""Of the split whose arms are asked live: shipped ones, which have verifiers."""


def weights(router: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in router._dialogue.local.model.named_parameters()}


class Killed(NamedTuple):
    """A fit whose log goes to a file, and that kills its own process at a step (0: at none)."""

    target: Path
    at: int = 0

    def fit(self, **settings: Any) -> Any:
        from recal_bench.experiments.work import METRICS, begin

        work, _ = begin(self.target, fresh=False)

        def log(line: dict[str, Any]) -> None:
            with (work / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            if self.at and line["step"] == self.at:
                os.kill(os.getpid(), signal.SIGKILL)

        return fitted(work, log, **settings)


def as_one_of_two(out: Path) -> None:
    """What a process that torchrun started does, and leaves in `out`; the command `train` on `out`'s log among it."""
    from accelerate import PartialState

    state = PartialState(cpu=True)
    rank, lines = state.process_index, []
    of_preset = train_ours(
        "recal", {}, two_process_rewards(), TWO_PROCESS_WEIGHTS, out / "preset", processes=state.num_processes
    )
    router = fitted(out / "fit", lines.append)
    torch.save(
        {
            "steps": [each._asdict() for each in of_preset.steps],
            "logs": of_preset.logs,
            "parameters": of_preset.parameters,
            "state": of_preset.trainer.advantages.pack(),
            "lines": lines,
            "weights": weights(router),
        },
        out / f"rank-{rank}.pt",
    )
    from recal_bench.cli import cli

    words = ["train", "--policy", "tiny", "--outcomes", str(out / "log.parquet"), "--runs", str(out / "runs")]
    words += [part for name, value in COMMAND.items() for part in ("--set", f"{name}={value}")]
    cli.main(words, standalone_mode=False)


COMMAND = {"warm_start": "none", "trust": 1.0, "steps": 2, "batch_size": 2, "group_size": 2, "max_new_tokens": 4}
"""Settings of the command."""


TWO_PROCESS_WEIGHTS = (1.0, 0.5, 0.25)


def two_process_rewards() -> NDArray[np.float32]:
    """Of three queries with four rollouts each, six a process: the second group lies across the two."""
    reward_SQGK = preset_rewards(3, 4, 4, seed=1)[:, [0, 2, 3]]
    reward_SQGK[0, 0] = 0.5
    reward_SQGK[:, 2, 1, 0] = np.nan
    return reward_SQGK


def killed(out: Path) -> None:
    """Fits that are killed at step 5, each in a child of this process: with one and with two updates a draw, and with
    the live arms of `out`'s pool file."""
    from recal_bench.language_model import fitting, training  # noqa: F401  before the forks, which share it

    live = {"live": str(out / "pool.yaml"), "rounds": 2}
    for name, settings in {"killed-1": {"epochs": 1}, "killed-2": {"epochs": 2}, "killed-live": live}.items():
        child = os.fork()
        if child == 0:
            Killed(out / name, at=5).fit(**settings)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), status
        assert os.WTERMSIG(status) == signal.SIGKILL


if __name__ == "__main__":
    {"two": as_one_of_two, "killed": killed}[sys.argv[1]](Path(sys.argv[2]))
