"""What an estimator is given, and what it remembers between steps."""

from __future__ import annotations

from typing import Any, NamedTuple

from recal_bench.calibration.running import Running

DECAY = 0.95


class Batch(NamedTuple):
    """The rewards of one step.

    reward_QGK  component rewards; NaN where a component is missing
    weight_K    what a unit of each component is worth: `[K]`, or `[Q, 1, K]` where it differs between queries
    outcome_QG  the score that the query's uncertainty is judged by
    share_QG    how much of the query each rollout stands for: 1 / G where rollouts are drawn, the action's probability
                where the group holds every action
    dataset_Q   integers 0 .. D-1
    valid_QG    False for a rollout that does not count
    """

    reward_QGK: Any
    weight_K: Any
    outcome_QG: Any
    share_QG: Any
    dataset_Q: Any
    valid_QG: Any


class CalibrationState(NamedTuple):
    """Running spread of each component, mean outcome spread, and of each dataset the scale of its advantages and the
    mean and mean square of its summed rewards."""

    spread_K: Running
    outcome_spread_1: Running
    scale_D: Running
    reward_D: Running
    square_D: Running

    @classmethod
    def empty(cls, like_K: Any, like_D: Any) -> CalibrationState:
        """A state that has seen nothing, for K components and D datasets."""
        return cls(Running.empty(like_K), Running.empty(like_K[:1]), *(Running.empty(like_D) for _ in range(3)))

    def pack(self) -> dict[str, dict[str, Any]]:
        """Plain nested dictionaries of arrays, for a checkpoint."""
        return {name: running._asdict() for name, running in self._asdict().items()}

    @classmethod
    def unpack(cls, packed: dict[str, dict[str, Any]]) -> CalibrationState:
        return cls(**{name: Running(**fields) for name, fields in packed.items()})
