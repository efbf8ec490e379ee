"""UniRoute: an arm is known by its errors on clusters of prompts, so arms never trained on can be routed to.

Jitkrittum, Narasimhan, Rawat, Juneja, Wang, Wang, Go, Lee, Shenoy, Panigrahy, Menon, Kumar, "Universal Model Routing
for Efficient LLM Inference" (arXiv 2502.08773, ICLR 2026). A model's features are its mean errors on labelled prompts,
one for each of K clusters; what is expected of it on a prompt is the feature of the prompt's cluster; its price is
taken off; the best is chosen. Only the clusters are trained. A new model needs its answers to a few labelled prompts.

The version with k-means clusters; the one that learns which cluster a prompt belongs to is left out. In the paper a
model's cost is one number; here it is a feature like its errors, as arms that reason cost more on some prompts than on
others. In the paper a feature is a plain mean, which needs labelled prompts in every cluster. Here an arm's outcomes in
a cluster are drawn towards what its mean over all clusters and the cluster's difficulty (for costs: how dear it is)
let expect: of an arm with a few labelled queries, or in a cluster without any, that expectation is what is left. The
paper chooses K for every data set, by how well held-out prompts are routed among train models; `tune` does so here, and
64 was the best of 8 to 128 on the validation splits of the simulated pool and of two logs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.errors import OutcomesError
from recal_bench.outcomes import Arm
from recal_bench.routers import Calls, Context, Decisions, Predictions, Queries, Train, router
from recal_bench.toolbox.clusters import clustered
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import PRIOR_COUNT, in_fixed_order, targets_of

PROMPTS_A_CLUSTER = 10
"""There are never more clusters than one for this many train prompts."""
COST_COUNT = 1.0
"""Outcomes that the average arm's cost counts for in a new arm's: costs differ more between arms than between queries,
so a few tell most of it."""


@router("uniroute")
@dataclass
class UniRoute(Saved):
    """Expected score and cost of every arm by cluster of prompts; new arms need a few labelled queries (`adapt`).

    `shrinkage` is the number of outcomes in a cluster that what is expected without them counts for.
    """

    LEARNT = (
        "text_encoder",
        "arms",
        "centre_KE",
        "score_A",
        "score_KA",
        "cost_A",
        "cost_KA",
        "difficulty_K",
        "dearness_K",
        "cost_ref",
    )
    deterministic: ClassVar[bool] = False
    sweeps: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "clusters": (8, 16, 32, 64, 128),
        "shrinkage": (1.0, 3.0, 10.0, 30.0),
        "encoder": installed_encoders(),
    }

    clusters: Annotated[int, Field(ge=1)] = 64
    shrinkage: Annotated[float, Field(gt=0)] = 10.0
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        train = in_fixed_order(train)
        targets, self.arms = targets_of(train), train.outcomes.arms
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        encoding_QE = self.text_encoder.encode(train.queries.prompt)
        self.centre_KE = clustered(encoding_QE, self.clusters, PROMPTS_A_CLUSTER, context.seed).cluster_centers_
        cluster_Q = self._clusters_of(train.queries)
        columns = len(self.arms)
        score_QA, self.score_A = targets.value_QC[:, :columns], targets.typical_C[:columns]
        self.difficulty_K = self._cluster_means(score_QA - self.score_A, cluster_Q)
        self.score_KA = self._features(score_QA, cluster_Q, self.score_A + self.difficulty_K[:, None])
        self.cost_ref, self.dearness_K = targets.cost_ref, np.ones(len(self.centre_KE))
        self.cost_A, self.cost_KA = np.full(columns, np.nan), np.full_like(self.score_KA, np.nan)
        if not np.isnan(self.cost_ref):
            cost_QA, self.cost_A = targets.value_QC[:, columns:], targets.typical_C[columns:]
            paid_A = self.cost_A > 0
            self.dearness_K += self._cluster_means(cost_QA[:, paid_A] / self.cost_A[paid_A] - 1, cluster_Q)
            self.cost_KA = self._features(cost_QA, cluster_Q, self.cost_A * self.dearness_K[:, None])

    def adapt(self, arms: Sequence[Arm], few: Train) -> None:
        """Make arms known by a few labelled train queries; arms known already are estimated again from these.

        `few.outcomes` has a column for each of the arms. An arm without any outcome in it is taken to be as bad, and as
        dear, as the worst arm known. From now on predictions hold the arms of train and then these. Raises
        OutcomesError on an arm that is neither known nor has a column.
        """
        new = [arm for arm in arms if arm in few.outcomes.arms]
        for arm in arms:
            if arm not in new and arm not in self.arms:
                raise OutcomesError(f"router uniroute knows nothing of arm {arm}: give some of its outcomes to adapt")
        few = in_fixed_order(few)
        columns = [few.outcomes.arms.index(arm) for arm in new]
        cluster_Q = self._clusters_of(few.queries)
        score_QA = few.outcomes.score_QA[:, columns]
        known_QA = ~np.isnan(score_QA)
        total_A = np.where(known_QA, score_QA - self.difficulty_K[cluster_Q, None], 0.0).sum(axis=0)
        score_A = (total_A + PRIOR_COUNT * self.score_A.mean()) / (known_QA.sum(axis=0) + PRIOR_COUNT)
        score_A = np.where(known_QA.any(axis=0), score_A, self.score_A.min())
        score_KA = self._features(score_QA, cluster_Q, score_A + self.difficulty_K[:, None])
        cost_A, cost_KA = np.full(len(new), np.nan), np.full_like(score_KA, np.nan)
        if not np.isnan(self.cost_ref):
            cost_QA = few.outcomes.cost_QA[:, columns] / self.cost_ref
            known_QA = ~np.isnan(cost_QA)
            total_A = np.where(known_QA, cost_QA, 0.0).sum(axis=0)
            dearness_A = (known_QA * self.dearness_K[cluster_Q, None]).sum(axis=0)
            cost_A = (total_A + COST_COUNT * self.cost_A.mean()) / (dearness_A + COST_COUNT)
            cost_A = np.where(known_QA.any(axis=0), cost_A, self.cost_A.max())
            cost_KA = self._features(cost_QA, cluster_Q, cost_A * self.dearness_K[:, None])
        for name, added in (("score_A", score_A), ("score_KA", score_KA), ("cost_A", cost_A), ("cost_KA", cost_KA)):
            by_arm = dict(zip(self.arms, getattr(self, name).T, strict=True)) | dict(zip(new, added.T, strict=True))
            setattr(self, name, np.stack(list(by_arm.values()), axis=-1))
        self.arms = tuple(dict.fromkeys([*self.arms, *new]))

    def _features(self, value_QA: np.ndarray, cluster_Q: np.ndarray, expected_KA: np.ndarray) -> np.ndarray:
        """Mean value by cluster, drawn towards what is expected there."""
        in_cluster_KQ = (np.arange(len(expected_KA))[:, None] == cluster_Q).astype(np.float64)
        known_QA = ~np.isnan(value_QA)
        above_KA = in_cluster_KQ @ np.where(known_QA, value_QA - expected_KA[cluster_Q], 0.0)
        return np.asarray(expected_KA + above_KA / (in_cluster_KQ @ known_QA + self.shrinkage))

    def _cluster_means(self, excess_QA: np.ndarray, cluster_Q: np.ndarray) -> np.ndarray:
        """By how much a query of a cluster exceeds its arms' levels on average, drawn towards 0."""
        known_QA = ~np.isnan(excess_QA)
        count_Q = known_QA.sum(axis=1)
        excess_Q = np.where(known_QA, excess_QA, 0.0).sum(axis=1) / np.maximum(count_Q, 1)
        total_K, count_K = (
            np.bincount(cluster_Q, weights, len(self.centre_KE)) for weights in (excess_Q, (count_Q > 0).astype(float))
        )
        return np.asarray(total_K / (count_K + self.shrinkage))

    def _clusters_of(self, queries: Queries) -> np.ndarray:
        encoding_QE = self.text_encoder.encode(queries.prompt)
        return np.asarray(np.argmax(encoding_QE @ self.centre_KE.T - (self.centre_KE**2).sum(axis=1) / 2, axis=1))

    def predict(self, queries: Queries) -> Predictions:
        cluster_Q = self._clusters_of(queries)
        return Predictions(self.score_KA[cluster_Q], self.cost_KA[cluster_Q] * self.cost_ref)

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        unknown = [str(arm) for arm in calls.arms if arm not in self.arms]
        if unknown:
            raise OutcomesError(f"router uniroute knows nothing of {', '.join(unknown)}: give adapt some outcomes")
        columns = [self.arms.index(arm) for arm in calls.arms]
        score_QA, cost_QA = self.predict(queries)
        return calls.choose(calls.objective.utility(score_QA[:, columns], cost_QA[:, columns]))
