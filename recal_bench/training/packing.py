"""What of a learner persists between steps: taken apart by seed for checkpoints, and put together again."""

from __future__ import annotations

from typing import Any

from recal_bench.training.learner import Learner
from recal_bench.training.seeds import leaves, like, of_seed, stack_seeds
from recal_bench.training.selection import Selection


def pack(learner: Learner, seed: int) -> dict[str, Any]:
    """All of one seed that persists between steps, for a checkpoint."""
    return {
        "step": learner.step,
        "policy": of_seed(learner.policy.state_dict(), seed),
        "average": of_seed(learner.average, seed),
        "optimizer": of_seed(learner.optimizer.state(), seed),
        "calibration": leaves(of_seed(learner.state, seed)),
        "buffer": learner.buffers[seed],
        "selection": learner.selections[seed].pack(),
        "generator": learner.generators[seed].get_state(),
    }


def restore(learner: Learner, packed: list[dict[str, Any]]) -> None:
    """Let a learner go on from what `pack` gave, all seeds at the same step."""
    learner.step = packed[0]["step"]
    learner.policy.load_state_dict(stack_seeds([each["policy"] for each in packed]))
    learner.average = stack_seeds([each["average"] for each in packed])
    moments = stack_seeds([each["optimizer"] for each in packed])
    learner.optimizer.restore(moments, learner.step * learner.settings.epochs)
    learner.state = like(learner.state, stack_seeds([each["calibration"] for each in packed]))
    learner.buffers = [each["buffer"] for each in packed]
    learner.selections = [Selection(**each["selection"]) for each in packed]
    for generator, each in zip(learner.generators, packed, strict=True):
        generator.set_state(each["generator"])
