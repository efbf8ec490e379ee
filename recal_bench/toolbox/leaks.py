"""Do choices follow outcomes more closely than a router could, which reads the text alone?

Given the text, what a router chooses and what luck makes of the outcomes are independent. So what the text does not
tell of the choices and what it does not tell of the outcomes must not go together: the generalised covariance measure
(Shah and Peters, Annals of Statistics 48, 2020), in units of utility. Q queries, A arms, E the encoding, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from recal_bench.arrays import FloatQ, FloatQA, StrQ
from recal_bench.evaluation.statistics import Interval, crossed_interval
from recal_bench.outcomes import Arm
from recal_bench.toolbox.contrasts import contrasts
from recal_bench.toolbox.penalties import left_out_ridge

FOLLOWS_P = 1e-3
"""Below it, choices count as following the outcomes of test."""
_TINY = 1e-12


class LeakAudit(BaseModel):
    """How closely decisions from elsewhere follow the outcomes of test, all their seeds together.

    `gain` is the utility that the choices hold beyond what the text tells us, with its 95% interval, `p` that of the
    one-sided test that it is nothing. `over_task` is what the choices gain over each task's best arm of test in
    hindsight, with its interval, `ceiling` the upper end of what the best router could; null where the choices do not
    follow the outcomes, and where it cannot be estimated.
    """

    model_config = ConfigDict(frozen=True)

    gain: float
    gain_ci: tuple[float, float]
    p: float
    queries: int
    over_task: float | None = None
    over_task_ci: tuple[float, float] | None = None
    ceiling: float | None = None

    @property
    def follows(self) -> bool:
        """Whether the choices hold more about the outcomes than the text tells us."""
        return self.p < FOLLOWS_P

    @property
    def beyond_ceiling(self) -> bool:
        """Whether they also gain more than the best router that reads the text could."""
        if not self.follows or self.over_task_ci is None or self.ceiling is None:
            return False
        return self.over_task_ci[0] > self.ceiling


def hidden_gain(
    utility_QA: FloatQA,
    predicted_QA: FloatQA,
    chosen_QA: FloatQA,
    embedding_QE: NDArray[np.floating],
    task_Q: StrQ,
    prompt_Q: Sequence[str],
    arms: Sequence[Arm],
) -> Interval:
    """What the choices gain, in utility, beyond what the text tells of them and of the outcomes; 0 on average where
    they are independent given the text. Macro over tasks, with its interval.

    `utility_QA` is NaN where an arm has no outcome, `predicted_QA` what a model that has not seen them expects,
    `chosen_QA` the share of seeds that chose an arm. Both sides are cleared of the task's mean and of a ridge
    regression on the encoding and the prediction, each query left out. Queries of one prompt count as one.
    """
    known_QA = ~np.isnan(utility_QA)
    residual_QA = np.where(known_QA, utility_QA - predicted_QA, 0.0)
    level_Q1 = residual_QA.sum(axis=1, keepdims=True) / np.maximum(known_QA.sum(axis=1, keepdims=True), 1)
    residual_QA = np.where(known_QA, residual_QA - level_Q1, 0.0)
    number_Q = np.unique(task_Q.astype(str), return_inverse=True)[1]
    basis = contrasts(arms)
    embedding_QE = _centred(embedding_QE.astype(np.float64), number_Q)
    expected_QA = _centred(predicted_QA - predicted_QA.mean(axis=1, keepdims=True), number_Q)
    expected_QA /= np.sqrt((expected_QA**2).mean()) + _TINY
    # What a router would choose that expects the same is no linear function of it.
    likely_QA = _centred((predicted_QA == predicted_QA.max(axis=1, keepdims=True)).astype(np.float64), number_Q)
    input_QE = np.hstack([embedding_QE, expected_QA, likely_QA])
    outcome_QC = _unexplained(input_QE, residual_QA @ basis.basis_AC, number_Q, basis.kind_C)
    choice_QC = _unexplained(input_QE, chosen_QA @ basis.basis_AC, number_Q, np.zeros_like(basis.kind_C))
    gain_Q = (outcome_QC * choice_QC).sum(axis=1)
    return _over_prompts(gain_Q, number_Q, prompt_Q)


def _centred(value_QX: FloatQA, number_Q: NDArray[np.int64]) -> FloatQA:
    """Less the mean of the task."""
    count_T = np.bincount(number_Q).astype(np.float64)
    total_TX = np.zeros((len(count_T), value_QX.shape[1]))
    np.add.at(total_TX, number_Q, value_QX)
    return np.asarray(value_QX - (total_TX / count_T[:, None])[number_Q])


def _unexplained(
    input_QE: FloatQA, value_QX: FloatQA, number_Q: NDArray[np.int64], kind_X: NDArray[np.int64]
) -> FloatQA:
    """What neither the mean of the task's other queries nor a left-out ridge regression tells."""
    count_Q1 = np.bincount(number_Q)[number_Q, None].astype(np.float64)
    # Of a query that is alone in its task nothing is left.
    left_QX = _centred(value_QX, number_Q) * np.where(count_Q1 > 1, count_Q1 / np.maximum(count_Q1 - 1, 1), 0.0)
    return left_QX - left_out_ridge(input_QE, left_QX, kind_X)[1]


def _over_prompts(gain_Q: FloatQ, number_Q: NDArray[np.int64], prompt_Q: Sequence[str]) -> Interval:
    keys = list(zip(number_Q.tolist(), prompt_Q, strict=True))
    place = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    of_Q = np.array([place[key] for key in keys])
    mean_P = np.bincount(of_Q, gain_Q) / np.bincount(of_Q)
    task_P = np.array([number for number, _ in place])
    return crossed_interval([mean_P[None]], task_P)


def over_each_task(utility_QA: FloatQA, chosen_QA: FloatQA, task_Q: StrQ) -> Interval:
    """What choices gain over the best arm of each task in hindsight, of the queries on which both are known."""
    number_Q = np.unique(task_Q.astype(str), return_inverse=True)[1]
    best_Q = np.zeros(len(task_Q), dtype=np.int64)
    for number in range(number_Q.max() + 1):
        rows = number_Q == number
        known_QA = ~np.isnan(utility_QA[rows])
        mean_A = np.nansum(utility_QA[rows], axis=0) / np.maximum(known_QA.sum(axis=0), 1)
        best_Q[rows] = np.argmax(np.where(known_QA.any(axis=0), mean_A, -np.inf))
    chosen_Q = np.where(chosen_QA > 0, chosen_QA * utility_QA, 0.0).sum(axis=1)
    gain_Q = chosen_Q - utility_QA[np.arange(len(best_Q)), best_Q]
    known_Q = ~np.isnan(gain_Q)
    return crossed_interval([gain_Q[known_Q][None]], number_Q[known_Q])
