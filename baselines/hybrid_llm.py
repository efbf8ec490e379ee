"""Hybrid LLM: a cheap arm and a strong one; is the cheap one good enough for this query?

Ding, Mallick, Wang, Sim, Mukherjee, Rühle, Lakshmanan, Awadallah, "Hybrid LLM: Cost-Efficient and Quality-Aware Query
Routing" (ICLR 2024, arXiv 2404.14618). The quality gap of a query is H = score(small) - score(large). A classifier
learns y = Pr[H >= -t], and the small model answers where the predicted y reaches a threshold. With t = 0 that is the
paper's probabilistic router. Where the large model is much better, few queries have H >= 0 and there is little to learn
from: the transformed router relaxes t to the value that spreads the labels most, by their mean absolute difference over
pairs of queries.

The pair. The paper's is given; here it is chosen on train. With `pair=hindsight`, the default, it is the two arms whose
better one, query by query and in hindsight, has the highest mean utility (all tasks alike; arms seldom seen together
get less credit for it); the cheaper one is small. With `pair=extremes`, small is the cheapest arm and large the one of
the highest score: nearest to the paper, but on the simulated pool worse on validation. Without costs, large is the one
of the two with the higher score, and the extremes are the two arms of the highest scores. With one arm there is nothing
to route.

The threshold. The paper takes the one that saves most calls of the large model at no more than a 1% drop in quality, on
held-out queries. Here it is the one of the highest mean utility (of all tasks alike), on train queries predicted by
classifiers that were fitted without them (five folds); of several, the one that asks the small arm least.

Simplified: a logistic regression on the encoding replaces a fine-tuned DeBERTa-v3-large; both minimise the same
cross-entropy. The paper estimates y from ten answers of each model; logs hold one. As the cross-entropy is linear in
the label, that one's label, 0 or 1, gives the same loss in expectation; the price is variance, and that with one answer
the probabilistic router is the deterministic one. The mean difference of 0/1 labels is 2p(1 - p) at a share p of ones.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.outcomes import mean_over_observed
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import (
    PRIOR_COUNT,
    in_fixed_order,
    linear_inputs,
    name_order,
    task_weights,
    typical_values,
)

FOLDS = 5


@router("hybrid-llm")
@dataclass
class HybridLlm(Saved):
    """The cheaper of two arms where it is predicted to be good enough, and the other one elsewhere.

    `label` is the paper's (t = 0, or the t that spreads the labels most), `pair` says how the two arms are chosen, and
    `penalty` is that of the logistic regression, in queries.
    """

    LEARNT = ("text_encoder", "weight_E", "threshold", "arms", "utility_A", "stake")
    deterministic: ClassVar[bool] = True
    compares_arms: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "label": ("probabilistic", "transformed"),
        "pair": ("hindsight", "extremes"),
        "penalty": (0.3, 1.0, 3.0, 10.0),
        "encoder": installed_encoders(),
    }

    label: Literal["probabilistic", "transformed"] = "transformed"
    pair: Literal["hindsight", "extremes"] = "hindsight"
    penalty: Annotated[float, Field(gt=0)] = 3.0
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        train = in_fixed_order(train)
        utility_QA, task_Q = train.utility_QA, train.outcomes.task_Q
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        # What differs in the last digits is a tie, and a tie goes to the cheaper arm.
        self.utility_A = np.round(typical_values(utility_QA, train.outcomes, np.min, PRIOR_COUNT), 12)
        self.stake = float(np.nanmax(utility_QA) - np.nanmin(utility_QA))
        self.arms = small, large = self._chosen_pair(train)
        gap_Q = train.outcomes.score_QA[:, small] - train.outcomes.score_QA[:, large]
        both_Q = ~np.isnan(gap_Q)
        relaxed = relaxation(gap_Q[both_Q]) if self.label == "transformed" else 0.0
        label_Q = (gap_Q[both_Q] >= -relaxed - 1e-12).astype(np.float64)
        input_QE = linear_inputs(self.text_encoder, train.queries)[both_Q]
        self.weight_E = self._classifier(input_QE, label_Q)
        fold_Q = np.arange(len(label_Q)) % FOLDS
        logit_Q = np.zeros(len(label_Q))
        for fold in range(min(FOLDS, len(label_Q))):
            logit_Q[fold_Q == fold] = input_QE[fold_Q == fold] @ self._classifier(
                input_QE[fold_Q != fold], label_Q[fold_Q != fold]
            )
        self.threshold = best_threshold(logit_Q, utility_QA[both_Q][:, [*self.arms]], task_Q[both_Q])

    def _chosen_pair(self, train: Train) -> tuple[int, int]:
        """The small and the large arm; the same one twice where no two arms were seen on one query."""
        outcomes = train.outcomes
        score_A = np.round(typical_values(outcomes.score_QA, outcomes, np.min, PRIOR_COUNT), 12)
        cost_A = np.zeros(len(score_A))
        if train.objective.has_cost:
            cost_A = np.nan_to_num(mean_over_observed(outcomes.cost_QA), nan=np.inf)
        # Ties go by name, in the end: the order of the arms decides nothing.
        name_A = np.argsort(name_order(outcomes.arms))
        value_AA = hindsight_values(train.utility_QA, outcomes.task_Q, self.utility_A)
        if (value_AA == -np.inf).all():
            best = int(np.lexsort([name_A, -self.utility_A])[0])
            return best, best
        if self.pair == "extremes":
            large = int(np.lexsort([name_A, cost_A, -score_A])[0])
            cheapest_first = np.lexsort([name_A, -score_A, cost_A])
            small = next((int(arm) for arm in cheapest_first if value_AA[arm, large] > -np.inf), large)
            return small, large
        by_size = np.lexsort([name_A, score_A, cost_A])
        value_AA = np.where(np.tri(len(by_size), k=0, dtype=bool), -np.inf, value_AA[np.ix_(by_size, by_size)])
        smaller, larger = np.unravel_index(np.argmax(value_AA), value_AA.shape)
        return int(by_size[smaller]), int(by_size[larger])

    def _classifier(self, input_QE: np.ndarray, label_Q: np.ndarray) -> np.ndarray:
        """The weights of a logistic regression; those of the encoding are penalised."""
        from scipy.optimize import minimize
        from scipy.special import expit

        penalty_E = np.append(np.full(input_QE.shape[1] - 1, self.penalty), 1e-3) / max(len(label_Q), 1)

        def loss_and_gradient(weight_E: np.ndarray) -> tuple[float, np.ndarray]:
            logit_Q = input_QE @ weight_E
            loss_Q = np.logaddexp(0.0, logit_Q) - label_Q * logit_Q
            slope_Q = expit(logit_Q) - label_Q
            gradient_E = input_QE.T @ slope_Q / max(len(label_Q), 1) + penalty_E * weight_E
            return float(loss_Q.sum() / max(len(label_Q), 1) + 0.5 * (penalty_E * weight_E**2).sum()), gradient_E

        return np.asarray(minimize(loss_and_gradient, np.zeros(input_QE.shape[1]), jac=True, method="L-BFGS-B").x)

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        asks_small_Q = linear_inputs(self.text_encoder, queries) @ self.weight_E >= self.threshold
        value_QA = np.tile(self.utility_A, (len(asks_small_Q), 1))
        # First the chosen arm, then the other one of the pair, then all others by their mean utility. Where no outcome
        # differs from another, nothing is at stake, and all arms tie.
        chosen_Q = np.where(asks_small_Q, *self.arms)
        value_QA[:, [*self.arms]] = self.utility_A.max() + self.stake
        value_QA[np.arange(len(chosen_Q)), chosen_Q] += self.stake
        return calls.choose(value_QA)


def hindsight_values(utility_QA: np.ndarray, task_Q: np.ndarray, level_A: np.ndarray) -> np.ndarray:
    """Macro utility of the better arm of every pair, chosen query by query in hindsight; -inf for no pair.

    What hindsight adds to the pair's better arm is given less credit where few queries have outcomes of both.
    """
    weight_Q = task_weights(task_Q)
    known_QA = ~np.isnan(utility_QA)
    utility_QA = np.where(known_QA, utility_QA, 0.0)
    value_AA = np.full((len(level_A), len(level_A)), -np.inf)
    for arm in range(len(level_A)):
        both_QA = known_QA & known_QA[:, [arm]]
        both_QA[:, arm] = False
        count_A, weight_A = both_QA.sum(axis=0), np.maximum(weight_Q @ both_QA, 1e-300)
        own_A, other_A, better_A = (
            weight_Q @ np.where(both_QA, each_QA, 0.0) / weight_A
            for each_QA in (utility_QA[:, [arm]], utility_QA, np.maximum(utility_QA[:, [arm]], utility_QA))
        )
        gain_A = count_A / (count_A + PRIOR_COUNT) * (better_A - np.maximum(own_A, other_A))
        value_AA[arm] = np.where(count_A > 0, np.round(np.maximum(level_A[arm], level_A) + gain_A, 12), -np.inf)
    return value_AA


def relaxation(gap_Q: np.ndarray) -> float:
    """The t >= 0 whose labels `gap >= -t` differ most over pairs of queries; of several, the smallest."""
    candidates = np.unique(np.append(np.maximum(-gap_Q, 0.0), 0.0))
    share = np.searchsorted(np.sort(-gap_Q), candidates + 1e-12, side="right") / max(len(gap_Q), 1)
    return float(candidates[np.argmax(np.round(share * (1 - share), 12))])


def best_threshold(logit_Q: np.ndarray, utility_QP: np.ndarray, task_Q: np.ndarray) -> float:
    """The threshold of the highest macro utility, the small arm (column 0) being asked from there on upwards.

    Infinite where one arm is best always asked. Of several, the highest one; it lies halfway to the next logit below.
    """
    if not len(logit_Q):
        return np.inf
    gain_Q = (utility_QP[:, 0] - utility_QP[:, 1]) * task_weights(task_Q) / len(np.unique(task_Q))
    order_Q = np.argsort(-logit_Q, kind="stable")
    gain_N, logit_N = np.append(0.0, np.cumsum(gain_Q[order_Q])), logit_Q[order_Q]
    # Queries of one logit go together: between them there is no threshold.
    possible_N = np.append(True, np.append(logit_N[1:] < logit_N[:-1], True))
    asked = int(np.argmax(np.where(possible_N, np.round(gain_N, 12), -np.inf)))
    if asked in (0, len(logit_N)):
        return -np.inf if asked else np.inf
    return float(logit_N[asked - 1 : asked + 1].mean())
