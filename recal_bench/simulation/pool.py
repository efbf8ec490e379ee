"""The embedded pool: one reply at a time, or all of them at once. Both make the same draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from recal_bench.arrays import FloatQA
from recal_bench.errors import SettingsError
from recal_bench.outcomes import Arm
from recal_bench.scoring import exact_match, extract_answer
from recal_bench.simulation import models
from recal_bench.simulation.questions import Question
from recal_bench.simulation.responses import closing_line, response
from recal_bench.simulation.streams import joined, key_of, uniform

MALFORMED = -1
SHARED_DIFFICULTY = 0.5
"""Assumed: correlation between models of what they know of a fact, beyond domain and tier (a Gaussian copula)."""
LENGTH_SPREAD = 0.3
"""Assumed: completion tokens are uniform within +-30% of their mean."""
_SLIP, _GUESS, _FORMAT, _WORDING, _PICK, _LENGTH, _ROUNDING, _START = range(8)
"""The numbered draws of a reply's stream."""


class SimulatedReply(NamedTuple):
    """What one arm answers to one query. A token is a whitespace word of the text, or of reasoning that is not shown.

    `completion_tokens` includes `reasoning_tokens`.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class Replies:
    """All replies to Q queries, without their text: what each says last, how long it is, where its text starts.

    `said_QA` indexes `right + wrong` of the query, or is MALFORMED. `completion_tokens_QA` includes the reasoning.
    """

    arms: tuple[Arm, ...]
    said_QA: NDArray[np.int64]
    prompt_tokens_QA: NDArray[np.int64]
    completion_tokens_QA: NDArray[np.int64]
    reasoning_tokens_QA: NDArray[np.int64]
    start_QA: FloatQA

    def text(self, question: Question, row: int, arm: int) -> str:
        """The text of one of them; `question` is the query of that row."""
        said = self.said_QA[row, arm]
        model, strategy = models.spoken_as(self.arms[arm])
        closing = None if said == MALFORMED else closing_line(model, (question.right + question.wrong)[said])
        words = int(self.completion_tokens_QA[row, arm] - self.reasoning_tokens_QA[row, arm])
        return response(strategy, closing, words, float(self.start_QA[row, arm]))


class SimulatedPool:
    """The six simulated models under four strategies, in the world of a seed.

    `world_arms`: `standard`, or `efforts` for two more arms, of a model that reasons as long as it is told to.
    """

    def __init__(self, world_seed: int = 0, world_arms: str = "standard") -> None:
        self.world_seed = world_seed
        self.arms = models.arms_of(world_arms)
        self.parameters = models.fitted_parameters()
        self._arm_key_A = np.array([key_of("arm", arm) for arm in self.arms], dtype=np.uint64)
        self._model_key_M = np.array([key_of("model", model) for model in models.MODELS], dtype=np.uint64)
        self._seed_key = np.array([key_of("pool", world_seed)], dtype=np.uint64)

    def answer(self, query: Question, arm: Arm) -> SimulatedReply:
        """One arm's reply to one query. Raises SettingsError on an arm that the pool does not have."""
        if arm not in self.arms:
            raise SettingsError(f"the embedded pool has no arm {arm}: it has {', '.join(map(str, self.arms))}")
        index = self.arms.index(arm)
        replies = self.answer_all([query])
        return SimulatedReply(
            replies.text(query, 0, index),
            int(replies.prompt_tokens_QA[0, index]),
            int(replies.completion_tokens_QA[0, index]),
            int(replies.reasoning_tokens_QA[0, index]),
        )

    def answer_all(self, queries: Sequence[Question]) -> Replies:
        """The replies of all arms to all queries."""
        features = models.features_of(queries)
        query_key_Q1 = np.array([[query.key] for query in queries], dtype=np.uint64)
        key_QA = joined(joined(self._seed_key, query_key_Q1), self._arm_key_A)
        holds_QA = uniform(key_QA, _SLIP) < models.reliability(self.parameters, features, self.arms)
        solved_QA = self._knows(queries, features)[:, models.model_of_arm(self.arms)] & holds_QA
        comparison_Q1 = features.comparison_Q[:, None]
        right_QA = solved_QA | (comparison_Q1 & (uniform(key_QA, _GUESS) < 0.5))
        reworded_QA = ~comparison_Q1 & (uniform(key_QA, _WORDING) < self.parameters.reworded)
        pick_QA = uniform(key_QA, _PICK)
        n_right_Q1 = np.array([[len(query.right)] for query in queries])
        n_wrong_Q1 = np.array([[len(query.wrong)] for query in queries])
        said_right_QA = np.where(reworded_QA, 1 + np.floor(pick_QA * (n_right_Q1 - 1)), 0)
        said_wrong_QA = n_right_Q1 + np.floor(pick_QA * n_wrong_Q1)
        said_QA = np.where(right_QA, said_right_QA, said_wrong_QA)
        said_QA[uniform(key_QA, _FORMAT) >= models.format_discipline(self.arms)] = MALFORMED
        factor_QA = 1 + LENGTH_SPREAD * (2 * uniform(key_QA, _LENGTH) - 1)
        # Rounded up or down at random, so that the mean is exact.
        rounding_QA = uniform(key_QA, _ROUNDING)
        spoken = [models.spoken_as(arm) for arm in self.arms]
        tokens_QA, shown_QA = (
            np.floor(models.expected_tokens(self.parameters, features, arms) * factor_QA + rounding_QA)
            for arms in (self.arms, spoken)
        )
        return Replies(
            self.arms,
            said_QA.astype(np.int64),
            models.prompt_tokens(features, self.arms),
            tokens_QA.astype(np.int64),
            (tokens_QA - shown_QA).astype(np.int64),
            uniform(key_QA, _START),
        )

    def _knows(self, queries: Sequence[Question], features: models.Features) -> NDArray[np.bool_]:
        """Whether a model knows all facts of a query, `[Q, M]`. A draw belongs to model and fact, not to the query."""
        fact_QH = np.zeros(features.domain_QH.shape, dtype=np.uint64)
        for row, query in enumerate(queries):
            fact_QH[row, : len(query.facts)] = [fact.key for fact in query.facts]
        key_QH1 = joined(self._seed_key, fact_QH)[:, :, None]
        difficulty_QH1 = ndtri(uniform(key_QH1, 0))
        own_QHM = ndtri(uniform(joined(key_QH1, self._model_key_M), 0))
        latent_QHM = np.sqrt(SHARED_DIFFICULTY) * difficulty_QH1 + np.sqrt(1 - SHARED_DIFFICULTY) * own_QHM
        knows_QHM = latent_QHM < ndtri(models.knowledge(self.parameters, features))
        return np.asarray(knows_QHM.all(axis=1))


def score_all(queries: Sequence[Question], replies: Replies) -> FloatQA:
    """Exact match of the answer found in every reply.

    Only the closing line is looked at: the filler above it holds no answer. A malformed reply holds none at all, and
    as a whole it has more words than any gold answer.
    """
    score_QA = np.zeros(replies.said_QA.shape)
    arms = range(len(replies.arms))
    for row, query in enumerate(queries):
        said_A = replies.said_QA[row].tolist()
        options = query.right + query.wrong
        seen: dict[str, float] = {}
        for arm in arms:
            if said_A[arm] == MALFORMED:
                continue
            line = closing_line(replies.arms[arm].model, options[said_A[arm]])
            if line not in seen:
                seen[line] = exact_match(extract_answer(line), query.gold)
            score_QA[row, arm] = seen[line]
    return score_QA
