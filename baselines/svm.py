"""Linear support vector machines, one for each arm: is this arm better than the average arm on this query?

Cost-sensitive one-versus-rest: the label says on which side of the query's mean utility the arm lies, the weight by how
much. So arms that tie have equal labels and weights, and a query on which all arms tie has no weight. Simplified: a
linear kernel (others, over thousands of queries and two dozen arms, take minutes), and squared hinge loss.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recal_bench.arrays import FloatQA
from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import in_fixed_order, require_outcomes, unseen_last


@router("svm")
@dataclass
class Svm(Saved):
    """One linear support vector machine an arm, weighted by what is at stake; the arm of the widest margin wins.

    `c` is the usual inverse penalty. An arm with few outcomes stays near margin 0, that of an average arm.
    """

    LEARNT = ("text_encoder", "weight_EA", "seen_A")
    deterministic: ClassVar[bool] = True
    compares_arms: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "c": (0.01, 0.03, 0.1, 0.3),
        "encoder": installed_encoders(),
    }

    c: Annotated[float, Field(gt=0)] = 0.03
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        require_outcomes(train)
        train = in_fixed_order(train)
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        encoding_QE = self.text_encoder.encode(train.queries.prompt).astype(np.float64)
        advantage_QA = advantages(train.utility_QA)
        fitted = [self._fit_arm(encoding_QE, advantage_Q) for advantage_Q in advantage_QA.T]
        self.weight_EA = np.stack(fitted, axis=1)
        self.seen_A = ~np.isnan(advantage_QA).all(axis=0)

    def _fit_arm(self, encoding_QE: np.ndarray, advantage_Q: np.ndarray) -> np.ndarray:
        """Weights of the encoding, and of a column of ones, for one arm."""
        from sklearn.svm import LinearSVC

        used_Q = np.abs(np.nan_to_num(advantage_Q)) > 0
        if not used_Q.any():
            return np.zeros(encoding_QE.shape[1] + 1)
        advantage_Q, encoding_QE = advantage_Q[used_Q], encoding_QE[used_Q]
        stake = np.abs(advantage_Q).mean()
        # Two made-up queries without a text, one on each side: an arm that is always better, or worse, can be fitted.
        nothing = np.zeros((2, encoding_QE.shape[1]))
        machine = LinearSVC(C=self.c, dual=False, max_iter=5_000).fit(
            np.vstack([encoding_QE, nothing]),
            np.append(advantage_Q > 0, [True, False]),
            sample_weight=np.append(np.abs(advantage_Q) / stake, [1.0, 1.0]),
        )
        # A margin is an expected advantage over its mean size: times that size, the arms' margins compare.
        return np.asarray(stake * np.append(machine.coef_[0], machine.intercept_))

    def utilities(self, queries: Queries, calls: Calls) -> FloatQA:
        """The margins of the arms: expected advantages over the mean of the arms."""
        encoding_QE = self.text_encoder.encode(queries.prompt).astype(np.float64)
        margin_QA = encoding_QE @ self.weight_EA[:-1] + self.weight_EA[-1]
        return unseen_last(margin_QA, self.seen_A)

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        return calls.choose(self.utilities(queries, calls))


def advantages(utility_QA: np.ndarray) -> np.ndarray:
    """By how much each arm is better than the mean of the arms observed on the query; NaN where it was not."""
    known_QA = ~np.isnan(utility_QA)
    count_Q = np.maximum(known_QA.sum(axis=1, keepdims=True), 1)
    return np.asarray(utility_QA - np.where(known_QA, utility_QA, 0.0).sum(axis=1, keepdims=True) / count_Q)
