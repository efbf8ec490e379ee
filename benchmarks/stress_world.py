"""Simulated outcomes of tasks that differ in everything calibration is for: success rate, reward spread, cost and size.

Six tasks, eight arms. A world (a seed) draws which success rate and kind of score meets which size and cost, the topics
of each task, the arms' merits in each topic, and the texts. Scores and costs are drawn from known distributions and the
topic's probability given a text is computed, so the true expected score and cost of every (text, arm) are known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtr

from recal_bench.evaluation.metrics import task_means
from recal_bench.evaluation.references import bayes, best_single
from recal_bench.experiments.bench import queries_of
from recal_bench.outcomes import Arm, Objective, Outcomes, mean_over_observed
from recal_bench.outcomes.dense import content_hash
from recal_bench.outcomes.splits import Splits, prepare
from recal_bench.routers import Calls, Queries, Train

Array = NDArray[np.float64]


class Kind(NamedTuple):
    """How a task is scored. `rate` is the mean score over arms and topics.

    `half_width` None: right or wrong. Otherwise graded: the arms' expected scores lie in `rate` +- `half_width`, and a
    score in its expectation +- `half_width`.
    """

    rate: float
    half_width: float | None
    n_topics: int


class Slot(NamedTuple):
    """Train queries, and mean cost of the most expensive arm in USD a query."""

    n_train: int
    cost_usd: float


KINDS = {
    "right05": Kind(0.05, None, 2),
    "right25": Kind(0.25, None, 3),
    "graded40": Kind(0.40, 0.03, 2),
    "right55": Kind(0.55, None, 3),
    "graded70": Kind(0.70, 0.06, 3),
    "right95": Kind(0.95, None, 2),
}
# Sizes x20 and costs x100, both in geometric steps. Their pairing is fixed and keeps the costliest task among the large
# ones: cost_ref is a mean over all train queries, so a dear task of few queries would have costs that dwarf any score.
SLOTS = (
    Slot(4000, 1e-3 * 100**0.4),
    Slot(2197, 1e-3 * 100),
    Slot(1207, 1e-3),
    Slot(663, 1e-3 * 100**0.8),
    Slot(364, 1e-3 * 100**0.2),
    Slot(200, 1e-3 * 100**0.6),
)
N_VALIDATION, N_TEST = 100, 250
MODELS = {"tiny": 0.05, "small": 0.14, "medium": 0.37, "large": 1.0}
STRATEGIES = {"cot": 1.0, "direct": 0.4}
ARMS = tuple(sorted(Arm(model, strategy) for model in MODELS for strategy in STRATEGIES))
COST_A = np.array([MODELS[arm.model] * STRATEGIES[arm.strategy] for arm in ARMS])
MARGIN = 1.0  # of a topic's best arm over the next, in logits
SHARED_LUCK = 0.5  # correlation of a query's outcomes between arms: hard and easy queries, which the text does not show
COST_SPREAD = 0.4  # log standard deviation of a query's cost
WORDS_A_PROMPT, WORDS_A_TOPIC, WORDS_A_TASK, WORDS_ELSE = 14, 8, 12, 24
OWN_TOPIC, OTHER_TOPIC, TASK_WORD = 0.30, 0.06, 0.35  # a word's chances; else it is one that all tasks have


@dataclass(frozen=True)
class Task:
    kind: Kind
    slot: Slot
    expected_KA: Array
    topic_words: list[list[str]]
    task_words: list[str]
    other_words: list[str]

    @property
    def mean_cost_usd(self) -> float:
        """Over arms."""
        return float(self.slot.cost_usd * COST_A.mean())


@dataclass(frozen=True)
class World:
    """What routers learn from, and the truth about the test texts. References have one value a task, `[T]`."""

    seed: int
    tasks: dict[str, Task]
    splits: Splits
    objective: Objective
    train: Train
    validation: Train
    test: Queries
    calls: Calls
    expected_utility_QA: Array
    bayes_T: Array
    best_single_T: Array
    random_T: Array

    def task_utilities(self, arm_Q: NDArray[Any]) -> Array:
        """True expected utility of decisions on the test texts, by task."""
        chosen_Q = self.expected_utility_QA[np.arange(len(arm_Q)), arm_Q]
        return task_means(chosen_Q, self.splits.test.task_Q)


@lru_cache(maxsize=1)
def same_world(seed: int, alpha: float, shrink: int) -> World:
    """`make_world`, made once for what a process does on it one after the other."""
    return make_world(seed, alpha, shrink)


def make_world(seed: int, alpha: float = 0.2, shrink: int = 1) -> World:
    """The world of a seed. `shrink` divides all numbers of queries (for tests)."""
    tasks = draw_tasks(np.random.default_rng([seed, 0]))
    outcomes = draw_outcomes(tasks, seed, shrink)
    splits = prepare(outcomes)
    train, test = splits.train, splits.test
    objective = Objective.from_train(train.score_QA, train.cost_QA, alpha)
    mean_cost_A = mean_over_observed(train.cost_QA)
    assert test.expected_score_QA is not None
    assert test.expected_cost_QA is not None
    utility_QA = objective.utility(test.expected_score_QA, test.expected_cost_QA)
    best = bayes(test.expected_score_QA, test.expected_cost_QA, objective, test.observed_QA)
    single = best_single(objective.utility(train.score_QA, train.cost_QA), train.task_Q, mean_cost_A)
    return World(
        seed=seed,
        tasks=tasks,
        splits=splits,
        objective=objective,
        train=_visible(train, objective),
        validation=_visible(splits.validation, objective),
        test=queries_of(test),
        calls=Calls(test.arms, objective, test.observed_QA, mean_cost_A),
        expected_utility_QA=utility_QA,
        bayes_T=task_means(utility_QA[np.arange(len(test)), best], test.task_Q),
        best_single_T=task_means(utility_QA[:, single], test.task_Q),
        random_T=task_means(utility_QA.mean(axis=1), test.task_Q),
    )


def _visible(outcomes: Outcomes, objective: Objective) -> Train:
    return Train(queries_of(outcomes), replace(outcomes, expected_score_QA=None, expected_cost_QA=None), objective)


def draw_tasks(rng: np.random.Generator) -> dict[str, Task]:
    """Which kind of score meets which size and cost; topics with different best arms; words."""
    n_words = WORDS_ELSE + sum(WORDS_A_TASK + kind.n_topics * WORDS_A_TOPIC for kind in KINDS.values())
    words = iter(_words(rng, n_words))

    def take(count: int) -> list[str]:
        return [next(words) for _ in range(count)]

    other_words = take(WORDS_ELSE)
    slots = [SLOTS[index] for index in rng.permutation(len(SLOTS))]
    return {
        name: Task(
            kind,
            slot,
            _merits(rng, kind),
            [take(WORDS_A_TOPIC) for _ in range(kind.n_topics)],
            take(WORDS_A_TASK),
            other_words,
        )
        for (name, kind), slot in zip(KINDS.items(), slots, strict=True)
    }


def _merits(rng: np.random.Generator, kind: Kind) -> Array:
    """Expected score of every arm in every topic, `[K, A]`: dearer ones are better, but each topic has its own best."""
    ability_A = np.log(COST_A)
    ability_A = (ability_A - ability_A.mean()) / ability_A.std()
    merit_KA = 0.5 * ability_A + rng.normal(0, 0.5, (kind.n_topics, len(ARMS)))
    best_K = rng.choice(len(ARMS), kind.n_topics, replace=False)
    for merit_A, best in zip(merit_KA, best_K, strict=True):
        merit_A[best] = np.delete(merit_A, best).max() + MARGIN
    if kind.half_width is None:
        shift = brentq(lambda shift: expit(merit_KA + shift).mean() - kind.rate, -20, 20)
        return np.asarray(expit(merit_KA + shift))
    centred_KA = merit_KA - merit_KA.mean()
    return np.asarray(kind.rate + kind.half_width * centred_KA / np.abs(centred_KA).max())


def draw_outcomes(tasks: dict[str, Task], seed: int, shrink: int) -> Outcomes:
    parts: list[dict[str, Any]] = []
    for number, name in enumerate(sorted(tasks)):
        for which, split in enumerate(("test", "train", "validation")):
            n_queries = {"train": tasks[name].slot.n_train, "validation": N_VALIDATION, "test": N_TEST}[split] // shrink
            rng = np.random.default_rng([seed, 1, number, which])
            identifiers = [f"{split}-{row:05d}" for row in range(n_queries)]
            parts.append(
                {"task_Q": [name] * n_queries, "query_id_Q": identifiers, "split_Q": [split] * n_queries}
                | _draw(rng, tasks[name], n_queries)
            )
    columns = {key: np.concatenate([np.asarray(part[key]) for part in parts]) for key in parts[0]}
    texts = {key: value.astype(object) for key, value in columns.items() if value.ndim == 1}
    outcomes = Outcomes(**(columns | texts), arms=ARMS, name=f"stress world {seed}", data_hash="", simulated=True)
    outcomes = outcomes.take(np.lexsort([outcomes.query_id_Q, outcomes.task_Q, outcomes.split_Q]))
    return replace(outcomes, data_hash=content_hash(outcomes))


def _draw(rng: np.random.Generator, task: Task, n_queries: int) -> dict[str, Any]:
    """Texts, logged scores and costs, and their expectations given the text."""
    n_topics, n_arms = task.expected_KA.shape
    topic_Q = rng.integers(n_topics, size=n_queries)
    topic_chance_QK = np.full((n_queries, n_topics), OTHER_TOPIC)
    topic_chance_QK[np.arange(n_queries), topic_Q] = OWN_TOPIC
    chance_QC = np.column_stack([topic_chance_QK, np.full(n_queries, TASK_WORD)])
    source_QW = (rng.random((n_queries, WORDS_A_PROMPT, 1)) > chance_QC.cumsum(axis=1)[:, None, :]).sum(axis=-1)
    sources = [*task.topic_words, task.task_words, task.other_words]
    prompts = [" ".join(rng.choice(sources[source]) for source in source_W) for source_W in source_QW]
    # Words of equal chance within a topic: how many come from each topic is all that the text tells of its topic.
    count_QK = np.stack([(source_QW == topic).sum(axis=1) for topic in range(n_topics)], axis=1)
    evidence_QK = count_QK * np.log(OWN_TOPIC / OTHER_TOPIC)
    chance_QK = np.exp(evidence_QK - evidence_QK.max(axis=1, keepdims=True))
    chance_QK /= chance_QK.sum(axis=1, keepdims=True)

    luck_QA = np.sqrt(SHARED_LUCK) * rng.normal(size=(n_queries, 1))
    luck_QA = ndtr(luck_QA + np.sqrt(1 - SHARED_LUCK) * rng.normal(size=(n_queries, n_arms)))
    expected_QA = task.expected_KA[topic_Q]
    if task.kind.half_width is None:
        score_QA = (luck_QA < expected_QA).astype(np.float64)
    else:
        score_QA = expected_QA + task.kind.half_width * (1 - 2 * luck_QA)
    length_Q1 = np.exp(rng.normal(-(COST_SPREAD**2) / 2, COST_SPREAD, (n_queries, 1)))
    mean_cost_A = task.slot.cost_usd * COST_A
    return {
        "prompt_Q": prompts,
        "score_QA": score_QA,
        "cost_QA": mean_cost_A * length_Q1,
        "expected_score_QA": chance_QK @ task.expected_KA,
        "expected_cost_QA": np.tile(mean_cost_A, (n_queries, 1)),
    }


def _words(rng: np.random.Generator, count: int) -> list[str]:
    """Distinct made-up words of three syllables."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(rng.choice(syllables, 3))] = None
    return list(found)
