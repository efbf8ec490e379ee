"""What an estimator is given."""

from __future__ import annotations

from typing import Any, NamedTuple

from recal_bench.calibration.moments import weighted_sum

DECAY = 0.95


class Batch(NamedTuple):
    """The rewards of one step.

    reward_QGK    component rewards; NaN where a component is missing (what is not finite counts as missing)
    weight_K      what a unit of each component is worth: `[K]`, or `[Q, 1, K]` where it differs between queries
    is_outcome_K  True for the component that the query's uncertainty is about
    outcome_QG    the score that the query's uncertainty is judged by
    share_QG      how much of the query each rollout is worth: 1 / G where rollouts are drawn, the action's probability
                  where the group holds every action
    dataset_Q     integers 0 .. D-1
    valid_QG      False for a rollout that does not count
    """

    reward_QGK: Any
    weight_K: Any
    is_outcome_K: Any
    outcome_QG: Any
    share_QG: Any
    dataset_Q: Any
    valid_QG: Any

    @property
    def total_QG(self) -> Any:
        """The summed reward; NaN where a component is missing."""
        return weighted_sum(self.reward_QGK, self.weight_K)
