"""What is said of a training: findings, and the numbers that several failure modes need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from recal_bench.evaluation.stability import Curve, at_end, at_start

LogColumns: TypeAlias = Mapping[str, Curve]

# Differences of validation utility below this are the luck of some hundred validation queries.
NOISE = 0.02
# Advice: one scale for the components of all tasks, or no division by a group's spread.
ONE_SCALE, NO_SPREAD = "estimator=recal", "estimator=dr-grpo"


class Finding(NamedTuple):
    """A failure mode: its name, one line of numbers, and what to change."""

    name: str
    evidence: str
    change: str


def ends(columns: LogColumns) -> tuple[float, float]:
    """The peak of validation utility, and where it ended."""
    utility_N = columns["validation_utility"].value_N
    return float(utility_N.max()), float(utility_N[-1])


def single(columns: LogColumns) -> float:
    """Validation utility of the best single arm; below everything where the log does not tell it."""
    curve = columns.get("validation_best_single")
    return -np.inf if curve is None else float(curve.value_N[-1])


def best_single(columns: LogColumns) -> str:
    level = single(columns)
    return f" (best-single {level:.3f})" if np.isfinite(level) else ""


def rate(columns: LogColumns, factor: float) -> str:
    """The first learning rate, changed by a factor, as a wish."""
    return f"learning_rate={columns['learning_rate'].value_N[0] * factor:.2g}"


def drawn_score(columns: LogColumns) -> tuple[float, float]:
    """Mean score of the drawn well-formed actions at the start and at the end; 0 where none was well-formed."""
    right, formed = columns["component_mean/outcome"], columns["component_mean/format"]
    pairs = ((edge(right), edge(formed)) for edge in (at_start, at_end))
    start, end = (score / share if share > 0 else 0.0 for score, share in pairs)
    return start, end
