"""FrugalGPT: ask arms one after another until a scorer finds an answer good enough.

Chen, Zaharia, Zou, "FrugalGPT: How to Use Large Language Models While Reducing Cost and Improving Performance" (arXiv
2305.05176). A scorer g(query, answer), learnt on train, says how good an answer is. A list of arms is asked in turn;
the first answer whose score reaches the arm's threshold is taken, and the last arm's answer in any case. The list and
its thresholds are learnt on train too: every ordered list, and thresholds on a grid of quantiles. As in the authors'
code, lists have three arms and a threshold has 40 steps. Shorter lists take the answer of an earlier arm in any case.

What differs. The paper maximises quality within a budget; here it is the utility at the cost of all calls, all tasks
alike. Its scorer is a DistilBERT fine-tuned on query and answer. Here it is a ridge regression on the query's encoding,
and a second one on what that left over, from what the answer looks like (is one marked, how long are it and the text)
and, for the second arm, whether it says the same as the first, which the paper's does not see. Answers agree where one,
normalised, holds the other. Thresholds are chosen on scores of train queries that were left out of the scorers' fit
(five folds); the authors' code takes those that were fitted. Their pruning of lists is not needed: as what a third arm
adds is a sum over queries, all third arms and thresholds behind two arms are tried at once.

A list gets less credit for what it adds to its best arm where few queries have outcomes of all its arms. A query goes
through those arms of the list that it is offered. Outcomes without texts are refused: without an answer to judge
nothing of the method is left.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.answers import Answers, crossed, folds_of, texts_of
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import (
    PRIOR_COUNT,
    in_fixed_order,
    linear_inputs,
    name_order,
    task_weights,
    typical_values,
)

ANSWER_PENALTY = 10.0
"""Penalty of the regression on answers, in queries."""
ROWS_A_STEP = 10
"""Train queries between two steps of a threshold, at the least."""


class Stakes(NamedTuple):
    """What the choice of a list is made by: utilities (NaN: no outcome), what a call takes off a utility, weights."""

    utility_QA: np.ndarray
    price_QA: np.ndarray
    weight_Q: np.ndarray
    utility_A: np.ndarray


@router("frugal-gpt")
@dataclass
class FrugalGpt(Saved):
    """Asks the arms of a learnt list in turn, until an answer's predicted score reaches the arm's threshold.

    `list_length` bounds the list, `steps` is the number of steps of a threshold, and `penalty` is that of the ridge
    regression on the encoding, in queries.
    """

    LEARNT = ("text_encoder", "arms", "threshold_L", "typical_L", "weight_EL", "alone_LP", "beside_P", "utility_A")
    deterministic: ClassVar[bool] = True
    compares_arms: ClassVar[bool] = True
    reads_responses: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "list_length": (2, 3),
        "steps": (10, 40),
        "penalty": (10.0, 30.0, 100.0),
        "encoder": installed_encoders(),
    }

    list_length: Annotated[int, Field(ge=2, le=3)] = 3
    steps: Annotated[int, Field(ge=2, le=100)] = 40
    penalty: Annotated[float, Field(gt=0)] = 30.0
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        train = in_fixed_order(train)
        # By name: the order of the arms decides nothing.
        by_name_A = name_order(train.outcomes.arms)
        train = train._replace(outcomes=train.outcomes.take_arms(by_name_A))
        outcomes, prompts = train.outcomes, train.queries.prompt
        response_QA = texts_of(outcomes, "frugal-gpt", "judges")
        self.text_encoder = fit_encoder(self.encoder, prompts)
        fold_Q = folds_of(prompts)
        typical_A = typical_values(outcomes.score_QA, outcomes, np.min, PRIOR_COUNT)
        excess_QA = outcomes.score_QA - typical_A
        level_QA, weight_EA = crossed(linear_inputs(self.text_encoder, train.queries), excess_QA, fold_Q, self.penalty)
        answers, everywhere = Answers.of_all(level_QA, response_QA), np.arange(len(prompts))

        def scorer(*asked: int) -> tuple[np.ndarray, np.ndarray]:
            """Scores of the last answer of one or two arms, and the weights that they come from."""
            first, last = asked[0], asked[-1]
            surprise_Q = excess_QA[:, last] - level_QA[:, last] + 0.0 * excess_QA[:, first]
            seen_QP = answers.seen(everywhere, asked)
            change_Q1, weight_P1 = crossed(seen_QP, surprise_Q[:, None], fold_Q, ANSWER_PENALTY)
            return typical_A[last] + level_QA[:, last] + change_Q1[:, 0], weight_P1[:, 0]

        stakes = stakes_of(train)
        # Where no list is better than the best arm alone, equal arms are chosen from by the common rule.
        chosen, self.threshold_L, best_value = [0], np.zeros(0), float(stakes.utility_A.max()) + 1e-9
        alone_QA = np.stack([scorer(arm)[0] for arm in range(len(typical_A))], axis=1)
        for first, second in permutations(range(len(typical_A)), 2):
            score_QS = np.stack([alone_QA[:, first], scorer(first, second)[0]], axis=1)
            value, third, thresholds = self._best_list(stakes, score_QS, first, second)
            if value > best_value:
                best_value, self.threshold_L = value, thresholds
                chosen = [first, second, third][: len(thresholds) + 1]
        self.arms, self.utility_A = by_name_A[chosen], stakes.utility_A[np.argsort(by_name_A)]
        self.typical_L, self.weight_EL = typical_A[chosen], weight_EA[:, chosen]
        # The second of three is judged alone where the first is not on offer. The last is never judged.
        self.alone_LP = np.array([scorer(arm)[1] for arm in chosen[:-1]])
        self.beside_P = scorer(*chosen[:2])[1] if len(chosen) == 3 else np.zeros(0)

    def _best_list(
        self, stakes: Stakes, score_QS: np.ndarray, first: int, second: int
    ) -> tuple[float, int, np.ndarray]:
        """The best list that begins with two arms: its value, its third arm, its thresholds (one if it has two arms).

        `score_QS` are the scores of both answers. With T steps, a threshold 0..T takes the answers of that step or of a
        higher one.
        """
        rows = np.flatnonzero(~np.isnan(stakes.utility_QA[:, first] + stakes.utility_QA[:, second]))
        if not len(rows):
            return -np.inf, first, np.zeros(0)
        steps = max(1, min(self.steps, len(rows) // ROWS_A_STEP))
        edge_TS = np.quantile(score_QS[rows], np.arange(steps + 1) / steps, axis=0)
        edge_TS[0], edge_TS[-1] = -np.inf, np.inf
        step_SQ = [np.searchsorted(edge_TS[1:-1, place], score_QS[rows, place], "right") for place in (0, 1)]
        cell_Q = step_SQ[0] * steps + step_SQ[1]
        in_cell_QN = csr_matrix((np.ones(len(rows)), cell_Q, np.arange(len(rows) + 1)), (len(rows), steps**2))
        # Every arm is tried as the third, on the queries that have its outcome.
        known_QA = ~np.isnan(stakes.utility_QA[rows])
        weight_QA = known_QA * stakes.weight_Q[rows, None]
        utility_QA, price_QA = np.where(known_QA, stakes.utility_QA[rows], 0.0), stakes.price_QA[rows]
        ends = (
            utility_QA[:, [first]],
            utility_QA[:, [second]] - price_QA[:, [first]],
            utility_QA - price_QA[:, [first]] - price_QA[:, [second]],
        )
        first_TTA, second_TTA, third_TTA = (
            (in_cell_QN.T @ (weight_QA * end_QA)).reshape(steps, steps, -1) for end_QA in ends
        )
        total_A, count_A = np.maximum(weight_QA.sum(axis=0), 1e-300), known_QA.sum(axis=0)
        passed_on_TTA = from_step(below_step(second_TTA, 0), 1) + below_step(below_step(third_TTA, 0), 1)
        value_TTA = (from_step(first_TTA.sum(axis=1, keepdims=True), 0) + passed_on_TTA) / total_A
        own_A = np.max(
            [(weight_QA * utility_QA[:, arm]).sum(axis=0) / total_A for arm in ([first], [second], slice(None))], axis=0
        )
        level_A = np.maximum(stakes.utility_A, stakes.utility_A[[first, second]].max())
        value_TTA = np.round(level_A + count_A / (count_A + PRIOR_COUNT) * (value_TTA - own_A), 12)
        # No list: a first answer that is always taken. Two arms: a second one that is.
        value_TTA[0] = value_TTA[..., count_A == 0] = -np.inf
        value_TTA[:, 1:, [first, second] if self.list_length == 3 else slice(None)] = -np.inf
        best = np.unravel_index(np.argmax(value_TTA), value_TTA.shape)
        thresholds = edge_TS[best[:2], (0, 1)]
        return float(value_TTA[best]), int(best[2]), thresholds[: 1 + int(best[1] > 0)]

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        value_QA = np.tile(self.utility_A, (len(queries.prompt), 1))
        offered_QL = calls.available_QA[:, self.arms]
        if len(self.arms) == 1:
            return calls.choose(value_QA)
        answers = Answers(linear_inputs(self.text_encoder, queries) @ self.weight_EL)
        taken_Q = len(self.arms) - 1 - np.argmax(offered_QL[:, ::-1], axis=1)
        for place, arm in enumerate(self.arms[:-1]):
            rows = np.flatnonzero(offered_QL[:, place] & (place < taken_Q))
            for row in rows.tolist():
                answers.add(row, place, calls.ask(row, int(arm)).text, beside=range(place))
            change_Q = answers.seen(rows, [place]) @ self.alone_LP[place]
            if place == 1:
                change_Q = np.where(offered_QL[rows, 0], answers.seen(rows, [0, 1]) @ self.beside_P, change_Q)
            score_Q = self.typical_L[place] + answers.level_QA[rows, place] + change_Q
            taken_Q[rows[score_Q >= self.threshold_L[place]]] = place
        rows = np.flatnonzero(offered_QL.any(axis=1))
        value_QA[rows, self.arms[taken_Q[rows]]] = self.utility_A.max() + 1
        return calls.choose(value_QA)


def stakes_of(train: Train) -> Stakes:
    utility_QA, outcomes, objective = train.utility_QA, train.outcomes, train.objective
    price_QA = np.nan_to_num(-objective.utility(np.zeros_like(utility_QA), outcomes.cost_QA))
    # What differs in the last digits is a tie.
    utility_A = np.round(typical_values(utility_QA, outcomes, np.min, PRIOR_COUNT), 12)
    return Stakes(utility_QA, price_QA, task_weights(outcomes.task_Q), utility_A)


def below_step(value_TTA: np.ndarray, axis: int) -> np.ndarray:
    """Sums below each threshold."""
    return np.insert(np.cumsum(value_TTA, axis=axis), 0, 0.0, axis=axis)


def from_step(value_TTA: np.ndarray, axis: int) -> np.ndarray:
    """Sums from each threshold on upwards."""
    return np.flip(below_step(np.flip(value_TTA, axis), axis), axis)
