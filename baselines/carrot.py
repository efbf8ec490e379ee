"""CARROT: one regressor of the scores, another of the costs, and the arm that is best by what they say.

Somerstep, Maia Polo, de Oliveira, Mangal, Silva, Bhardwaj, Yurochkin, Maity, "CARROT: A Cost Aware Rate Optimal Router"
(arXiv 2502.03261). Its point is the plug-in rule: estimate score and cost of every arm apart from each other, and only
then trade one for the other, at any price; it is shown that this can be minimax optimal. That rule is the harness's own
(predict, then choose by utility). What is left of CARROT is that both regressors are tuned apart: scores and costs have
each a number of neighbours of their own, found on train.

Simplified: the version on nearest neighbours only; the other one fine-tunes RoBERTa. Its authors' code tunes by
cross-validation in five folds, over the powers of two from 2 to 512, by the R2 averaged over arms, on uniform weights
and cosine similarity. The same here, but leaving one out, on at most 2,000 queries: that needs no random folds. New are
one neighbour of typical values (what decides where few neighbours know an arm), and costs predicted as such: the code
predicts tokens, and multiplies by a price, where it knows them.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.nearest import most_similar
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.toolbox.neighbours import CHUNK, chunks, mean_excess, neighbour_weights
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.sharing import on_threads
from recal_bench.toolbox.targets import in_fixed_order, predictions_of, targets_of

TUNED_ON = 2_000
"""Train queries that a number of neighbours is judged by."""


@router("carrot")
@dataclass
class Carrot(Saved):
    """Nearest neighbours for the scores and, apart from them, for the costs; each number of neighbours is tuned."""

    LEARNT = ("text_encoder", "memory_NE", "known_NC", "excess_NC", "typical_C", "is_cost_C", "neighbours", "cost_ref")
    deterministic: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "most_neighbours": (64, 128, 256, 512, 1024),
        "weights": ("uniform", "similarity"),
        "encoder": installed_encoders(),
    }

    most_neighbours: Annotated[int, Field(ge=2)] = 512
    weights: Literal["uniform", "similarity"] = "uniform"
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        train = in_fixed_order(train)
        targets = targets_of(train)
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt)
        self.memory_NE = self.text_encoder.encode(train.queries.prompt)
        self.known_NC, self.excess_NC = targets.known_QC, targets.excess_QC
        self.typical_C, self.cost_ref = targets.typical_C, targets.cost_ref
        n_arms = len(train.outcomes.arms)
        self.is_cost_C = np.arange(len(self.typical_C)) >= n_arms
        self.neighbours = self._tuned(train.queries.prompt)

    def _tuned(self, prompts: tuple[str, ...]) -> list[int]:
        """How many neighbours predict the scores best, and how many the costs, of train queries left out."""
        n = len(prompts)
        rows = np.unique(np.linspace(0, n - 1, min(n, TUNED_ON)).astype(np.int64))
        # No prompt of another split is in train: a query's twins would tell what no neighbour of a new query can.
        prompt_N = np.unique(np.array(prompts, dtype=object), return_inverse=True)[1]
        grid = [k for k in (2**power for power in range(1, 31)) if k <= self.most_neighbours and k < n] or [1]
        error_KC = np.zeros((len(grid), len(self.typical_C)))
        for chunk in np.array_split(rows, -(-len(rows) // CHUNK)):
            groups = prompt_N[chunk], prompt_N
            nearest_QK, weight_QK = self._nearest(self.memory_NE[chunk], grid[-1], groups)
            for number, k in enumerate(grid):
                left_QC = self._excess(nearest_QK[:, :k], weight_QK[:, :k]) - self.excess_NC[chunk]
                error_KC[number] += np.where(self.known_NC[chunk], left_QC**2, 0.0).sum(axis=0)
        spread_C = (self.excess_NC[rows] ** 2).sum(axis=0)
        error_KC /= np.where(spread_C > 1e-12, spread_C, np.inf)
        errors = [error_KC[:, self.is_cost_C == is_cost].mean(axis=1) for is_cost in np.unique(self.is_cost_C)]
        # What differs in the last digits is a tie, and a tie goes to more neighbours: they vary less.
        return [grid[len(grid) - 1 - int(np.argmin(np.round(error_K, 12)[::-1]))] for error_K in errors]

    def predict(self, queries: Queries) -> Predictions:
        encoding_QE = self.text_encoder.encode(queries.prompt)
        value_QC = np.tile(self.typical_C, (len(encoding_QE), 1))

        def add_excess(rows: slice) -> None:
            nearest_QK, weight_QK = self._nearest(encoding_QE[rows], max(self.neighbours))
            for is_cost, k in enumerate(self.neighbours):
                excess_QC = self._excess(nearest_QK[:, :k], weight_QK[:, :k])
                value_QC[rows] += np.where(self.is_cost_C == is_cost, excess_QC, 0.0)

        on_threads(add_excess, chunks(len(encoding_QE)))
        return predictions_of(value_QC, self.cost_ref)

    def _nearest(
        self, encoding_QE: np.ndarray, k: int, groups: tuple[np.ndarray, np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k most similar train queries, the most similar first, and their weights: 0 for those ruled out."""
        found = most_similar(encoding_QE, self.memory_NE, k, groups)
        order_QK = np.argsort(-found.similarity_QK, axis=1, kind="stable")
        nearest_QK = np.take_along_axis(found.row_QK, order_QK, axis=1)
        similarity_QK = np.take_along_axis(found.similarity_QK, order_QK, axis=1).astype(np.float64)
        return nearest_QK, neighbour_weights(similarity_QK, self.weights)

    def _excess(self, nearest_QK: np.ndarray, weight_QK: np.ndarray) -> np.ndarray:
        return mean_excess(nearest_QK, weight_QK, self.excess_NC, self.known_NC)
