"""Whether a constraint that a router met on validation holds where it is judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from recal_bench.evaluation.statistics import Interval
from recal_bench.experiments.points import BUDGET
from recal_bench.experiments.records import Run
from recal_bench.reporting.figures.differences import ci_of

Held = Literal["yes", "no", "not certain"]


class ConstraintFigures(BaseModel):
    """A constraint, and what became of it; USD per 1,000 queries for a `budget`, accuracy for `min-accuracy`.

    `alpha`, the price of cost that was chosen, and `on_validation` are means over seeds. `reached` is that of the
    split, with its 95% interval. It was `held` where the whole interval keeps to it, not held where none of it does.
    """

    kind: str
    target: float
    alpha: float
    on_validation: float
    reached: float
    reached_ci: tuple[float, float] | None
    held: Held


def constraint_figures(
    runs: Sequence[Run], paid: Interval, score: Interval, scale: tuple[float, float]
) -> ConstraintFigures | None:
    """The figures of a row on one split, of the intervals of its whole cost (USD per 1,000 queries) and its accuracy.

    None for a row without a constraint.
    """
    constraint = runs[0].record.configuration.constraint
    points = [run.record.on_validation for run in runs if run.record.on_validation is not None]
    if constraint is None or not points:
        return None
    by_cost = constraint.kind == BUDGET
    found, ends = (paid, (0.0, math.inf)) if by_cost else (score, scale)
    reached: NDArray[Any] = np.array([point.cost_usd_per_1k if by_cost else point.accuracy for point in points])
    return ConstraintFigures(
        kind=constraint.kind,
        target=constraint.target,
        alpha=float(np.mean([point.alpha for point in points])),
        on_validation=float(reached.mean()),
        reached=found.estimate,
        reached_ci=ci_of(found, ends),
        held=verdict(found, constraint.kind, constraint.target),
    )


def verdict(found: Interval, kind: str, target: float) -> Held:
    """Whether an interval keeps to a target. Of one that the data cannot tell (NaN) nothing is certain."""
    by_cost = kind == BUDGET
    if (found.high <= target) if by_cost else (found.low >= target):
        return "yes"
    if (found.low > target) if by_cost else (found.high < target):
        return "no"
    return "not certain"
