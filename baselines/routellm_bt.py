"""RouteLLM's similarity-weighted ranking: a Bradley-Terry ranking of the arms, made for every query.

Ong, Almahairi, Wu, Chiang, Wu, Gonzalez, Kadous, Stoica, "RouteLLM: Learning to Route LLMs with Preference Data", ICLR
2025, arXiv 2406.18665. Each preference of train weighs gamma^(1 + S), where S is the cosine similarity of its query to
the new one over the greatest such similarity; the arms' strengths are the maximum of the weighted Bradley-Terry
likelihood. Nothing is trained. A tie is half a win for each.

What differs: more than two arms, by all pairs of arms of a query, and the strongest arm is chosen. Arms are ranked
themselves, not ten tiers of them: the paper's 64 models rarely met, here all arms of a query do. Preferences come from
utilities: a cost enters by deciding who won, and by how much. A preference weighs what is at stake, the difference of
the utilities; `weights=equal` counts every win as one, as the paper does, and so the smallest saving as much as a right
answer. Every arm also draws a little against the average arm, which keeps strengths finite. The paper's gamma is 10,
for OpenAI's embeddings; TF-IDF knows few similar queries, and 10 leaves them little more say than all others: 1,000 was
chosen on validation.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.bradley_terry import CHUNK, drawn_to_average, strengths, wins
from recal_bench.toolbox.neighbours import chunks
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import PRIOR_COUNT, in_fixed_order, require_outcomes, unseen_last

DRAWN_SHARE = 0.01
"""How much each arm draws against the average arm, as a share of what the average arm played."""


@router("routellm-bt")
@dataclass
class RouteLlmBt(Saved):
    """Similarity-weighted Bradley-Terry ranking (RouteLLM): the arm that wins most on queries like this one.

    `gamma` is the weight of the most similar query over that of one with nothing in common.
    """

    LEARNT = ("text_encoder", "memory_NE", "utility_NA")
    deterministic: ClassVar[bool] = True
    compares_arms: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "gamma": (10.0, 100.0, 1e3, 1e4, 1e5),
        "weights": ("stake", "equal"),
        "encoder": installed_encoders(),
    }

    gamma: Annotated[float, Field(ge=1)] = 1e3
    weights: Literal["stake", "equal"] = "stake"
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        train = in_fixed_order(train)
        require_outcomes(train)
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        self.memory_NE = self.text_encoder.encode(train.queries.prompt)
        self.utility_NA = train.utility_QA

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        encoding_QE = self.text_encoder.encode(queries.prompt)
        count_A = (~np.isnan(self.utility_NA)).sum(axis=0)
        trust_A = count_A / (count_A + PRIOR_COUNT)
        strength = [np.zeros((0, len(trust_A)))]
        for rows in chunks(len(encoding_QE), CHUNK):
            won_QAA = self._won(encoding_QE[rows])
            drawn_Q = DRAWN_SHARE * (won_QAA + won_QAA.swapaxes(1, 2)).sum(axis=2).mean(axis=1) + 1e-9
            strength.append(strengths(won_QAA, drawn_Q))
        # What differs by rounding (wins are summed in single precision) is a tie, and a tie goes to the cheaper arm.
        value_QA = np.round(drawn_to_average(np.concatenate(strength), trust_A), 5)
        return calls.choose(unseen_last(value_QA, trust_A > 0))

    def _won(self, encoding_QE: np.ndarray) -> np.ndarray:
        """The weight of all wins of the first arm over the second, `[Q, A, A]`, as each query sees them."""
        arms = self.utility_NA.shape[1]
        similarity_QN = encoding_QE @ self.memory_NE.T
        # A query that is like none of train sees all of them alike.
        nearest_Q1 = np.maximum(similarity_QN.max(axis=1, keepdims=True), 1e-6)
        relative_QN = np.clip(similarity_QN / nearest_Q1, -1, 1)
        won_QP = np.zeros((len(encoding_QE), arms * arms), dtype=np.float32)
        for rows in chunks(len(self.memory_NE), CHUNK):
            # Over gamma^2: what all weights have in common does not matter.
            weight_QN = np.float32(self.gamma) ** (relative_QN[:, rows] - 1)
            won_NAA = wins(self.utility_NA[rows], self.weights).astype(np.float32)
            won_QP += weight_QN @ won_NAA.reshape(-1, arms * arms)
        return won_QP.reshape(-1, arms, arms).astype(np.float64)
