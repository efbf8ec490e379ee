"""How fast a language model was trained: tokens a second, and the share of what the device can multiply."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from recal_bench.experiments.deployed import DeployedRouter
from recal_bench.experiments.records import Run

SIZE = {"cuda": 8192, "cpu": 1024}
"""Rows and columns of the matrices whose product is timed."""


class Speed(NamedTuple):
    """Of a step without an evaluation in it. `flop` counts 2 for each weight and token that is read or written in
    generation and 6 in the update (forward and backward); attention and softmax are left out."""

    step_seconds: float
    tokens: float
    flop: float
    peak_flops: float

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.step_seconds

    @property
    def utilisation(self) -> float:
        return self.flop / self.step_seconds / self.peak_flops


def speed_of(
    step_seconds: float | None,
    logs: Sequence[Sequence[dict[str, Any]]],
    rollouts: int,
    questions: Sequence[str],
    run: Run,
    device: str,
) -> Speed | None:
    """Of so many rollouts a step on questions like these; None where no step was timed (the runs were found) or no
    reply was written."""
    reply = [line["reply_tokens"] for log in logs for line in log if "reply_tokens" in line]
    if step_seconds is None or not reply:
        return None
    dialogue = DeployedRouter(run)._router._dialogue
    model = dialogue.local.model
    # What is looked up in a table is not multiplied.
    looked_up = 0 if model.config.tie_word_embeddings else model.get_input_embeddings().weight.numel()
    weights = model.num_parameters() - looked_up
    prompt = float(np.mean([len(dialogue.prompt_ids(each)) for each in questions]))
    tokens = rollouts * (prompt + float(np.mean(reply)))
    return Speed(step_seconds, tokens, 8 * weights * tokens, matrix_product(device))


def matrix_product(device: str, dtype: Any = None) -> float:
    """FLOP a second of the device's matrix product, best of five: of the type that is given, else in bfloat16 on a GPU
    and in float32 on one core."""
    import torch

    size = SIZE[device.partition(":")[0]]
    dtype = dtype or (torch.float32 if device == "cpu" else torch.bfloat16)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        begin = time.perf_counter()
        (left @ right)[0, 0].item()
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best
