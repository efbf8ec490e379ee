"""The loop: improve, evaluate, log, keep a checkpoint; go on where a killed one stopped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from recal_bench.routers import Context
from recal_bench.toolbox.threads import one_thread
from recal_bench.training.checkpoint import read_checkpoint, remove_checkpoint, write_checkpoint
from recal_bench.training.learner import Learner
from recal_bench.training.packing import pack, restore

EVALUATE_EVERY = 25
CHECKPOINT_EVERY = 100
"""A multiple of `EVALUATE_EVERY`, at which all is logged: what a kill takes from the log is trained again."""
LINES_AT_ONCE = 25


def train(
    make: Callable[[Sequence[int]], Learner], contexts: Sequence[Context], configurations: Sequence[str]
) -> list[dict[str, Tensor]]:
    """Train one policy for each context, all at once, and return the parameters that were kept of each.

    `make` gives the learner of the contexts with these numbers. Each context's log gets one line a step, after one of
    the untrained policy. A configuration names all that determines a result: a checkpoint in a context's folder that
    was made by the same is gone on from, to exactly the result of a run that was not disturbed; any other is not used.
    Contexts that were stopped at different steps go on in batches of their own.
    """
    members: dict[int, list[int]] = defaultdict(list)
    packed: list[Any] = []
    for number, (context, configuration) in enumerate(zip(contexts, configurations, strict=True)):
        found = read_checkpoint(context.folder)
        if found and found["configuration"] == configuration:
            packed.append(found["learner"])
            members[found["step"]].append(number)
        else:
            packed.append(None)
            members[0].append(number)
    kept: dict[int, dict[str, Tensor]] = {}
    for step, numbers in members.items():
        learner = make(numbers)
        if step:
            restore(learner, [packed[number] for number in numbers])
        _run(learner, [contexts[number] for number in numbers], [configurations[number] for number in numbers])
        kept |= zip(numbers, learner.kept(), strict=True)
    for context in contexts:
        remove_checkpoint(context.folder)
    return [kept[number] for number in range(len(contexts))]


def _run(learner: Learner, contexts: Sequence[Context], configurations: Sequence[str]) -> None:
    def log(lines: list[dict[str, float]]) -> None:
        for context, line in zip(contexts, lines, strict=True):
            context.log(line)

    with one_thread():
        if learner.step == 0:
            log([{"step": 0, **line} for line in learner.evaluate()])
        while learner.step < learner.settings.steps:
            learner.improve()
            looks = learner.step % EVALUATE_EVERY == 0 or learner.step == learner.settings.steps
            if looks or len(learner.untold) * len(contexts) >= LINES_AT_ONCE:
                *before, last = learner.tell()
                if looks:
                    last = [line | judged for line, judged in zip(last, learner.evaluate(), strict=True)]
                for lines in (*before, last):
                    log(lines)
            if learner.step % CHECKPOINT_EVERY == 0:
                for seed, (context, configuration) in enumerate(zip(contexts, configurations, strict=True)):
                    content = {"configuration": configuration, "step": learner.step, "learner": pack(learner, seed)}
                    write_checkpoint(context.folder, content)
