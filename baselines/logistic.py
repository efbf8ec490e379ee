"""Multinomial logistic regression on soft labels: which arm is right for this query?

A plain label, "the best arm", forgets by how much it is best, and breaks ties by the order of the arms. Here an arm's
share in a query's label is its utility above that of the query's worst arm, and the query weighs what its shares sum
to. The probabilities that fit this best are proportional to the expected utility above the worst arm's: the most
probable arm is the one of the highest expected utility. Arms that tie share alike; where all tie, the query is silent.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import in_fixed_order, linear_inputs, require_outcomes, unseen_last


@router("logistic")
@dataclass
class Logistic(Saved):
    """Softmax over the arms, linear in the encoding, fitted to labels that share out each query's utility.

    Where outcomes are missing, the probabilities are those among the observed arms. `penalty` is in queries of average
    weight: the fewer queries there are, the closer the arms stay to equal.
    """

    LEARNT = ("text_encoder", "weight_EA", "seen_A")
    deterministic: ClassVar[bool] = True
    compares_arms: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "penalty": (0.3, 1.0, 3.0, 10.0),
        "encoder": installed_encoders(),
    }

    penalty: Annotated[float, Field(gt=0)] = 1.0
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        from scipy.optimize import minimize

        require_outcomes(train)
        train = in_fixed_order(train)
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        observed_QA, share_QA = shares(train.utility_QA)
        used_Q = share_QA.sum(axis=1) > 0
        input_QE = linear_inputs(self.text_encoder, train.queries)[used_Q]
        observed_QA, share_QA = observed_QA[used_Q], share_QA[used_Q] / max(share_QA.sum(), 1e-12)
        total_Q = share_QA.sum(axis=1)
        # On the constant too: few outcomes move an arm's level little.
        penalty = self.penalty / max(used_Q.sum(), 1)
        shape = input_QE.shape[1], share_QA.shape[1]

        def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weight_EA = flat.reshape(shape)
            logit_QA = input_QE @ weight_EA
            logit_QA -= np.where(observed_QA, logit_QA, -np.inf).max(axis=1, keepdims=True)
            exp_QA = np.where(observed_QA, np.exp(np.minimum(logit_QA, 0.0)), 0.0)
            sum_Q = exp_QA.sum(axis=1)
            loss = total_Q @ np.log(sum_Q) - (share_QA * logit_QA).sum()
            slope_QA = exp_QA * (total_Q / sum_Q)[:, None] - share_QA
            gradient_EA = input_QE.T @ slope_QA + penalty * weight_EA
            return float(loss + 0.5 * penalty * (flat @ flat)), gradient_EA.ravel()

        self.weight_EA = np.zeros(shape)
        if used_Q.any():
            found = minimize(loss_and_gradient, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B")
            self.weight_EA = found.x.reshape(shape)
        self.seen_A = np.asarray(~np.isnan(train.utility_QA).all(axis=0))

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        logit_QA = linear_inputs(self.text_encoder, queries) @ self.weight_EA
        return calls.choose(unseen_last(logit_QA, self.seen_A))


def shares(utility_QA: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which arms were observed, and by how much each of them is better than the worst of them."""
    observed_QA = ~np.isnan(utility_QA)
    worst_Q = np.where(observed_QA, utility_QA, np.inf).min(axis=1, keepdims=True)
    return observed_QA, np.where(observed_QA, utility_QA - worst_Q, 0.0)
