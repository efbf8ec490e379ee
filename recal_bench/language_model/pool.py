"""What the arms gave on the queries of one split, as the policy's calls find it: scores, costs, answers, a bill.

`LoggedPool` replays a log. `live.LivePool` has the same four functions (`answers`, `results`, `chosen`, `fallback`) and
asks the arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recal_bench.arrays import BoolN, BoolQA, FloatN, FloatQA, IntQ
from recal_bench.calibration import Drawn
from recal_bench.calibration.rewards import Reward
from recal_bench.outcomes import Arm
from recal_bench.routers import Train
from recal_bench.training.examples import cost_units

if TYPE_CHECKING:
    from recal_bench.language_model.rollouts import Rollout


class Call(NamedTuple):
    """A route of a trajectory: the row of its question, the arm, and what is asked (None: the question itself)."""

    row: int
    arm: int
    query: str | None


class Results(NamedTuple):
    """What trajectories are worth, `[N]`: the score of the answer that stands, and the bill (in units of `cost_ref`).

    `known_N` is False where nobody knows what an answer is worth.
    """

    score_N: FloatN
    cost_N: FloatN
    known_N: BoolN


@dataclass
class LoggedPool:
    """A split's outcomes, with costs in units of `cost_ref` (0 where the outcomes hold none).

    `score_QA` and `cost_QA` are what a call is rewarded with; 0 where an arm has no outcome. `fallback_A` are the arms,
    the best first: who answers where a reply names none that may be called.
    """

    arms: tuple[Arm, ...]
    score_QA: FloatQA
    cost_QA: FloatQA
    available_QA: BoolQA
    dataset_Q: IntQ
    fallback_A: IntQ
    response_QA: NDArray[Any] | None = None

    @classmethod
    def of(cls, split: Train, fallback_A: IntQ, expected: tuple[FloatQA, FloatQA] | None, trust: float) -> LoggedPool:
        """A split's outcomes; with what was `expected` of each (score, cost), `trust` times the outcome and the rest
        of that, as in `training.examples.shrunk`."""
        outcomes = split.outcomes
        values = [outcomes.score_QA, cost_units(split)]
        if expected is not None:
            values = [trust * value + (1 - trust) * guess for value, guess in zip(values, expected, strict=True)]
        score_QA, cost_QA = (np.where(outcomes.observed_QA, value_QA, 0.0) for value_QA in values)
        dataset_Q = np.unique(outcomes.task_Q.astype(str), return_inverse=True)[1]
        return cls(
            tuple(outcomes.arms), score_QA, cost_QA, outcomes.observed_QA, dataset_Q, fallback_A, outcomes.response_QA
        )

    def fallback(self, row: int) -> int:
        """The best arm on train that has an outcome for a query."""
        return int(next(arm for arm in self.fallback_A if self.available_QA[row, arm]))

    def chosen(self, rollout: Rollout) -> int:
        """The arm whose answer stands: the one that was called last, or the fallback of a malformed trajectory."""
        arm = rollout.calls[-1] if rollout.well_formed else -1
        return arm if arm >= 0 and self.available_QA[rollout.row, arm] else self.fallback(rollout.row)

    def answers(self, calls: Sequence[Call]) -> list[str | None]:
        """What the arms answered to the questions, whatever is asked; None where an arm has no outcome, or the
        outcomes hold no answers."""
        return [self._answer(row, arm) for row, arm, _ in calls]

    def _answer(self, row: int, arm: int) -> str | None:
        if self.response_QA is None or not self.available_QA[row, arm]:
            return None
        text = self.response_QA[row, arm]
        return None if text is None else str(text)

    def results(self, rollouts: Sequence[Rollout], settled: bool = False) -> Results:
        """The score of each one's last arm, and what all its calls cost, each arm once: another call of it would find
        the same answer. With `settled` a malformed trajectory is answered, and paid for, as `chosen` says."""
        row_N = np.array([each.row for each in rollouts])
        last_N = [each.calls[-1] if each.calls else 0 for each in rollouts]
        arm_N = np.array([self.chosen(each) for each in rollouts] if settled else last_N)
        paid = [{*each.calls, *([arm] if settled else [])} for each, arm in zip(rollouts, arm_N, strict=True)]
        cost_N = [float(sum(self.cost_QA[row, arm] for arm in arms)) for row, arms in zip(row_N, paid, strict=True)]
        return Results(self.score_QA[row_N, arm_N], np.array(cost_N), self.available_QA[row_N, arm_N])


def component_rewards(
    reward: Reward,
    results: Results,
    well_formed_N: BoolN,
    buffer: Any,
    column_N: Mapping[str, NDArray[Any]] = MappingProxyType({}),
) -> tuple[torch.Tensor, Any]:
    """Component rewards of replies, `[N, K]`, and the reward's buffer with them in it.

    `column_N` is what else the reward reads, by its name. NaN, all of them, where a reply is well-formed and nobody
    knows what it is worth.
    """
    score_N, cost_N = torch.tensor(np.stack(results[:2]), dtype=torch.float32)
    drawn = Drawn(
        well_formed_QG=torch.tensor(well_formed_N)[None, None],
        score_QG=score_N[None, None],
        cost_QG=cost_N[None, None],
        column_QG={name: torch.tensor(value_N, dtype=torch.float32)[None, None] for name, value_N in column_N.items()},
    )
    reward_SQGK, buffers = reward(drawn, [buffer])
    unknown_N = torch.tensor(well_formed_N & ~results.known_N)
    return torch.where(unknown_N[:, None], torch.nan, reward_SQGK[0, 0]), buffers[0]
