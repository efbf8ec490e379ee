"""The six simulated models and how they may be asked: what they know, how they fail, what they write and cost.

Two sorts of numbers. The *fitted* ones (`parameters.json`, written by benchmarks/calibrate_pool.py) come from the
published single-model table of Router-R1. The *assumed* ones are in this file: which model is strong in which domain,
and what a strategy changes. docs/embedded-pool.md says which is which.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatA, FloatQA, IntQ
from recal_bench.errors import SettingsError, near_miss
from recal_bench.outcomes import Arm
from recal_bench.pools.strategies import STRATEGIES, Strategy
from recal_bench.simulation.lexicon import DOMAINS, TIERS
from recal_bench.simulation.questions import TASKS, Question

PARAMETERS = Path(__file__).with_name("parameters.json")

# name -> (USD per 1M tokens, prompt and completion the same; the domains' strength in logits, assumed).
# Prices: the pool of Router-R1. The columns are lexicon.DOMAINS; a row's mean is taken up by the fitted level.
#                 screen music letters science sport history business geography
MODELS: dict[str, tuple[float, tuple[float, ...]]] = {
    "ovanta-7b":     (0.30, (+0.6, -0.6, -0.9, +1.5, -0.6, +0.3, +0.9, -0.6)),
    "brelune-70b":   (0.88, (+0.9, -0.3, +0.6, +0.9, -0.9, +0.3, -0.9, -0.3)),
    "brelune-8b":    (0.18, (-0.9, +0.3, -0.6, -0.6, +1.5, -1.2, +0.6, +0.6)),
    "corvale-7b":    (0.20, (+0.3, +0.9, -0.3, -0.9, -0.3, +1.5, -0.6, -0.3)),
    "corvale-8x22b": (1.20, (-0.3, -0.9, +1.2, -0.3, -0.3, +0.6, -0.3, +0.9)),
    "dunmarrow-27b": (0.80, (-0.9, +1.5, +0.3, -0.3, +0.6, -0.9, +1.2, -0.6)),
}  # fmt: skip

# Assumed: share of a model's hop failures that a strategy repairs in multi-hop questions (negative: it adds failures).
_REPAIR = {
    "ovanta-7b":     {"direct": 0.0, "cot": 0.55, "cod": 0.40, "self_ask": 0.25},
    "brelune-70b":   {"direct": 0.0, "cot": 0.60, "cod": 0.45, "self_ask": 0.75},
    "brelune-8b":    {"direct": 0.0, "cot": 0.45, "cod": 0.20, "self_ask": 0.55},
    "corvale-7b":    {"direct": 0.0, "cot": 0.20, "cod": 0.30, "self_ask": 0.10},
    "corvale-8x22b": {"direct": 0.0, "cot": 0.50, "cod": 0.45, "self_ask": 0.60},
    "dunmarrow-27b": {"direct": 0.0, "cot": 0.40, "cod": 0.10, "self_ask": 0.60},
}  # fmt: skip
# Assumed: reliability of the one hop of a single-hop question. Talking it over helps little, and can hurt.
_SINGLE_HOP = {
    "ovanta-7b":     {"direct": 0.96, "cot": 0.97, "cod": 0.93, "self_ask": 0.86},
    "brelune-70b":   {"direct": 0.96, "cot": 0.98, "cod": 0.94, "self_ask": 0.95},
    "brelune-8b":    {"direct": 0.96, "cot": 0.94, "cod": 0.92, "self_ask": 0.88},
    "corvale-7b":    {"direct": 0.96, "cot": 0.90, "cod": 0.94, "self_ask": 0.82},
    "corvale-8x22b": {"direct": 0.96, "cot": 0.98, "cod": 0.96, "self_ask": 0.93},
    "dunmarrow-27b": {"direct": 0.96, "cot": 0.95, "cod": 0.88, "self_ask": 0.92},
}  # fmt: skip
# Assumed: format discipline, the probability of a response whose answer can be found.
_FORMAT = {
    "ovanta-7b":     {"direct": 0.97, "cot": 0.95, "cod": 0.93, "self_ask": 0.86},
    "brelune-70b":   {"direct": 0.98, "cot": 0.97, "cod": 0.96, "self_ask": 0.97},
    "brelune-8b":    {"direct": 0.95, "cot": 0.93, "cod": 0.86, "self_ask": 0.90},
    "corvale-7b":    {"direct": 0.95, "cot": 0.91, "cod": 0.93, "self_ask": 0.80},
    "corvale-8x22b": {"direct": 0.98, "cot": 0.97, "cod": 0.96, "self_ask": 0.94},
    "dunmarrow-27b": {"direct": 0.98, "cot": 0.96, "cod": 0.88, "self_ask": 0.95},
}  # fmt: skip
# Assumed: completion tokens of a strategy = share * tokens of `direct` + fixed + per hop.
_LENGTH = {"direct": (1.0, 0.0, 0.0), "cot": (1.2, 25.0, 20.0), "cod": (0.6, 4.0, 6.0), "self_ask": (1.1, 20.0, 32.0)}

_OPENNESS = {"nq": 1.0, "popqa": 0.0}
_OPENNESS_ELSEWHERE = 0.5
"""How far a task's way of asking invites long responses. Two single-hop tasks span the scale, the rest is assumed."""

