"""What the arms gave on the queries of one split, as the policy's calls find it: scores, costs, answers, a bill."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from recal_bench.arrays import BoolQA, FloatQA, IntQ
from recal_bench.calibration import Drawn
from recal_bench.calibration.rewards import Reward
from recal_bench.outcomes import Arm
from recal_bench.routers import Train
from recal_bench.training.examples import cost_units

if TYPE_CHECKING:
    from recal_bench.language_model.rollouts import Rollout


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

    def answer(self, row: int, arm: int) -> str | None:
        """What an arm answered to a query; None where it has no outcome, or the outcomes hold no answers."""
        if self.response_QA is None or not self.available_QA[row, arm]:
            return None
        text = self.response_QA[row, arm]
        return None if text is None else str(text)

    def cost(self, row: int, calls: Iterable[int]) -> float:
        """What calls cost, each arm once: another call of it would find the same answer."""
        return float(sum(self.cost_QA[row, arm] for arm in set(calls)))

    def rewards(
        self,
        reward: Reward,
        rows: IntQ,
        arm_N: IntQ,
        well_formed_N: BoolQA,
        cost_N: Sequence[float],
        buffer: Any,
        column_N: Mapping[str, NDArray[Any]] = MappingProxyType({}),
    ) -> tuple[torch.Tensor, Any]:
        """Component rewards of replies, `[N, K]`: the score of each one's last arm, and what all its calls cost.

        `column_N` is what else the reward reads, by its name.

        NaN, all of them, where a well-formed reply names an arm without an outcome: nobody knows what it is worth.
        """
        given_2N = np.stack([self.score_QA[rows, arm_N], np.asarray(cost_N)])
        score_N, used_N = torch.tensor(given_2N, dtype=torch.float32)
        drawn = Drawn(
            well_formed_QG=torch.tensor(well_formed_N)[None, None],
            score_QG=score_N[None, None],
            cost_QG=used_N[None, None],
            column_QG={
                name: torch.tensor(value_N, dtype=torch.float32)[None, None] for name, value_N in column_N.items()
            },
        )
        reward_SQGK, buffers = reward(drawn, [buffer])
        reward_NK = reward_SQGK[0, 0]
        unknown_N = torch.tensor(well_formed_N & ~self.available_QA[rows, arm_N])
        return torch.where(unknown_N[:, None], torch.nan, reward_NK), buffers[0]
