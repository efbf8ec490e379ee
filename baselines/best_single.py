"""The one arm that is best over all tasks: what a router must beat to be worth its trouble."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import typical_values


@router("best-single")
@dataclass
class BestSingle(Saved):
    """The arm of the highest macro utility on train, or the next best one where that is not available.

    Where outcomes are missing, arms are compared by task-adjusted effects, never by means over different queries.
    """

    LEARNT = ("utility_A",)
    deterministic: ClassVar[bool] = True

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        utility_A = typical_values(train.utility_QA, train.outcomes, worst=np.min)
        # What differs in the last digits is a tie, and a tie goes to the cheaper arm.
        self.utility_A = np.round(utility_A, 12)

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        return calls.choose(np.tile(self.utility_A, (len(queries.prompt), 1)))
