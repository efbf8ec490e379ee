"""The supervised start: before RL the policy learns to write well-formed replies, and what a predicting router knows.

A policy that writes routes at random explores nothing: RL then finds the best single arm and stays there. One that is
distilled from a router's predictions starts where that router ends. TRL's SFTTrainer does the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import BoolQA, FloatQA, IntQ
from recal_bench.language_model.dialogue import Dialogue
from recal_bench.language_model.local import best_dtype
from recal_bench.language_model.processes import share_of
from recal_bench.language_model.protocol import Turn, without_tags

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
"""The label of a token that is not learnt."""
THOUGHT = "I compare what the models cost with what they know."


def targets(
    value_QA: FloatQA | None, available_QA: BoolQA, temperature: float, count: int, rng: np.random.Generator
) -> tuple[IntQ, IntQ]:
    """`count` examples: rows, each as often as any other, and an arm for each.

    Arms are drawn from the softmax of `value_QA / temperature` over those that have an outcome; without values each is
    as likely as another.
    """
    n_rows = len(available_QA)
    rows = np.concatenate([rng.permutation(n_rows) for _ in range(-(-count // n_rows))])[:count]
    logit_NA = np.where(available_QA[rows], 0.0 if value_QA is None else value_QA[rows] / temperature, -np.inf)
    # The largest of logits with Gumbel noise is a draw from their softmax.
    return rows, (logit_NA + rng.gumbel(size=logit_NA.shape)).argmax(axis=1)


def supervise(
    dialogue: Dialogue,
    questions: Sequence[str],
    rows: IntQ,
    arms: NDArray[Any],
    learning_rate: float,
    batch_size: int,
    micro_batch: int,
    seed: int,
    device: str,
    folder: Path,
) -> None:
    """Train the policy to reply to the questions of `rows` with a route to each one's arm. The loss is on the reply."""
    import torch
    from transformers import PrinterCallback, Trainer, TrainingArguments

    examples = [
        (dialogue.prompt_ids(questions[row]), dialogue.reply_ids(route(dialogue, int(arm), questions[row])))
        for row, arm in zip(rows, arms, strict=True)
    ]
    pad = dialogue.local.tokenizer.pad_token_id

    def collate(pairs: list[tuple[list[int], list[int]]]) -> dict[str, Any]:
        """Prompts end, and replies begin, wherever they do: what matters is that the last tokens are aligned, for
        logits are computed of them alone."""
        length, kept = max(len(one) + len(two) for one, two in pairs), 1 + max(len(two) for _, two in pairs)
        gaps = [length - len(one) - len(two) for one, two in pairs]
        labels = [[IGNORED] * (kept - len(two)) + two for _, two in pairs]
        return {
            "input_ids": torch.tensor([[pad] * gap + one + two for gap, (one, two) in zip(gaps, pairs, strict=True)]),
            "attention_mask": torch.tensor([[0] * gap + [1] * (length - gap) for gap in gaps]),
            "labels": torch.tensor(labels),
            "logits_to_keep": kept,
        }

    share = share_of(batch_size, f"a batch of {batch_size}")
    micro = divisor(share, micro_batch)
    trainer = Trainer(
        model=dialogue.local.model,
        train_dataset=examples,
        data_collator=collate,
        args=TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=1,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=share // micro,
            learning_rate=learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=min(10, len(examples) // batch_size // 10),
            weight_decay=0.0,
            remove_unused_columns=False,
            seed=seed,
            use_cpu=device == "cpu",
            bf16=halved(dialogue, device),
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        ),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def route(dialogue: Dialogue, arm: int, question: str) -> Turn:
    """The plainest route of a question to an arm: what is thought, and what is asked instead, is the policy's to find.

    A question that no route can hold, for its tags (in Router-R1's form its colons), is asked without them.
    """
    if dialogue.short:
        return Turn("", dialogue.arms[arm], None, None)
    query = without_tags(question)
    if dialogue.form == "router-r1":
        query = " ".join(query.replace(":", " ").split())
    return Turn(THOUGHT, dialogue.arms[arm], query, None)


def divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is at most `most`."""
    return next(part for part in range(max(min(number, most), 1), 0, -1) if number % part == 0)


def halved(dialogue: Dialogue, device: str) -> bool:
    """Whether to compute in bfloat16: where the device can, but for a model too small to gain by it."""
    import torch

    return not dialogue.short and (device != "cpu" or best_dtype() is torch.bfloat16)


def trained_parameters(model: Any) -> dict[str, Tensor]:
    """Copies of the parameters that training changes (of LoRA the adapters alone)."""
    return {name: value.detach().cpu().clone() for name, value in model.named_parameters() if value.requires_grad}
