"""Linear Thompson sampling: a bandit that asks each arm as often as it believes that the arm is the best one.

Agrawal, Goyal, "Thompson Sampling for Contextual Bandits with Linear Payoffs" (ICML 2013, arXiv 1209.3352): the belief
on the reward's linear weights is a Gaussian, N(B^-1 f, v^2 B^-1) with B = I + sum of x x' and f the sum of rewards
times x; at each query weights are drawn from it, and the arm is asked that is best under them. Every arm has weights of
its own here (in the paper: inputs in a block of their own), so that it is enough to draw each arm's value, which is
N(x' B^-1 f, v^2 x' B^-1 x). The queries of train come once each, in an order that the seed draws; of each, one outcome
is seen, that of the asked arm. In a log of single choices that is the logged arm, whatever was drawn, and what is left
is a regression for every arm. When it routes, it draws no more: the highest posterior mean decides.

Differs from the paper: x holds the leading principal components of the encoding (of the train prompts; |x| = 1 on
average) and a constant. Rewards are utilities: they are measured from the running mean of what was seen, and v is in
units of their running standard deviation, so that neither the origin nor the unit of the scores matters. The paper's
v = R sqrt(9 d ln(t / delta)), made for its bound on the regret, would ask at random for thousands of queries; here it
is a constant, chosen on validation like the number of components (that a smaller spread pays in practice: Chapelle,
Li, "An Empirical Evaluation of Thompson Sampling", NIPS 2011). Score and cost have a regression each, on the same
inputs, and the utility is their difference. An arm never seen counts as bad, and dear, as the worst of the others.
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


@router("thompson")
@dataclass
class Thompson(Saved):
    """A linear bandit (Thompson sampling): of each train query it sees one outcome, of the arm best in a draw."""

    LEARNT = ("text_encoder", "learnt")
    deterministic: ClassVar[bool] = False
    partial_feedback: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "spread": (0.25, 0.5, 1.0, 2.0),
        "penalty": (1.0, 3.0, 10.0, 30.0),
        "dimensions": (5, 10, 25, 50),
        "encoder": installed_encoders(),
    }

    spread: Annotated[float, Field(ge=0)] = 1.0
    penalty: Annotated[float, Field(gt=0)] = 1.0
    dimensions: Annotated[int, Field(ge=1)] = 10
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        train = in_fixed_order(train)
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        encoding_QE = self.text_encoder.encode(train.queries.prompt)
        space = Space.of_principal_components(encoding_QE, self.dimensions)
        input_QF = space.inputs(encoding_QE)
        rng = np.random.default_rng(context.seed)
        asking = Asking(train, rng)
        beliefs = Beliefs(np.zeros((asking.n_arms, input_QF.shape[1], asking.n_values)), self.penalty)

        def choose(row: int, expected_A: np.ndarray, width_A: np.ndarray) -> int:
            drawn_A = expected_A + self.spread * beliefs.spread * width_A * rng.standard_normal(asking.n_arms)
            return int(np.argmax(np.where(asking.available_QA[row], drawn_A, -np.inf)))

        ask_in_turn(asking, asking.rows, input_QF, beliefs, choose, Summary(context.log, len(asking.rows)))
        self.learnt = asking.learnt(space, beliefs.weight_AFV, beliefs.mean_V)

    def predict(self, queries: Queries) -> Predictions:
        return Regressions(*self.learnt).predict(self.text_encoder.encode(queries.prompt))
