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
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.toolbox.bandits import Asking, Beliefs, Regressions, Space, Summary, ask_in_turn
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import in_fixed_order


@router("linucb")
@dataclass
class LinUcb(Saved):
    """A linear bandit (LinUCB): of each train query it sees one outcome, of the arm with the highest upper bound."""

    LEARNT = ("text_encoder", "learnt")
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
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        encoding_QE = self.text_encoder.encode(train.queries.prompt)
        space = Space.of_principal_components(encoding_QE, self.dimensions)
        input_QF = space.inputs(encoding_QE)
        asking = Asking(train, np.random.default_rng(context.seed))
        beliefs = Beliefs(np.zeros((asking.n_arms, input_QF.shape[1], asking.n_values)), self.penalty)

        def choose(row: int, expected_A: np.ndarray, width_A: np.ndarray) -> int:
            return asking.highest(row, expected_A + self.exploration * beliefs.spread * width_A)

        ask_in_turn(asking, asking.rows, input_QF, beliefs, choose, Summary(context.log, len(asking.rows)))
        self.learnt = asking.learnt(space, beliefs.weight_AFV, beliefs.mean_V)

    def predict(self, queries: Queries) -> Predictions:
        return Regressions(*self.learnt).predict(self.text_encoder.encode(queries.prompt))