ARMS = tuple(sorted((Arm(model, strategy) for model in MODELS for strategy in STRATEGIES), key=str))

# Assumed: one model that reasons unseen, as long as it is told to, and then answers as `direct` does.
EFFORT_MODEL = "dunmarrow-27b"
EFFORTS = {
    f"effort_{effort}": Strategy(
        f"the answer at once, after reasoning with {effort} effort",
        STRATEGIES["direct"].instruction,
        most,
        sampling={"reasoning_effort": effort},
    )
    for effort, most in (("low", 1024), ("high", 2048))
}
_REPAIR[EFFORT_MODEL] |= {"effort_low": 0.35, "effort_high": 0.85}
_SINGLE_HOP[EFFORT_MODEL] |= {"effort_low": 0.96, "effort_high": 0.98}
_FORMAT[EFFORT_MODEL] |= {"effort_low": 0.98, "effort_high": 0.98}
_LENGTH |= {"effort_low": (1.0, 40.0, 25.0), "effort_high": (1.0, 180.0, 110.0)}
EVERY_ARM = (*ARMS, *(Arm(EFFORT_MODEL, effort) for effort in EFFORTS))
ARMS_OF = {"standard": ARMS, "efforts": EVERY_ARM}
"""The arms of a world, by what `--world-arms` calls them. An arm draws the same in both."""


def arms_of(world_arms: str) -> tuple[Arm, ...]:
    """Raises SettingsError where a world has no arms of that name."""
    if world_arms not in ARMS_OF:
        raise SettingsError(f"--world-arms {world_arms}{near_miss(world_arms, ARMS_OF)}: it is {' or '.join(ARMS_OF)}")
    return ARMS_OF[world_arms]


@dataclass(frozen=True)
class ModelParameters:
    """The fitted numbers. M models in the order of MODELS; logits for the first three, words for the next three.

    P(know a fact) = sigmoid(level + domain strength - slope * (tier - 1)); a hop of a multi-hop question holds with
    sigmoid(hop) under `direct`. Mean completion tokens of `direct` = tokens + tokens_open * openness of the task +
    tokens_hop * (hops - 1). `reworded`: how often a right answer is worded otherwise than the canonical gold answer.
    """

    level_M: FloatA
    slope_M: FloatA
    hop_M: FloatA
    tokens_M: FloatA
    tokens_open_M: FloatA
    tokens_hop_M: FloatA
    reworded: float


@lru_cache(maxsize=1)
def fitted_parameters() -> ModelParameters:
    """The committed parameters."""
    return parameters_of(json.loads(PARAMETERS.read_text(encoding="utf-8")))


def parameters_of(values: dict[str, Any]) -> ModelParameters:
    """From the form of parameters.json: `shared` and `models`, each model with its own numbers."""
    by_model = values["models"]
    columns: dict[str, Any] = {
        f"{name}_M": np.array([by_model[model][name] for model in MODELS])
        for name in ("level", "slope", "hop", "tokens", "tokens_open", "tokens_hop")
    }
    return ModelParameters(**columns, **values["shared"])


@dataclass(frozen=True)
class Features:
    """What the texts of queries show. H = 4 hops at most; absent hops have domain -1."""

    domain_QH: NDArray[np.int64]
    tier_QH: NDArray[np.int64]
    hops_Q: IntQ
    comparison_Q: NDArray[np.bool_]
    canonical_only_Q: NDArray[np.bool_]
    task_Q: NDArray[Any]
    words_Q: IntQ


def features_of(questions: Sequence[Question]) -> Features:
    depth = max((len(each.facts) for each in questions), default=1)
    domain_QH = np.full((len(questions), depth), -1)
    tier_QH = np.zeros((len(questions), depth), dtype=np.int64)
    for row, question in enumerate(questions):
        for hop, fact in enumerate(question.facts):
            domain_QH[row, hop] = DOMAINS.index(fact.domain)
            tier_QH[row, hop] = fact.tier
    return Features(
        domain_QH,
        tier_QH,
        (domain_QH >= 0).sum(axis=1),
        np.array([each.comparison for each in questions], dtype=bool),
        np.array([TASKS[each.task].canonical_only for each in questions], dtype=bool),
        np.array([each.task for each in questions], dtype=object),
        np.array([len(each.prompt.split()) for each in questions], dtype=np.int64),
    )


