"""The embedded pool: a seeded, fictional world, six simulated models in it, and their outcomes."""

from recal_bench.simulation.advice import simulated_adviser
from recal_bench.simulation.embedded import (
    embedded_frame,
    embedded_outcomes,
    embedded_questions,
    embedded_responses,
    questions_by_prompt,
)
from recal_bench.simulation.pool import SimulatedPool, SimulatedReply
from recal_bench.simulation.questions import Question
from recal_bench.simulation.world import World

__all__ = [
    "Question",
    "SimulatedPool",
    "SimulatedReply",
    "World",
    "embedded_frame",
    "embedded_outcomes",
    "embedded_questions",
    "embedded_responses",
    "questions_by_prompt",
    "simulated_adviser",
]
