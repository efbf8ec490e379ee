"""The Avengers: clusters of similar prompts, and in each of them the arms ranked by how they did there.

Zhang, Li, Wang, Chen, Zhang, Ye, Feng, Wang, Wang, Wang, Xu, Bai, Ouyang, Hu, "The Avengers: A Simple Recipe for
Uniting Smaller Language Models to Challenge Proprietary Giants" (arXiv 2505.19797). Four steps: embed the train
prompts, cluster them (k-means, 64 clusters), score every model in every cluster, and vote. A new prompt goes to the
nearest cluster, and to the models that rank first there.

Simplified: the voting is left out. It samples several answers, of one model or of a few, and takes the one given most
often: that is several calls a query, and a router chooses one arm. What remains is its choice of the first model. The
ranking is by utility, not by accuracy. As in the authors' code, several near clusters may be asked: an arm gets
1 / (rank + 0.1) from each, weighted by a softmax of -beta times the distance. One cluster, the default, is the paper's
rule; the example that comes with the code has 3 and beta 6. The paper's embedding is gte-Qwen2-7B. New are: arms that
tie share a rank, an arm's mean over everything counts for one query in each cluster (where the arm has no outcome, it
decides), and fewer clusters where train is small, one for every twenty prompts.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from scipy.special import softmax

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.clusters import clustered
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import PRIOR_COUNT, in_fixed_order, typical_values

PROMPTS_A_CLUSTER = 20
"""There are never more clusters than one for this many train prompts."""
MEAN_COUNT = 1.0
"""Queries that an arm's mean over everything counts for in a cluster."""


@router("avengers")
@dataclass
class Avengers(Saved):
    """The arm that ranks first by utility in the cluster of train prompts that is nearest to the query."""

    LEARNT = ("text_encoder", "centre_KE", "rank_KA")
    deterministic: ClassVar[bool] = False
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "clusters": (8, 16, 32, 64, 128),
        "nearest": (1, 3, 10),
        "beta": (3.0, 6.0, 12.0),
        "encoder": installed_encoders(),
    }

    clusters: Annotated[int, Field(ge=1)] = 64
    nearest: Annotated[int, Field(ge=1)] = 1
    beta: Annotated[float, Field(ge=0)] = 6.0
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        train = in_fixed_order(train)
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        encoding_QE = self.text_encoder.encode(train.queries.prompt)
        self.centre_KE = clustered(encoding_QE, self.clusters, PROMPTS_A_CLUSTER, context.seed).cluster_centers_
        utility_QA = train.utility_QA
        typical_A = typical_values(utility_QA, train.outcomes, np.min, PRIOR_COUNT)
        in_cluster_KQ = np.arange(len(self.centre_KE))[:, None] == np.argmin(self._distances(encoding_QE), axis=1)
        known_QA = ~np.isnan(utility_QA)
        excess_KA = in_cluster_KQ @ np.where(known_QA, utility_QA - typical_A, 0.0)
        mean_KA = typical_A + excess_KA / (in_cluster_KQ.astype(np.float64) @ known_QA + MEAN_COUNT)
        self.rank_KA = ranks(mean_KA)

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        distance_QK = self._distances(self.text_encoder.encode(queries.prompt))
        near_QN = np.argsort(distance_QK, axis=1, kind="stable")[:, : self.nearest]
        near_distance_QN = np.take_along_axis(distance_QK, near_QN, axis=1)
        weight_QN = softmax(-self.beta * near_distance_QN, axis=1)
        return calls.choose((weight_QN[:, :, None] / (self.rank_KA[near_QN] + 0.1)).sum(axis=1))

    def _distances(self, encoding_QE: np.ndarray) -> np.ndarray:
        """Half the squared distance to every centre: between vectors of unit length, 1 minus their cosine."""
        squared_Q, squared_K = (encoding_QE**2).sum(axis=1), (self.centre_KE**2).sum(axis=1)
        return np.asarray((squared_Q[:, None] + squared_K) / 2 - encoding_QE @ self.centre_KE.T)


def ranks(value_KA: np.ndarray) -> np.ndarray:
    """How many arms are better, in each cluster. What differs in the last digits is a tie, and shares a rank."""
    value_KA = np.round(value_KA, 12)
    return np.asarray((value_KA[:, None, :] > value_KA[:, :, None]).sum(axis=2))
