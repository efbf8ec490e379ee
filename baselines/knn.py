"""k nearest neighbours: an arm is worth on a query what it was worth on the most similar train queries.

As a baseline for routing: Hu et al., "RouterBench" (arXiv 2403.12031). "Rethinking Predictive Modeling for LLM Routing:
When Simple kNN Beats Complex Learned Routers" (arXiv 2505.12601) finds it hard to beat. The search is exact, in blocks;
`search=approximate` is for a train split of hundreds of thousands, and its recall is kept in the run record.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.nearest import Nearest, most_similar, spread
from recal_bench.routers import Context, Predictions, Queries, Train, router
from recal_bench.toolbox.approximate import JUDGED_BY, Cells, recall
from recal_bench.toolbox.neighbours import chunks, mean_excess, neighbour_weights
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.sharing import on_threads
from recal_bench.toolbox.targets import in_fixed_order, predictions_of, targets_of


@router("knn")
@dataclass
class Knn(Saved):
    """The mean score and cost of each arm over the k most similar train queries (cosine similarity)."""

    LEARNT = ("text_encoder", "memory_NE", "known_NC", "excess_NC", "typical_C", "cost_ref")
    deterministic: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "k": (10, 30, 100, 200, 300),
        "weights": ("uniform", "similarity"),
        "encoder": installed_encoders(),
    }

    k: Annotated[int, Field(ge=1)] = 200
    weights: Literal["uniform", "similarity"] = "similarity"
    encoder: str = "tfidf"
    search: Literal["exact", "approximate"] = "exact"
    neighbour_recall: float | None = field(default=None, init=False)

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        train = in_fixed_order(train)
        targets = targets_of(train)
        self.text_encoder = fit_encoder(self.encoder, train.queries.prompt, train.queries.features)
        self.memory_NE = self.text_encoder.encode(train.queries.prompt, train.queries.features)
        self.known_NC, self.excess_NC = targets.known_QC, targets.excess_QC
        self.typical_C, self.cost_ref = targets.typical_C, targets.cost_ref
        if self.search == "approximate":
            self._cells = Cells(self.memory_NE)
            judged = validation.queries.take(spread(np.arange(len(validation.queries.prompt)), JUDGED_BY))
            judged_QE = self.text_encoder.encode(judged.prompt, judged.features)
            self.neighbour_recall = recall(self._cells, judged_QE, self.memory_NE, self.k)

    def predict(self, queries: Queries) -> Predictions:
        encoding_QE = self.text_encoder.encode(queries.prompt, queries.features)
        search = self._search()

        def excess(rows: slice) -> np.ndarray:
            found = search(encoding_QE[rows])
            weight_QK = neighbour_weights(found.similarity_QK, self.weights)
            return mean_excess(found.row_QK, weight_QK, self.excess_NC, self.known_NC)

        none = np.zeros((0, len(self.typical_C)))
        excess_QC = np.concatenate([none, *on_threads(excess, chunks(len(encoding_QE)))])
        return predictions_of(self.typical_C + excess_QC, self.cost_ref)

    def _search(self) -> Callable[[np.ndarray], Nearest]:
        if self.search == "exact":
            return partial(most_similar, memory_NE=self.memory_NE, k=self.k)
        return partial(self._cells.most_similar, k=self.k)

    @cached_property
    def _cells(self) -> Cells:
        return Cells(self.memory_NE)
