"""LinUCB: a linear bandit that learns from one outcome a query, of the arm with the highest upper confidence bound.

Li, Chu, Langford, Schapire, "A Contextual-Bandit Approach to Personalized News Article Recommendation" (WWW 2010, arXiv
1003.0146), Algorithm 1: every arm has a ridge regression of its own (disjoint models) of the reward on the inputs x of
the query, with A = penalty * I + sum of x x', and the arm that is asked next is the one of the highest estimate plus
`exploration` * sqrt(x' A^-1 x). The queries of train come once each, in an order that the seed draws; of each, one
outcome is seen, that of the asked arm. In a log of single choices that is the logged arm, whatever its bound, and what
is left is a regression for every arm. When it routes, it explores no more: the highest posterior mean decides.

Differs from the paper: x holds the leading principal components of the encoding (of the train prompts; |x| = 1 on
average) and a constant, where the paper has six features of users and articles. Rewards are utilities: they are
measured from the running mean of what was seen, and the bonus is in units of their running standard deviation, so that
neither the origin nor the unit of the scores matters. A starts at the paper's identity; the exploration, which the
paper tunes too, and the number of components were chosen on validation. Score and cost have a regression each, on the
same inputs, and the utility is their difference. An arm never seen counts as bad, and dear, as the worst of the others.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders, load_encoder
from recal_bench.errors import RecalBenchError
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.targets import in_fixed_order, predictions_of

LOG_LINES = 20
"""Lines of the training log: each sums up what was asked since the one before."""
NOTHING = 1e-9
"""Values that differ by less are rounding: they tie."""


class Beliefs:
    """A ridge regression for every arm, kept up to date. Values V are utility, score and, where known, cost."""

    def __init__(self, n_arms: int, n_inputs: int, n_values: int, penalty: float) -> None:
        self.inverse_AFF = np.tile(np.eye(n_inputs) / penalty, (n_arms, 1, 1))
        self.input_AF, self.moment_AFV = np.zeros((n_arms, n_inputs)), np.zeros((n_arms, n_inputs, n_values))
        self.count_A, self.mean_V, self.squares = np.zeros(n_arms), np.zeros(n_values), 0.0

    @property
    def spread(self) -> float:
        """The standard deviation of the utilities seen so far; 1 where they do not differ."""
        spread = float(np.sqrt(self.squares / max(self.count_A.sum(), 1.0)))
        return spread if spread > NOTHING else 1.0

    def of(self, input_F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each arm's expected utility, less the mean of all seen, and the square root of x' A^-1 x."""
        gain_AF = self.inverse_AFF @ input_F
        value_A = (gain_AF * (self.moment_AFV[:, :, 0] - self.mean_V[0] * self.input_AF)).sum(axis=1)
        return value_A, np.sqrt((gain_AF * input_F).sum(axis=1))

    def learn(self, arm: int, input_F: np.ndarray, value_V: np.ndarray) -> None:
        gain_F = self.inverse_AFF[arm] @ input_F
        self.inverse_AFF[arm] -= np.outer(gain_F, gain_F) / (1.0 + gain_F @ input_F)
        self.moment_AFV[arm] += np.outer(input_F, value_V)
        self.input_AF[arm] += input_F
        self.count_A[arm] += 1
        before_V = self.mean_V
        self.mean_V = before_V + (value_V - before_V) / self.count_A.sum()
        self.squares += (value_V[0] - before_V[0]) * (value_V[0] - self.mean_V[0])

    @property
    def weight_AFV(self) -> np.ndarray:
        """The posterior means of the weights, for values less their mean."""
        return self.inverse_AFF @ (self.moment_AFV - self.input_AF[:, :, None] * self.mean_V)