def knowledge(parameters: ModelParameters, features: Features) -> NDArray[np.float64]:
    """P(a model knows the fact of a hop), `[Q, H, M]`; 1 for an absent hop."""
    strength_MD = np.array([strengths for _, strengths in MODELS.values()])
    tier_T = np.arange(TIERS)
    logit_MDT = (parameters.level_M[:, None] + strength_MD)[:, :, None] - (
        parameters.slope_M[:, None, None] * (tier_T - 1)
    )
    know_DTM = np.ones((len(DOMAINS) + 1, TIERS, len(MODELS)))
    know_DTM[:-1] = (1 / (1 + np.exp(-logit_MDT))).transpose(1, 2, 0)
    # An absent hop has domain -1: the last row, certain.
    return np.asarray(know_DTM[features.domain_QH, features.tier_QH])


def reliability(parameters: ModelParameters, features: Features, arms: Sequence[Arm] = ARMS) -> FloatQA:
    """P(no hop slips), given that all facts are known."""
    hop_M = 1 / (1 + np.exp(-parameters.hop_M))
    repair_A, single_A = _by_arm(_REPAIR, arms), _by_arm(_SINGLE_HOP, arms)
    multi_A = 1 - (1 - hop_M[model_of_arm(arms)]) * (1 - repair_A)
    hops_Q1 = features.hops_Q[:, None]
    return np.where(hops_Q1 == 1, single_A, multi_A**hops_Q1)


def format_discipline(arms: Sequence[Arm] = ARMS) -> FloatA:
    """P(a response holds an answer that can be found), by arm."""
    return _by_arm(_FORMAT, arms)


def expected_score(parameters: ModelParameters, features: Features, arms: Sequence[Arm] = ARMS) -> FloatQA:
    """P(exact match) of every arm given the text: over knowledge, slips, guesses, wording and format."""
    known_QA = knowledge(parameters, features).prod(axis=1)[:, model_of_arm(arms)]
    right_QA = known_QA * reliability(parameters, features, arms)
    right_QA = np.where(features.comparison_Q[:, None], (1 + right_QA) / 2, right_QA)
    as_gold_Q = np.where(features.canonical_only_Q, 1 - parameters.reworded, 1.0)
    return np.asarray(right_QA * format_discipline(arms) * as_gold_Q[:, None])


def expected_tokens(parameters: ModelParameters, features: Features, arms: Sequence[Arm] = ARMS) -> FloatQA:
    """Mean completion tokens of every arm given the text; of an effort those of its reasoning are among them."""
    open_Q = np.array([_OPENNESS.get(task, _OPENNESS_ELSEWHERE) for task in features.task_Q])
    direct_QM = (
        parameters.tokens_M
        + parameters.tokens_open_M * open_Q[:, None]
        + parameters.tokens_hop_M * (features.hops_Q[:, None] - 1)
    )
    share_A, fixed_A, per_hop_A = np.array([_LENGTH[arm.strategy] for arm in arms]).T
    return np.asarray(share_A * direct_QM[:, model_of_arm(arms)] + fixed_A + per_hop_A * features.hops_Q[:, None])


def spoken_as(arm: Arm) -> Arm:
    """The arm whose words a reply has: of an effort, which shows nothing of its reasoning, that of `direct`."""
    return Arm(arm.model, "direct") if arm.strategy in EFFORTS else arm


def prompt_tokens(features: Features, arms: Sequence[Arm] = ARMS) -> NDArray[np.int64]:
    """Words of instruction and question, `[Q, A]`."""
    instruction_A = np.array([len(STRATEGIES[spoken_as(arm).strategy].instruction.split()) for arm in arms])
    return np.asarray(features.words_Q[:, None] + instruction_A)


def price(arms: Sequence[Arm] = ARMS) -> FloatA:
    """USD per token, by arm."""
    return np.array([MODELS[arm.model][0] for arm in arms]) / 1e6


def model_of_arm(arms: Sequence[Arm] = ARMS) -> NDArray[np.int64]:
    """Index into MODELS, by arm."""
    return np.array([list(MODELS).index(arm.model) for arm in arms])


def _by_arm(table: dict[str, dict[str, float]], arms: Sequence[Arm]) -> FloatA:
    return np.array([table[arm.model][arm.strategy] for arm in arms])
