"""Can a router learn from such outcomes at all?"""

from __future__ import annotations

from recal_bench.errors import OutcomesError
from recal_bench.experiments.bench import Bench
from recal_bench.routers import FixedArm, Router, flags_of


def require_fit_for(bench: Bench, name: str, router: Router) -> None:
    """Raises OutcomesError where a router cannot learn from such outcomes, before any work goes into it."""
    flags = flags_of(router)
    if isinstance(router, FixedArm):
        router.require(bench.splits.train.arms)
    if bench.data.logged and flags.compares_arms:
        if not all(part.several_Q.any() for part in (bench.splits.train, bench.splits.validation)):
            raise OutcomesError(
                f"router {name} learns by comparing arms on the same query, and {bench.data.name} is a log of "
                "single choices: take one that learns from one outcome a query, e.g. ridge, mlp or linucb; or ask "
                "all arms of some queries"
            )
        if flags.reads_responses:
            raise OutcomesError(
                f"router {name} asks arms before it decides, and {bench.data.name} is a log of single choices, "
                "where most cannot answer: take one that decides by the query alone"
            )
    if bench.data.labels_per_query and flags.compares_arms and not bench.splits.train.several_Q.any():
        raise OutcomesError(
            f"router {name} learns by comparing arms on the same query, and --labels-per-query "
            f"{bench.data.labels_per_query} leaves one arm a query: give 2 or more, or take one that learns from "
            "one outcome a query, e.g. ridge, mlp or linucb"
        )
    if flags.reads_responses and not bench.responses:
        raise OutcomesError(f"router {name} reads what the arms answered: load_bench(..., responses=True)")
    if flags.reads_features and bench.splits.train.feature_Q is None:
        raise OutcomesError(f"router {name} reads features: load_bench(..., features=True)")
    absent = [column for column in flags.reads_columns if column not in bench.splits.train.column_QA]
    if absent:
        raise OutcomesError(f"router {name} reads {', '.join(absent)}: load_bench(..., columns={absent})")
