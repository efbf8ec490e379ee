"""k nearest neighbours: an arm is worth on a query what it was worth on the most similar train queries.

As a baseline for routing: Hu et al., "RouterBench" (arXiv 2403.12031). "Rethinking Predictive Modeling for LLM Routing:
When Simple kNN Beats Complex Learned Routers" (arXiv 2505.12601) finds it hard to beat. Exact search, by brute force.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from recal_bench.encoders import fit_encoder, installed_encoders, load_encoder
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.toolbox.targets import in_fixed_order, predictions_of, targets_of

PRIOR_COUNT = 1.0
"""Neighbours that the arm's typical value counts for: what decides where few neighbours know the arm."""
CHUNK = 1024
"""Queries whose similarities are held in memory at once."""


@router("knn")
@dataclass
class Knn:
    """The mean score and cost of each arm over the k most similar train queries (cosine similarity)."""

    deterministic: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "k": (10, 30, 100, 200, 300),
        "weights": ("uniform", "similarity"),
        "encoder": installed_encoders(),
    }

    k: Annotated[int, Field(ge=1)] = 200
    weights: Literal["uniform", "similarity"] = "similarity"
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        train = in_fixed_order(train)
        targets = targets_of(train)
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        self.memory_NE = self.text_encoder.encode(train.queries.prompt)
        self.known_NC, self.excess_NC = targets.known_QC, targets.excess_QC
        self.typical_C, self.cost_ref = targets.typical_C, targets.cost_ref

    def predict(self, queries: Queries) -> Predictions:
        encoding_QE = self.text_encoder.encode(queries.prompt)
        chunks = [encoding_QE[start : start + CHUNK] for start in range(0, len(encoding_QE), CHUNK)]
        excess = [np.zeros((0, len(self.typical_C)))]
        for chunk_QE in chunks:
            weight_QN = self._neighbours(chunk_QE @ self.memory_NE.T)
            excess.append((weight_QN @ self.excess_NC) / (weight_QN @ self.known_NC + PRIOR_COUNT))
        return predictions_of(self.typical_C + np.concatenate(excess), self.cost_ref)

    def _neighbours(self, similarity_QN: np.ndarray) -> csr_matrix:
        """The weight of every train query in the mean of every query: 0 but for the k nearest."""
        k = min(self.k, similarity_QN.shape[1])
        nearest_QK = np.sort(np.argpartition(-similarity_QN, k - 1, axis=1)[:, :k], axis=1)
        weight_QK = np.ones(nearest_QK.shape)
        if self.weights == "similarity":
            weight_QK = np.maximum(np.take_along_axis(similarity_QN, nearest_QK, axis=1), 0.0)
        starts = np.arange(len(similarity_QN) + 1) * k
        return csr_matrix((weight_QK.ravel(), nearest_QK.ravel(), starts), shape=similarity_QN.shape)

    def save(self, folder: Path) -> None:
        self.text_encoder.save(folder)
        np.savez(
            folder / "knn.npz",
            memory_NE=self.memory_NE,
            known_NC=self.known_NC,
            excess_NC=self.excess_NC,
            typical_C=self.typical_C,
            cost_ref=self.cost_ref,
        )

    def load(self, folder: Path) -> None:
        self.text_encoder = load_encoder(folder)
        with np.load(folder / "knn.npz", allow_pickle=False) as arrays:
            self.memory_NE, self.known_NC, self.excess_NC = (
                arrays[name] for name in ("memory_NE", "known_NC", "excess_NC")
            )
            self.typical_C, self.cost_ref = arrays["typical_C"], float(arrays["cost_ref"])
