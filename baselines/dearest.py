"""The dearest arm, whatever is asked: "just use the biggest model"."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from recal_bench.errors import OutcomesError
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.saving import Saved


@router("dearest")
@dataclass
class Dearest(Saved):
    """The available arm of the highest mean train cost; needs outcomes with a cost."""

    # Nothing to keep: the mean train costs come with the calls.
    LEARNT = ()
    deterministic: ClassVar[bool] = True

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        if np.isnan(train.outcomes.cost_QA).all():
            raise OutcomesError("router dearest is n/a: the outcomes hold no cost; add cost_usd, or leave it out")

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        # An arm of unknown cost comes last: nobody can say that it is the dearest.
        value_A = np.nan_to_num(calls.mean_cost_A, nan=-1.0)
        return calls.choose(np.tile(value_A, (len(queries.prompt), 1)))
