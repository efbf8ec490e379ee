"""AutoMix: a small arm answers, its answer is verified, and a noisy verdict decides whether a large arm is called.

Aggarwal, Madaan, Anand, Potharaju, Mishra, Zhou, Gupta, Rajagopal, Kappaganthu, Yang, Upadhyay, Faruqui, Mausam,
"AutoMix: Automatically Mixing Language Models" (NeurIPS 2024, arXiv 2310.12963). The small model verifies its own
answer: shown a few examples, it is asked eight times whether the answer is right, and the share of yes is the
confidence. As that is noisy, a router decides by it: a threshold, or a POMDP whose state is how well both models do on
the query, whose observation is the confidence, and whose actions are to keep the answer or to call the large model.
With one observation and one action its best policy is, for each level of confidence, the action of the highest expected
reward under the belief, which comes from counts on train.

What is replaced: the verifier, which a log does not hold. A substitute is a confidence learnt on train (the paper's
needs no training): the expected score of the small arm's answer, by ridge regression on the query's encoding, and a
second one on what that left over, on what the answer looks like (is one marked, how long are it and the text). That
costs nothing, while the paper's verifier costs a call of the small model. With `verifier=second-opinion` it does: the
small model is asked again, under another of its strategies, and the confidence sees that answer too, and whether it
agrees (one, normalised, holds the other). A model with one strategy then gets by on texts. On the simulated pool's
validation no pair earned back the second call, so `text` is the default.

What differs. The reward is the utility at the cost of all calls, all tasks alike; the authors' code maximises the gain
per cost over mixing both models at random. Confidence has nine levels, as theirs, but of equally many train queries
each, predicted without a query's own fold (five folds). What the large arm gains at a level is drawn towards its mean
gain, as if 20 queries had that. The pair is given there; here it is the one of the highest utility on train, small
being the cheaper arm or, without costs, that of the lower score. Where no pair does better, the best arm is called
alone. Chains of three models are left out. Outcomes without texts are refused: there is nothing to verify.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.outcomes import mean_over_observed
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.answers import Answers, crossed, folds_of, texts_of
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import PRIOR_COUNT, in_fixed_order, linear_inputs, task_weights, typical_values

ANSWER_PENALTY = 10.0
"""Penalty of the regression on answers, in queries."""
ROWS_A_LEVEL = 10
"""Train queries of a level of confidence, at the least."""


@router("automix")
@dataclass
class AutoMix(Saved):
    """A small arm's answer is kept where a verifier is confident of it; else a large arm is called.

    `verifier` is what confidence comes from (the answer's text, or the small model's second opinion too), `policy` what
    is made of it, `levels` the number of levels of confidence, `penalty` that of the ridge regression on the encoding,
    in queries.
    """

    LEARNT = (
        "text_encoder",
        "arms",
        "typical",
        "weight_EM",
        "alone_P",
        "beside_P",
        "edges",
        "calls_large_L",
        "utility_A",
    )
    deterministic: ClassVar[bool] = True
    compares_arms: ClassVar[bool] = True
    reads_responses: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "verifier": ("text", "second-opinion"),
        "policy": ("pomdp", "threshold"),
        "levels": (5, 9, 17),
        "penalty": (10.0, 30.0, 100.0),
        "encoder": installed_encoders(),
    }

    verifier: Literal["text", "second-opinion"] = "text"
    policy: Literal["pomdp", "threshold"] = "pomdp"
    levels: Annotated[int, Field(ge=2, le=100)] = 9
    penalty: Annotated[float, Field(gt=0)] = 30.0
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        train = in_fixed_order(train)
        outcomes, prompts, utility_QA = train.outcomes, train.queries.prompt, train.utility_QA
        response_QA = texts_of(outcomes, "automix", "verifies")
        self.text_encoder = fit_encoder(self.encoder, prompts)
        fold_Q = folds_of(prompts)
        typical_A = typical_values(outcomes.score_QA, outcomes, np.min, PRIOR_COUNT)
        excess_QA = outcomes.score_QA - typical_A
        level_QA, weight_EA = crossed(linear_inputs(self.text_encoder, train.queries), excess_QA, fold_Q, self.penalty)
        answers, everywhere = Answers(level_QA), np.arange(len(prompts))
        same_model_AA = np.array([[one.model == other.model for other in outcomes.arms] for one in outcomes.arms])
        for (row, arm), text in np.ndenumerate(response_QA):
            answers.add(row, arm, text, beside=np.flatnonzero(same_model_AA[arm, :arm]))

        def verified(small: int, *opinion: int) -> tuple[np.ndarray, np.ndarray]:
            """Expected scores of a small arm's answers, and the weights that they come from."""
            surprise_Q = excess_QA[:, small] - level_QA[:, small]
            known_Q = ~np.isnan(excess_QA[:, opinion]).any(axis=1)
            seen_QP = answers.seen(everywhere, (small, *opinion))
            change_Q1, weight_P1 = crossed(
                seen_QP, np.where(known_Q, surprise_Q, np.nan)[:, None], fold_Q, ANSWER_PENALTY
            )
            return typical_A[small] + level_QA[:, small] + change_Q1[:, 0], weight_P1[:, 0]

        # What differs in the last digits is a tie.
        utility_A = np.round(typical_values(utility_QA, outcomes, np.min, PRIOR_COUNT), 12)
        # Where no pair is better than the best arm alone, equal arms are chosen from by the common rule.
        best_value, small, large = float(utility_A.max()) + 1e-9, 0, 0
        opinion: tuple[int, ...] = ()
        self.edges, self.calls_large_L = np.zeros(0), np.zeros(0, dtype=bool)
        by_size = self._by_size(train, typical_A)
        for rank, arm in enumerate(by_size[:-1]):
            others = [(other,) for other in by_size if same_model_AA[arm, other] and other != arm]
            for asked in others if others and self.verifier == "second-opinion" else [()]:
                larger = [other for other in by_size[rank + 1 :] if other not in asked]
                if not larger:
                    continue
                confidence_Q, _ = verified(arm, *asked)
                value_J, edges, calls_large_LJ = self._best_large(train, confidence_Q, utility_A, arm, asked, larger)
                best = int(np.argmax(value_J))
                if value_J[best] > best_value:
                    best_value, small, large, opinion = value_J[best], arm, larger[best], asked
                    self.edges, self.calls_large_L = edges, calls_large_LJ[:, best]
        self.arms, self.utility_A = np.array([small, large, *opinion]), utility_A
        self.typical, self.weight_EM = typical_A[small], weight_EA[:, [small, *opinion]]
        # The answer is judged alone where the second opinion is not on offer.
        self.alone_P = verified(small)[1]
        self.beside_P = verified(small, *opinion)[1]

    def _by_size(self, train: Train, typical_A: np.ndarray) -> list[int]:
        """The arms from the cheapest to the most expensive; without costs, from the lowest score to the highest."""
        cost_A = np.zeros(len(typical_A))
        if train.objective.has_cost:
            cost_A = np.nan_to_num(mean_over_observed(train.outcomes.cost_QA), nan=np.inf)
        names = [str(arm) for arm in train.outcomes.arms]
        return sorted(range(len(names)), key=lambda arm: (cost_A[arm], round(float(typical_A[arm]), 12), names[arm]))

    def _best_large(
        self,
        train: Train,
        confidence_Q: np.ndarray,
        utility_A: np.ndarray,
        small: int,
        opinion: tuple[int, ...],
        larger: list[int],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What pairs of a small arm and larger ones are worth, the edges of levels, and where to call the large arm."""
        utility_QA = train.utility_QA
        rows = np.flatnonzero(~np.isnan(utility_QA[:, [small, *opinion]]).any(axis=1))
        price_QA = -train.objective.utility(0.0 * utility_QA, train.outcomes.cost_QA)
        large_RJ, small_R1 = utility_QA[rows][:, larger], utility_QA[rows, small, None]
        known_RJ = ~np.isnan(large_RJ)
        weight_RJ = known_RJ * task_weights(train.outcomes.task_Q)[rows, None]
        verifying_R1 = price_QA[rows][:, opinion].sum(axis=1, keepdims=True)
        gain_RJ = np.where(known_RJ, large_RJ - price_QA[rows, small, None] - small_R1, 0.0)
        levels = max(1, min(self.levels, len(rows) // ROWS_A_LEVEL))
        edges = np.quantile(confidence_Q[rows], np.arange(1, levels) / levels) if len(rows) else np.zeros(0)
        in_level_LR = (np.searchsorted(edges, confidence_Q[rows], "right") == np.arange(levels)[:, None]).astype(float)
        gain_LJ, weight_LJ = in_level_LR @ (weight_RJ * gain_RJ), in_level_LR @ weight_RJ
        total_J, count_J = np.maximum(weight_RJ.sum(axis=0), 1e-300), known_RJ.sum(axis=0)
        if self.policy == "pomdp":
            prior_J = PRIOR_COUNT * total_J / np.maximum(count_J, 1)
            calls_large_LJ = gain_LJ + prior_J * gain_LJ.sum(axis=0) / total_J > 1e-12 * (weight_LJ + prior_J)
        else:
            below_TJ = np.vstack([np.zeros(len(larger)), np.cumsum(gain_LJ, axis=0)])
            calls_large_LJ = np.arange(levels)[:, None] < np.argmax(np.round(below_TJ / total_J, 12), axis=0)
        kept_J = (weight_RJ * small_R1).sum(axis=0) / total_J
        large_J = (weight_RJ * np.where(known_RJ, large_RJ, 0.0)).sum(axis=0) / total_J
        value_J = kept_J + ((calls_large_LJ * gain_LJ).sum(axis=0) - (weight_RJ * verifying_R1).sum(axis=0)) / total_J
        extra_J = count_J / (count_J + PRIOR_COUNT) * (value_J - np.maximum(kept_J, large_J))
        value_J = np.round(np.maximum(utility_A[larger], utility_A[small]) + extra_J, 12)
        return np.where(count_J > 0, value_J, -np.inf), edges, calls_large_LJ

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        value_QA = np.tile(self.utility_A, (len(queries.prompt), 1))
        if not len(self.calls_large_L):
            return calls.choose(value_QA)
        small, large, *opinion = self.arms.tolist()
        offered_QA = calls.available_QA
        rows = np.flatnonzero(offered_QA[:, small] & offered_QA[:, large])
        answers = Answers(linear_inputs(self.text_encoder, queries) @ self.weight_EM)
        for row in rows.tolist():
            answers.add(row, 0, calls.ask(row, small).text, beside=())
            for arm in opinion:
                if offered_QA[row, arm]:
                    answers.add(row, 1, calls.ask(row, arm).text, beside=(0,))
        change_R = answers.seen(rows, [0]) @ self.alone_P
        if opinion:
            change_R = np.where(offered_QA[rows, opinion[0]], answers.seen(rows, [0, 1]) @ self.beside_P, change_R)
        level_R = np.searchsorted(self.edges, self.typical + answers.level_QA[rows, 0] + change_R, "right")
        value_QA[rows, np.where(self.calls_large_L[level_R], large, small)] = self.utility_A.max() + 1
        return calls.choose(value_QA)
