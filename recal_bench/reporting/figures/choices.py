"""What routers chose on a log of single choices, and the values that estimates are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recal_bench.arrays import BoolQ, FloatQ, FloatSQ, IntQ, IntSQ, StrQ
from recal_bench.evaluation.offpolicy import Log, Overlap, overlap, row_values
from recal_bench.experiments.records import Data
from recal_bench.reporting.figures.entries import Entry, Logged


@dataclass(frozen=True)
class Choices:
    """What one router chose on some queries of a log, S seeds. Arms are indices; costs are in USD.

    A seed has a log of its own: where several arms of a query were asked, the outcome of the chosen one is known, as if
    it had been logged for certain. `reward` is the utility, or the score where no utility is reported, and `own_SQ`
    what the router itself costs in its unit: that is paid whichever arm was logged.
    """

    arm_SQ: IntSQ
    logged_arm_SQ: IntSQ
    propensity_Q: FloatQ
    task_Q: IntQ
    reward_SQ: FloatSQ
    score_SQ: FloatSQ
    usd_SQ: FloatSQ
    expected_SQ: FloatSQ
    expected_logged_SQ: FloatSQ
    own_SQ: FloatSQ
    own_usd_SQ: FloatSQ

    def of(self, rows_Q: BoolQ) -> Choices:
        """The same on some of the queries."""
        return replace(self, **{name: value[..., rows_Q] for name, value in vars(self).items()})

    def micro(self) -> Choices:
        """The same as if all queries were one task."""
        return replace(self, task_Q=np.zeros_like(self.task_Q))

    def ips(self) -> FloatSQ:
        return np.stack([row_values(log, arm_Q) for log, arm_Q in self._seeds(self.reward_SQ)]) - self.own_SQ

    def snips(self) -> FloatSQ:
        return self._snips(self.reward_SQ) - self.own_SQ

    def dr(self, n_arms: int) -> FloatSQ:
        values, rows = [], np.arange(len(self.task_Q))
        for seed, (log, arm_Q) in enumerate(self._seeds(self.reward_SQ)):
            # Two arms of a row count: the logged one and the chosen one.
            expected_QA = np.zeros((len(rows), n_arms))
            expected_QA[rows, log.logged_arm_N] = self.expected_logged_SQ[seed]
            expected_QA[rows, arm_Q] = self.expected_SQ[seed]
            values.append(row_values(log, arm_Q, expected_QA))
        return np.stack(values) - self.own_SQ

    def score(self) -> FloatSQ:
        return self._snips(self.score_SQ)

    def usd_per_1k(self) -> FloatSQ | None:
        """None where a cost is unknown."""
        if np.isnan(self.usd_SQ).any():
            return None
        return 1000 * (self._snips(self.usd_SQ) + self.own_usd_SQ)

    def overlap(self, names_T: StrQ) -> list[Overlap]:
        """For each seed; the tasks have their names, for a refusal says which one it is about."""
        seeds = self._seeds(self.reward_SQ)
        return [overlap(log._replace(task_N=names_T[self.task_Q]), arm_Q) for log, arm_Q in seeds]

    def _snips(self, value_SQ: FloatSQ) -> FloatSQ:
        return np.stack([row_values(log, arm_Q, self_normalised=True) for log, arm_Q in self._seeds(value_SQ)])

    def _seeds(self, value_SQ: FloatSQ) -> list[tuple[Log, IntQ]]:
        return [
            (Log(value_Q, self.propensity_Q, logged_arm_Q, self.task_Q), arm_Q)
            for value_Q, logged_arm_Q, arm_Q in zip(value_SQ, self.logged_arm_SQ, self.arm_SQ, strict=True)
        ]


def choices_of(entry: Entry, logged: Logged, rows_Q: BoolQ, task_Q: IntQ, data: Data) -> Choices:
    """What an entry chose on the rows of a split, beside what was logged there."""
    index = {arm: number for number, arm in enumerate(data.arms)}
    several_Q = np.isnan(logged.propensity_Q)
    arm_SQ = np.array([[index[arm] for arm in of_seed] for of_seed in entry.arm_SQ[:, rows_Q]])
    logged_arm_Q = np.array(
        [-1 if several else index[arm] for arm, several in zip(logged.arm_Q, several_Q, strict=True)]
    )
    own_usd_SQ = entry.router_cost_SQ[:, rows_Q]
    own_SQ = own_usd_SQ * (0.0 if data.cost_ref is None else data.alpha / data.cost_ref)
    expected_SQ = entry.expected_SQ[:, rows_Q]

    def known(chosen_SQ: FloatSQ, logged_Q: FloatQ) -> FloatSQ:
        return np.where(several_Q, chosen_SQ, logged_Q)

    score_SQ, utility_SQ = entry.score_SQ[:, rows_Q], entry.utility_SQ[:, rows_Q] + own_SQ
    return Choices(
        arm_SQ=arm_SQ,
        logged_arm_SQ=np.where(several_Q, arm_SQ, logged_arm_Q),
        propensity_Q=np.where(several_Q, 1.0, logged.propensity_Q),
        task_Q=task_Q,
        reward_SQ=known(reward_of(score_SQ, utility_SQ, data), reward_of(logged.score_Q, logged.utility_Q, data)),
        score_SQ=known(score_SQ, logged.score_Q),
        usd_SQ=known(entry.cost_SQ[:, rows_Q], logged.cost_Q),
        expected_SQ=expected_SQ,
        expected_logged_SQ=known(expected_SQ, logged.expected_Q),
        own_SQ=own_SQ,
        own_usd_SQ=own_usd_SQ,
    )


def reward_of(score: FloatSQ, utility: FloatSQ, data: Data) -> FloatSQ:
    """What is estimated: the utility, or the score where no utility is reported."""
    return score if data.unknown_costs else utility
