"""PILOT: LinUCB in a space of queries and arms that is learnt beforehand, and gives it its first belief too.

Panda, Magazine, Devaguptapu, Takemori, Sharma, "Adaptive LLM Routing under Budget Constraints" (Findings of EMNLP 2025,
arXiv 2508.21141). Before any feedback, public human preferences (pairs of answers from Chatbot Arena) teach a linear
projection of the query's embedding, and then an embedding theta of every arm in the projected space. Online LinUCB
starts from there, with A = lambda * I and b = lambda * theta: an arm is believed to be what the preferences say, as
firmly as lambda outcomes would say it; what is asked and seen then corrects that.

What differs, above all: there are no human preferences between these arms here, and of single outcomes no two arms on
one query to compare. Outcomes of train take their place: a share of the train queries, drawn by the seed, goes to
one random arm each (in a log of single choices: to the logged one), and teaches the prior. So the prior is not
knowledge from elsewhere; it is bought with outcomes that LinUCB would have used as well. The mechanism is the paper's,
its advantage at a cold start is not to be expected. Its two steps (a triplet loss for the projection, cross-entropy
over pairs for the arms) become two ridge regressions of the utility for every arm: the leading singular vectors of the
first one's weights are the projection, the second one, within it, gives theta. The expected reward is theta' x with a
constant in x, no cosine, as utilities are not similarities; rewards are measured from the share's mean, and the bonus
is in units of its standard deviation. The paper's budgets, spent by an online knapsack, are left out: a cost enters by
the utility. Exploration, lambda, share and penalties were chosen on validation; the paper's values are not known here.
When it routes, it explores no more: the highest posterior mean decides. An arm never seen counts as bad, and dear, as
the worst of the others.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.toolbox.bandits import Asking, Beliefs, Regressions, Space, Summary, ask_in_turn, spread_of
from recal_bench.toolbox.ridge import ridge_weights
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import in_fixed_order

PROJECTION_PENALTY, ARM_PENALTY = 100.0, 10.0
"""Of the two regressions behind the prior, in queries: on the whole encoding, and within its projection."""


def regress(input_NF: np.ndarray, arm_N: np.ndarray, excess_NV: np.ndarray, n_arms: int, penalty: float) -> np.ndarray:
    """A ridge regression for every arm, on the rows that asked it: weights `[A, F, V]`, 0 for an arm without any."""
    weight_AFV = np.zeros((n_arms, input_NF.shape[1], excess_NV.shape[1]))
    for arm in np.unique(arm_N):
        weight_AFV[arm] = ridge_weights(input_NF[arm_N == arm], excess_NV[arm_N == arm], penalty)
    return weight_AFV


@router("pilot")
@dataclass
class Pilot(Saved):
    """LinUCB with a prior: a share of the train queries, put to random arms, teaches what the others start from."""

    LEARNT = ("text_encoder", "learnt")
    deterministic: ClassVar[bool] = False
    partial_feedback: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "exploration": (0.3, 1.0, 2.0),
        "prior_share": (0.1, 0.2, 0.4),
        "prior_weight": (3.0, 10.0, 30.0),
        "dimensions": (5, 10, 20),
        "encoder": installed_encoders(),
    }

    exploration: Annotated[float, Field(ge=0)] = 1.0
    prior_share: Annotated[float, Field(gt=0, le=1)] = 0.2
    prior_weight: Annotated[float, Field(gt=0)] = 10.0
    dimensions: Annotated[int, Field(ge=1)] = 10
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        train = in_fixed_order(train)
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        encoding_QE = self.text_encoder.encode(train.queries.prompt).astype(np.float64)
        rng = np.random.default_rng(context.seed)
        asking = Asking(train, rng)
        n_prior = max(1, round(self.prior_share * len(asking.rows)))
        first, rest = asking.rows[:n_prior], asking.rows[n_prior:]
        arm_N = np.array([rng.choice(np.flatnonzero(asking.available_QA[row])) for row in first])
        value_NV = np.array([asking.ask(row, arm) for row, arm in zip(first, arm_N, strict=True)])
        mean_V, spread = value_NV.mean(axis=0), spread_of(value_NV[:, 0].std())
        context.log({"step": n_prior, "train_utility": float(mean_V[0]), "explored": 1.0})
        space = self._space(encoding_QE, first, arm_N, value_NV[:, :1] - mean_V[:1], asking.n_arms)
        input_QF = space.inputs(encoding_QE)
        prior_AFV = regress(input_QF[first], arm_N, value_NV - mean_V, asking.n_arms, ARM_PENALTY)
        beliefs = Beliefs(prior_AFV, self.prior_weight, mean_V)

        def choose(row: int, expected_A: np.ndarray, width_A: np.ndarray) -> int:
            return asking.highest(row, expected_A + self.exploration * spread * width_A)

        summary = Summary(context.log, len(rest), before=n_prior)
        ask_in_turn(asking, rest, input_QF, beliefs, choose, summary)
        self.learnt = asking.learnt(space, beliefs.weight_AFV, mean_V)

    def _space(
        self, encoding_QE: np.ndarray, rows: list[int], arm_N: np.ndarray, excess_NV: np.ndarray, n_arms: int
    ) -> Space:
        """The directions of the encoding along which arms differ."""
        centred_NE = encoding_QE[rows] - encoding_QE.mean(axis=0)
        input_NE = np.hstack([centred_NE, np.ones((len(rows), 1))])
        weight_AFV = regress(input_NE, arm_N, excess_NV, n_arms, PROJECTION_PENALTY)
        direction_KE = np.linalg.svd(weight_AFV[:, :-1, 0], full_matrices=False)[2]
        return Space.along(direction_KE[: self.dimensions].T, encoding_QE)

    def predict(self, queries: Queries) -> Predictions:
        return Regressions(*self.learnt).predict(self.text_encoder.encode(queries.prompt))
