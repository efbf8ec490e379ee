"""Elo: one rating for each arm, from all its matches with other arms; the arm of the highest rating answers everything.

Elo, "The Rating of Chessplayers, Past and Present" (1978); to rank language models: Zheng et al., "Judging
LLM-as-a-Judge with MT-Bench and Chatbot Arena", NeurIPS 2023, arXiv 2306.05685. Two arms play a match on every query
that both have an outcome for, and the higher utility wins. Elo's update, match by match, depends on their order. This
is its limit that does not: the maximum of the Bradley-Terry likelihood, which Chatbot Arena came to use as well (Chiang
et al., "Chatbot Arena: An Open Platform for Evaluating LLMs by Human Preference", arXiv 2403.04132).
Ratings are on Elo's scale: 1,000 for the average arm, 400 points for odds of 10 to 1.

What differs: all pairs of arms meet, every task counts the same, as where routers are judged, and a rating starts as if
the arm had drawn on 20 queries against the average arm. A match weighs what is at stake, the difference of the
utilities: with `weights=equal`, the original, costs leave no draws, and the smallest saving wins as much as a right
answer. With every outcome known that gives the order of `borda` at `margin=0`; a draw is half a win for each.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.bradley_terry import CHUNK, strengths, wins
from recal_bench.toolbox.neighbours import chunks
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import PRIOR_COUNT, require_outcomes, task_weights


@router("elo")
@dataclass
class Elo(Saved):
    """Elo ratings of the arms from matches of their utilities, as a Bradley-Terry fit; the best rated arm is chosen."""

    LEARNT = ("rating_A",)
    deterministic: ClassVar[bool] = True
    compares_arms: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {"weights": ("stake", "equal")}

    weights: Literal["stake", "equal"] = "stake"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        observed_QA, arms = train.outcomes.observed_QA, len(train.outcomes.arms)
        require_outcomes(train)
        weight_Q = task_weights(train.outcomes.task_Q)
        weight_Q /= weight_Q.mean()
        won_AA = np.zeros((arms, arms))
        for rows in chunks(len(weight_Q), CHUNK):
            won_AA += np.tensordot(weight_Q[rows], wins(train.utility_QA[rows], self.weights), axes=1)
        played_an_outcome = 2 * won_AA.sum() / (weight_Q @ observed_QA.sum(axis=1))
        drawn = PRIOR_COUNT * played_an_outcome + 1e-9
        (strength_A,) = strengths(won_AA[None], np.array([drawn]))
        rating_A = 1_000 + 400 / np.log(10) * strength_A
        # Nothing is known of an arm without any outcome on train: it comes last.
        rating_A = np.where(observed_QA.any(axis=0), rating_A, rating_A.min() - 400)
        # What differs in the last digits is a tie, and a tie goes to the cheaper arm.
        self.rating_A = np.round(rating_A, 6)

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        return calls.choose(np.tile(self.rating_A, (len(queries.prompt), 1)))
