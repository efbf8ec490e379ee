"""Advice of the simulated models: which of several described options should answer a question of the embedded pool.

A model sees the message and nothing else. Of the question it perceives, with noise, the task and how hard it is; of the
options it knows the numbers that the message states. The less a model knows of the world, the more noise. All numbers
here are assumed, and docs/embedded-pool.md says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtri

from recal_bench import routers
from recal_bench.arrays import FloatA
from recal_bench.errors import SettingsError
from recal_bench.outcomes import Arm
from recal_bench.simulation import models
from recal_bench.simulation.embedded import questions_by_prompt
from recal_bench.simulation.pool import SimulatedReply
from recal_bench.simulation.questions import TASKS, Question
from recal_bench.simulation.responses import closing_line
from recal_bench.simulation.streams import Keys, joined, key_of, uniform

HARDNESS_NOISE, PICK_NOISE = 2.0, 0.1
"""Standard deviations for a model that knows nothing: of the perceived hardness (logits), of an option's value."""
PER_TIER, PER_HOP = 1.0, 0.7
"""What a tier towards the obscure, and a hop more, make a question harder (logits)."""
_UNUSABLE = "That depends on what is wanted."
_QUESTION = "\nQuestion: "
_OPTION = re.compile(r"^(\d+)[.)] (.+)$", re.MULTILINE)
_STATED = r"(-?\d+(?:\.\d+)?)"
_WEIGHT = re.compile(rf"score - {_STATED} \* cost")
_TASK, _OTHER_TASK, _HARDNESS, _FORMAT, _PICK = range(5)
"""The numbered draws."""


class _Options(NamedTuple):
    """The options of a message, and the weight of their cost. `score_TN` is by task (as in TASKS); NaN: not stated."""

    number_N: tuple[int, ...]
    score_N: FloatA
    score_TN: FloatA
    cost_N: FloatA
    key_N: Keys
    weight: float


def asked_about(message: str) -> str | None:
    """The question that a request for advice is about; None where the message is not such a request.

    A request has numbered options (`2. NAME: score 0.31, cost 0.12; nq 0.28, popqa 0.35`), a line for each, and then
    a line `Question: ...`. It may state its goal as `score - WEIGHT * cost`.
    """
    head, found, rest = message.partition(_QUESTION)
    return rest.partition("\n")[0] if found and _OPTION.search(head) else None


def advise(world_seed: int, model: str, message: str) -> SimulatedReply:
    """What a simulated model answers to a request for advice: the number of an option, or nothing that can be used.

    The same message gets the same answer. Raises SettingsError where there is no such model or question.
    """
    if model not in models.MODELS:
        raise SettingsError(f"the embedded pool has no model {model} to advise: it has {', '.join(models.MODELS)}")
    question = questions_by_prompt(world_seed).get(asked_about(message) or "")
    if question is None:
        raise SettingsError("the simulated models give advice on the questions of the embedded pool only")
    key = np.array([key_of("advice", world_seed, model, question.prompt)], dtype=np.uint64)
    options = _read(message.partition(_QUESTION)[0])
    clumsiness = 1 - _skill(model)
    task = _perceived_task(key, question, clumsiness)
    hardness = _hardness([fact.tier for fact in question.facts])
    hardness += HARDNESS_NOISE * clumsiness * float(ndtri(uniform(key, _HARDNESS))[0])
    # How hard it is beyond what the stated scores are an average of.
    typical_T = [_typical_hardness(each) for each in TASKS]
    score_N, typical = options.score_N, float(np.mean(typical_T))
    if not np.isnan(options.score_TN[task]).any():
        score_N, typical = options.score_TN[task], typical_T[task]
    value_N = expit(logit(np.clip(score_N, 0.01, 0.99)) - (hardness - typical)) - options.weight * options.cost_N
    value_N += PICK_NOISE * clumsiness * ndtri(uniform(joined(key, options.key_N), _PICK))
    text = closing_line(model, str(options.number_N[int(np.argmax(value_N))]))
    discipline = models.format_discipline()[models.ARMS.index(Arm(model, "direct"))]
    if uniform(key, _FORMAT)[0] >= discipline:
        text = _UNUSABLE
    return SimulatedReply(text, len(message.split()), len(text.split()))


def simulated_adviser(world_seed: int) -> Callable[[str, str], routers.Reply]:
    """`advise` at the pool's prices, for `Calls.adviser`: model and message to text and cost (USD)."""

    def ask(model: str, message: str) -> routers.Reply:
        said = advise(world_seed, model, message)
        tokens = said.prompt_tokens + said.completion_tokens
        return routers.Reply(said.text, tokens * models.MODELS[model][0] / 1e6)

    return ask


def _skill(model: str) -> float:
    """How much a model knows of the world: P(it knows a fact of the second tier), in a domain of average strength."""
    parameters = models.fitted_parameters()
    return float(expit(parameters.level_M[list(models.MODELS).index(model)]))


def _perceived_task(key: Keys, question: Question, clumsiness: float) -> int:
    """The task as a model takes it: the right one, or any."""
    names = list(TASKS)
    if uniform(key, _TASK)[0] < clumsiness:
        return int(uniform(key, _OTHER_TASK)[0] * len(names))
    return names.index(question.task)


def _hardness(tiers: list[int]) -> float:
    return PER_TIER * float(np.mean(tiers)) + PER_HOP * len(tiers)


@lru_cache(maxsize=len(TASKS))
def _typical_hardness(task: str) -> float:
    """That of a task's average question."""
    profile = TASKS[task]
    tier = np.average(np.arange(len(profile.tiers)), weights=profile.tiers)
    hops = np.average(1 + np.arange(len(profile.hops)), weights=profile.hops)
    return float(PER_TIER * tier + PER_HOP * hops)


@lru_cache(maxsize=256)
def _read(head: str) -> _Options:
    """The options as a message states them. A score or cost that it does not state is taken as 0."""
    numbers, texts = zip(*_OPTION.findall(head), strict=True)
    weight = _WEIGHT.search(head)
    return _Options(
        tuple(map(int, numbers)),
        np.nan_to_num([_stated("score", text) for text in texts]),
        np.array([[_stated(task, text) for text in texts] for task in TASKS]),
        np.nan_to_num([_stated("cost", text) for text in texts]),
        np.array([key_of(text) for text in texts], dtype=np.uint64),
        float(weight[1]) if weight else 0.0,
    )


def _stated(name: str, text: str) -> float:
    """The number after a name; NaN where there is none."""
    found = re.search(rf"\b{name} {_STATED}", text)
    return float(found[1]) if found else np.nan
