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

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.bradley_terry import strengths
from recal_bench.toolbox.targets import PRIOR_COUNT, require_outcomes

TIE = 1e-9
"""Utilities that differ by less are equal: what is left is rounding."""
CHUNK = 512
"""Queries whose matches are held in memory at once."""


@router("elo")
@dataclass
class Elo:
    """Elo ratings of the arms from matches of their utilities, as a Bradley-Terry fit; the best rated arm is chosen."""

    deterministic: ClassVar[bool] = True
    compares_arms: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {"weights": ("stake", "equal")}

    weights: Literal["stake", "equal"] = "stake"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        observed_QA, arms = train.outcomes.observed_QA, len(train.outcomes.arms)
        require_outcomes(train)
        weight_Q = task_weights(train.outcomes.task_Q)
        won_AA = np.zeros((arms, arms))
        for start in range(0, len(weight_Q), CHUNK):
            rows = slice(start, start + CHUNK)
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

    def save(self, folder: Path) -> None:
        (folder / "elo.json").write_text(json.dumps(self.rating_A.tolist()), encoding="utf-8")

    def load(self, folder: Path) -> None:
        self.rating_A = np.array(json.loads((folder / "elo.json").read_text(encoding="utf-8")))


def task_weights(task_Q: np.ndarray) -> np.ndarray:
    """Every task weighs the same, the average query 1."""
    _, task_of_Q, count_T = np.unique(task_Q, return_inverse=True, return_counts=True)
    return len(task_Q) / len(count_T) / count_T[task_of_Q]


def wins(utility_QA: np.ndarray, weights: str) -> np.ndarray:
    """What it weighs that the first arm beats the second, `[Q, A, A]`; 0 where it does not, or they did not meet."""
    lead_QAA = utility_QA[:, :, None] - utility_QA[:, None, :]
    if weights == "stake":
        return np.where(lead_QAA > TIE, lead_QAA, 0.0)
    drawn_QAA = np.abs(lead_QAA) <= TIE
    diagonal = np.arange(utility_QA.shape[1])
    drawn_QAA[:, diagonal, diagonal] = False
    return (lead_QAA > TIE) + 0.5 * drawn_QAA