@router("linucb")
@dataclass
class LinUcb:
    """A linear bandit (LinUCB): of each train query it sees one outcome, of the arm with the highest upper bound."""

    deterministic: ClassVar[bool] = False
    partial_feedback: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "exploration": (0.1, 0.3, 1.0, 2.0),
        "penalty": (1.0, 3.0, 10.0, 30.0),
        "dimensions": (5, 10, 25, 50),
        "encoder": installed_encoders(),
    }

    exploration: Annotated[float, Field(ge=0)] = 1.0
    penalty: Annotated[float, Field(gt=0)] = 1.0
    dimensions: Annotated[int, Field(ge=1)] = 10
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        train = in_fixed_order(train)
        feedback, arms, cost_ref = train.feedback, train.outcomes.arms, train.objective.cost_ref
        assert feedback is not None
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        self._fit_projection(self.text_encoder.encode(train.queries.prompt))
        input_QF = self._inputs(train.queries)
        # In the order of their names, so that no draw depends on how the arms are listed.
        order_A = np.array(sorted(range(len(arms)), key=lambda arm: str(arms[arm])))
        available_QA = feedback.available_QA[:, order_A]

        n_values = 2 if cost_ref is None else 3
        beliefs = Beliefs(len(arms), input_QF.shape[1], n_values, self.penalty)
        rng = np.random.default_rng(context.seed)
        rows = [int(row) for row in rng.permutation(len(input_QF)) if available_QA[row].any()]
        if not rows:
            raise RecalBenchError("no arm has any outcome on train: give outcomes with scores")
        asked = []
        for step, row in enumerate(rows, start=1):
            expected_A, width_A = beliefs.of(input_QF[row])
            bound_A = expected_A + self.exploration * beliefs.spread * width_A
            highest = bound_A[available_QA[row]].max()
            arm = int(rng.choice(np.flatnonzero(available_QA[row] & (bound_A >= highest - NOTHING))))
            outcome = feedback.ask(row, int(order_A[arm]))
            value_V = np.array([outcome.utility, outcome.score, outcome.cost / (cost_ref or 1.0)][:n_values])
            beliefs.learn(arm, input_QF[row], value_V)
            best = expected_A[available_QA[row]].max()
            asked.append((outcome.utility, expected_A[arm] < best - NOTHING))
            if step * LOG_LINES // len(rows) > (step - 1) * LOG_LINES // len(rows):
                utility, explored = np.mean(asked, axis=0).tolist()
                context.log({"step": step, "train_utility": utility, "explored": explored})
                asked = []
        back_A = np.argsort(order_A)
        self.weight_AFV, self.mean_V = beliefs.weight_AFV[back_A, :, 1:], beliefs.mean_V[1:]
        self.seen_A = beliefs.count_A[back_A] > 0
        self.cost_ref = np.nan if cost_ref is None else cost_ref

    def _fit_projection(self, encoding_QE: np.ndarray) -> None:
        """The leading principal components, brought to one scale together."""
        self.centre_E = encoding_QE.mean(axis=0, dtype=np.float64)
        centred_QE = encoding_QE - self.centre_E
        direction_EE = np.linalg.eigh(centred_QE.T @ centred_QE)[1]
        projection_EP = direction_EE[:, ::-1][:, : self.dimensions]
        size = np.sqrt(((centred_QE @ projection_EP) ** 2).sum(axis=1).mean())
        self.projection_EP = projection_EP / (size if size > NOTHING else 1.0)

    def _inputs(self, queries: Queries) -> np.ndarray:
        """What the regressions read: the projected encoding, and a constant."""
        encoding_QE = self.text_encoder.encode(queries.prompt)
        return np.hstack([(encoding_QE - self.centre_E) @ self.projection_EP, np.ones((len(encoding_QE), 1))])

    def predict(self, queries: Queries) -> Predictions:
        value_VQA = np.einsum("qf,afv->vqa", self._inputs(queries), self.weight_AFV) + self.mean_V[:, None, None]
        # Rounded, for what differs in the last digits is a tie, and a tie goes to the cheaper arm.
        value_VQA = np.round(value_VQA, 10)
        for value_QA, worst in zip(value_VQA, (np.min, np.max), strict=False):
            value_QA[:, ~self.seen_A] = worst(value_QA[:, self.seen_A], axis=1, keepdims=True)
        return predictions_of(np.hstack(list(value_VQA)), self.cost_ref)

    def save(self, folder: Path) -> None:
        self.text_encoder.save(folder)
        np.savez(
            folder / "linucb.npz",
            weight_AFV=self.weight_AFV,
            mean_V=self.mean_V,
            seen_A=self.seen_A,
            centre_E=self.centre_E,
            projection_EP=self.projection_EP,
            cost_ref=self.cost_ref,
        )

    def load(self, folder: Path) -> None:
        self.text_encoder = load_encoder(folder)
        with np.load(folder / "linucb.npz", allow_pickle=False) as arrays:
            self.weight_AFV, self.mean_V, self.seen_A = (arrays[name] for name in ("weight_AFV", "mean_V", "seen_A"))
            self.centre_E, self.projection_EP = arrays["centre_E"], arrays["projection_EP"]
            self.cost_ref = float(arrays["cost_ref"])
