"""The cheapest arm, whatever is asked: what little money buys."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from recal_bench.errors import OutcomesError
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.saving import Saved


@router("cheapest")
@dataclass
class Cheapest(Saved):
    """The available arm of the lowest mean train cost; needs outcomes with a cost."""

    # Nothing to keep: the mean train costs come with the calls.
    LEARNT = ()
    deterministic: ClassVar[bool] = True

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        if np.isnan(train.outcomes.cost_QA).all():
            raise OutcomesError("router cheapest is n/a: the outcomes hold no cost; add cost_usd, or leave it out")

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        # An arm of unknown cost comes last: unknown is not free.
        value_A = -np.nan_to_num(calls.mean_cost_A, nan=np.finfo(np.float64).max)
        return calls.choose(np.tile(value_A, (len(queries.prompt), 1)))
