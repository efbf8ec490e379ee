"""A learned score beside the verifiable one: what the teacher predicts of each arm that a trajectory calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recal_bench.arrays import FloatQA
from recal_bench.calibration.components import Component
from recal_bench.calibration.process import clip_scores, n_step_returns, score_deltas

LEARNED = Component("learned", lambda drawn: drawn.column_QG["learned"], ("learned",), 1.0)
"""The component that a trajectory's learned rewards add up to. What it reads is no column of the outcomes."""


@dataclass(frozen=True)
class Learned:
    """The learned reward of a trajectory: its rounds' scores, refined, and added up.

    The mechanisms are those of `calibration.process`. Ours is what they are applied to: the papers score steps of
    reasoning by a process reward model; here a step is a call, and its score what the teacher expects of the called
    arm. With `td` the scores are first replaced by their n-step TD targets, n = `td`, where a round is rewarded with 0
    and the last one with its outcome (TDRM trains a reward model towards such targets; there is none to train here).
    """

    kind: Literal["clip", "delta"]
    threshold: float
    td: int
    score_QA: FloatQA

    def __call__(self, row: int, calls: Sequence[int], outcome: float) -> float:
        """Of calls on a train query, the last of which scored `outcome`; 0 without any."""
        if not calls:
            return 0.0
        score_T = self.score_QA[row, list(calls)]
        if self.td:
            reward_T = np.zeros(len(calls))
            reward_T[-1] = outcome
            score_T = n_step_returns(reward_T, score_T, self.td)
        refined_T = clip_scores(score_T, self.threshold) if self.kind == "clip" else score_deltas(score_T)
        return float(refined_T.sum())
