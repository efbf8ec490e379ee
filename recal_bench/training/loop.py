"""The loop: improve, evaluate, log, keep a checkpoint; go on where a killed one stopped."""

from __future__ import annotations

from recal_bench.routers import Context
from recal_bench.training.checkpoint import read_checkpoint, remove_checkpoint, write_checkpoint
from recal_bench.training.learner import Examples, Learner
from recal_bench.training.threads import one_thread

EVALUATE_EVERY = 25
CHECKPOINT_EVERY = 100


def train(learner: Learner, examples: Examples, validation: Examples, context: Context, configuration: str) -> None:
    """Train the learner's policy for its number of steps, one log line a step, and leave the kept policy in it.

    `configuration` names all that determines the result: a checkpoint in the context's folder that was made by the same
    is gone on from, to exactly the result of a run that was not disturbed; any other is not used.
    """
    found = read_checkpoint(context.folder)
    if found and found["configuration"] == configuration:
        learner.restore(found["learner"])
    else:
        learner.evaluate(validation)
    with one_thread():
        while learner.step < learner.settings.steps:
            line = learner.improve(examples)
            if learner.step % EVALUATE_EVERY == 0 or learner.step == learner.settings.steps:
                line |= learner.evaluate(validation)
            context.log(line)
            if learner.step % CHECKPOINT_EVERY == 0:
                write_checkpoint(
                    context.folder,
                    {"configuration": configuration, "step": learner.step, "learner": learner.pack()},
                )
    learner.finish()
    remove_checkpoint(context.folder)
