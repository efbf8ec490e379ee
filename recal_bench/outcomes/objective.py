"""Utility: what a run optimises and is judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recal_bench.arrays import FloatA, FloatQ, FloatQA
from recal_bench.defaults import DEFAULT_ALPHA
from recal_bench.errors import OutcomesError

MOST_ALPHA = 1e6
"""Beyond it a score is lost in the rounding of a utility: single precision has seven digits."""


def mean_over_observed(value_QA: FloatQA, propensity_Q: FloatQ | None = None) -> FloatA:
    """Mean of each column over its known entries; NaN for a column without any. `[Q, A]` to `[A]`.

    With propensities (of a log of single choices), entries weigh 1 / propensity: what the mean over all rows would be.
    """
    known_QA = ~np.isnan(value_QA)
    weight_QA = known_QA / (1.0 if propensity_Q is None else propensity_Q[:, None])
    total_A, weight_A = (np.where(known_QA, value_QA, 0.0) * weight_QA).sum(axis=0), weight_QA.sum(axis=0)
    return np.where(weight_A > 0, total_A / np.where(weight_A > 0, weight_A, 1.0), np.nan)


@dataclass(frozen=True)
class Objective:
    """`utility = score - alpha * cost / cost_ref`, where the cost holds what is charged for latency (see `charged`).

    `cost_ref` (USD per query) is the mean train cost of the most expensive arm. It is None where the outcomes hold no
    cost, or hold it only in part (`unknown_costs` outcomes lack it): then routers optimise the score, and where the
    cost is partly missing no utility is reported, since an unknown cost is not a cost of zero. `latency_price` is what
    a second of latency takes from the utility.
    """

    alpha: float = DEFAULT_ALPHA
    cost_ref: float | None = None
    unknown_costs: int = 0
    latency_price: float = 0.0

    @classmethod
    def from_train(
        cls, score_QA: FloatQA, cost_QA: FloatQA, alpha: float = DEFAULT_ALPHA, propensity_Q: FloatQ | None = None
    ) -> Objective:
        """Fix the reference cost on the train outcomes (NaN: no outcome, or no known cost)."""
        if not np.isfinite(alpha) or alpha < 0:
            raise OutcomesError(f"alpha is {alpha}: give a finite number >= 0 (0.2 is the default; 0 ignores the cost)")
        if alpha > MOST_ALPHA:
            raise OutcomesError(
                f"alpha is {alpha:g}: give at most {MOST_ALPHA:g}, at which no score is worth any cost already"
            )
        has_outcome_QA = ~np.isnan(score_QA)
        unknown = int((has_outcome_QA & np.isnan(cost_QA)).sum())
        if unknown == int(has_outcome_QA.sum()):
            return cls(alpha, None, 0)
        if unknown:
            return cls(alpha, None, unknown)
        cost_ref = float(np.nanmax(mean_over_observed(cost_QA, propensity_Q)))
        return cls(alpha, cost_ref if cost_ref > 0 else None, 0)

    @property
    def has_cost(self) -> bool:
        return self.cost_ref is not None

    @property
    def reportable(self) -> bool:
        """Whether a utility may be reported: no outcome has an unknown cost, or none has a cost at all."""
        return self.unknown_costs == 0

    def charged(self, cost: FloatQA, latency: FloatQA | None) -> FloatQA:
        """Costs (USD) with what their latencies (seconds) are charged: `latency_price` turned into USD by alpha.

        What a router learns of costs, and so each of its trade-offs, then holds the latency. NaN where either is.
        """
        if not self.latency_price:
            return cost
        assert latency is not None
        assert self.cost_ref is not None
        return cost + self.latency_price * self.cost_ref / self.alpha * latency

    def utility(self, score: FloatQA, cost: FloatQA) -> FloatQA:
        """Utility of outcomes, in score units; any shape; NaN where the score is."""
        if self.cost_ref is None:
            return score
        return score - self.alpha * cost / self.cost_ref
