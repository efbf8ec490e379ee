"""A policy of a few thousand weights for tests, with or without a chat template, and outcomes for it to learn from."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np

from recal_bench.language_model.dialogue import Dialogue
from recal_bench.language_model.local import tiny
from recal_bench.language_model.pool import LoggedPool
from recal_bench.language_model.prompting import describe, question_prompt
from recal_bench.language_model.protocol import Turn, render
from recal_bench.outcomes import Arm

ARMS = tuple(Arm(model, strategy) for model in ("brelune-7b", "brelune-70b") for strategy in ("direct", "cot"))
MODELS = tuple(Arm(model, "direct") for model in ("brelune-7b", "brelune-70b", "corvale-7b"))
QUESTIONS = [
    f"who is the {number}th king of {'far ' * (number % 3)}{land}land?" for land in "ab" for number in range(4)
]
_CHAT = (
    "{% for m in messages %}<|bos|>{{ m.role }}\n{{ m.content }}<|eos|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|bos|>assistant\n{% endif %}"
)


@cache
def _made(chat: bool, arms: tuple[Arm, ...]) -> Dialogue:
    texts = [*(question_prompt(each, True) for each in QUESTIONS), *(render(Turn("", arm, None, None)) for arm in arms)]
    local = tiny(texts, 0, hidden=32, layers=2, vocabulary=340, length=2048)
    if chat:
        local.tokenizer.chat_template = _CHAT
    return Dialogue(local, arms, describe())


def policy(chat: bool = False, arms: tuple[Arm, ...] = ARMS) -> Dialogue:
    """Weights of its own, which a test may train."""
    made = copy.copy(_made(chat, arms))
    made.local = made.local._replace(model=copy.deepcopy(made.local.model))
    return made


def outcomes(arms: int = len(ARMS), seed: int = 0) -> LoggedPool:
    """Of `QUESTIONS`, in two datasets. The last arm has no outcome on the first question."""
    rng = np.random.default_rng(seed)
    shape = len(QUESTIONS), arms
    available_QA = np.ones(shape, dtype=bool)
    available_QA[0, -1] = False
    score_QA, cost_QA = rng.integers(0, 2, shape) * 1.0, rng.uniform(size=shape)
    return LoggedPool(
        ARMS[:arms],
        np.where(available_QA, score_QA, 0.0),
        np.where(available_QA, cost_QA, 0.0),
        available_QA,
        np.arange(len(QUESTIONS)) % 2,
        np.arange(arms),
        np.array([[f"answer {arm}" for arm in range(arms)]] * len(QUESTIONS), dtype=object),
    )
