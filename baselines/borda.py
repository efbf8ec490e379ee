"""Borda count: arms ranked on every query, ranks added up; the arm of the highest sum answers everything.

De Borda, "Memoire sur les elections au scrutin" (1781); to rank systems over many tasks: Colombo, Noiry, Irurozki,
Clemencon, "What are the best systems? New perspectives on NLP benchmarking", NeurIPS 2022, arXiv 2202.03799. Queries
vote: each ranks its arms by utility, and an arm gets a point for every arm that it beats, half a point where they tie.

What differs: points are shares of the other arms present, so that queries with few outcomes compare with others, and
every task counts the same, as where routers are judged. Where outcomes are missing, arms are compared by task-adjusted
effects, as `best-single` compares them. A rank tells who is ahead, not by how much: costs would leave no ties, and the
smallest saving would gain as much as a right answer. So savings of no more than `margin` are a tie, half of what the
most expensive arm costs; that was chosen on validation of the embedded pool. `margin=0` is the original.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import PRIOR_COUNT, typical_values

TIE = 1e-9
"""Utilities that differ by less are equal: what is left is rounding."""


@router("borda")
@dataclass
class Borda(Saved):
    """Borda count over the train queries' rankings of the arms by utility; the arm of most points is chosen.

    Utilities tie that differ by no more than `margin` of what the most expensive arm costs.
    """

    LEARNT = ("points_A",)
    deterministic: ClassVar[bool] = True
    compares_arms: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {"margin": (0.0, 0.25, 0.5, 1.0)}

    margin: Annotated[float, Field(ge=0)] = 0.5

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        tie = TIE + (self.margin * train.objective.alpha if train.objective.has_cost else 0.0)
        points_QA = points(train.utility_QA, tie)
        points_A = typical_values(points_QA, train.outcomes, worst=np.min, prior_count=PRIOR_COUNT)
        # Nothing is known of an arm without any outcome on train: it comes last.
        points_A = points_A - ~train.outcomes.observed_QA.any(axis=0)
        # What differs in the last digits is a tie, and a tie goes to the cheaper arm.
        self.points_A = np.round(points_A, 9)

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        return calls.choose(np.tile(self.points_A, (len(queries.prompt), 1)))


def points(utility_QA: np.ndarray, tie: float) -> np.ndarray:
    """The share of the other arms that an arm beats on a query, a tie counting half; NaN where it has no outcome.

    An arm that is alone on a query gets 1/2: it neither beats nor is beaten.
    """
    beaten_QA = np.full(utility_QA.shape, -0.5)  # takes off the tie with itself
    others_Q1 = (~np.isnan(utility_QA)).sum(axis=1, keepdims=True) - 1
    for other_Q in utility_QA.T:
        lead_QA = utility_QA - other_Q[:, None]
        beaten_QA += (lead_QA > tie) + 0.5 * (np.abs(lead_QA) <= tie)
    shares_QA = np.where(others_Q1 > 0, beaten_QA / np.maximum(others_Q1, 1), 0.5)
    return np.where(np.isnan(utility_QA), np.nan, shares_QA)
