"""What linear bandits share: how they ask for outcomes, what they believe of the arms, and what they keep of it.

A bandit sees the outcome of one arm a query (`Train.feedback`). Which arm it asks is its own; the rest is here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from recal_bench.errors import OutcomesError
from recal_bench.routers import Predictions, Train
from recal_bench.toolbox.targets import NO_OUTCOME, name_order, predictions_of

LOG_LINES = 20
"""Lines of the training log: each sums up what was asked since the one before."""
NOTHING = 1e-9
"""Values that differ by less are rounding: they tie."""


class Asking:
    """The train queries one by one, in an order drawn by `rng`; of each, the outcome of one arm.

    Here the arms A are in the order of their names, so that no draw depends on how they are listed. Values V are the
    utility, the score and, where the objective has one, the cost in units of `cost_ref`. Raises OutcomesError where
    no arm has an outcome.
    """

    def __init__(self, train: Train, rng: np.random.Generator) -> None:
        assert train.feedback is not None
        arms = train.outcomes.arms
        self._feedback, self._rng, self._cost_ref = train.feedback, rng, train.objective.cost_ref
        self._order_A = name_order(arms)
        self.available_QA = train.feedback.available_QA[:, self._order_A]
        self.n_arms, self.n_values = len(arms), 2 if self._cost_ref is None else 3
        self.rows = [int(row) for row in rng.permutation(len(self.available_QA)) if self.available_QA[row].any()]
        self._asked_A = np.zeros(len(arms), dtype=bool)
        if not self.rows:
            raise OutcomesError(NO_OUTCOME)

    def highest(self, row: int, bound_A: np.ndarray) -> int:
        """The available arm of the highest value; one of them at random where several tie."""
        available_A = self.available_QA[row]
        return int(self._rng.choice(np.flatnonzero(available_A & (bound_A >= bound_A[available_A].max() - NOTHING))))

    def ask(self, row: int, arm: int) -> np.ndarray:
        """The outcome of an arm, `[V]`."""
        outcome = self._feedback.ask(row, int(self._order_A[arm]))
        self._asked_A[arm] = True
        return np.array([outcome.utility, outcome.score, outcome.cost / (self._cost_ref or 1.0)][: self.n_values])

    def learnt(self, space: Space, weight_AFV: np.ndarray, mean_V: np.ndarray) -> Regressions:
        """What is kept: regressions of score and cost, the arms in the order in which train lists them."""
        back_A = np.argsort(self._order_A)
        cost_ref = np.nan if self._cost_ref is None else self._cost_ref
        return Regressions(
            space.centre_E, space.projection_EP, weight_AFV[back_A, :, 1:], mean_V[1:], self._asked_A[back_A], cost_ref
        )


class Summary:
    """The training log of a bandit: `LOG_LINES` lines over `steps` steps, the first of which follows step `before`.

    `train_utility` is the mean of what was seen since the last line, and `explored` the share of queries whose asked
    arm was not thought the best of those available.
    """

    def __init__(self, log: Callable[[dict[str, Any]], None], steps: int, before: int = 0) -> None:
        self._log, self._steps, self._before = log, steps, before
        self._step, self._seen = 0, list[tuple[float, bool]]()

    def add(self, utility: float, explored: bool) -> None:
        self._step += 1
        self._seen.append((utility, explored))
        if self._step * LOG_LINES // self._steps > (self._step - 1) * LOG_LINES // self._steps:
            mean_utility, share = np.mean(self._seen, axis=0).tolist()
            self._log({"step": self._before + self._step, "train_utility": mean_utility, "explored": share})
            self._seen = []


def ask_in_turn(
    asking: Asking,
    rows: Sequence[int],
    input_QF: np.ndarray,
    beliefs: Beliefs,
    choose: Callable[[int, np.ndarray, np.ndarray], int],
    summary: Summary,
) -> None:
    """Ask about one query after another, and learn from each outcome.

    `choose` names the arm, from the row, every arm's expected utility and how little is known of it (`Beliefs.of`).
    """
    for row in rows:
        expected_A, width_A = beliefs.of(input_QF[row])
        arm = choose(row, expected_A, width_A)
        value_V = asking.ask(row, arm)
        beliefs.learn(arm, input_QF[row], value_V)
        best = expected_A[asking.available_QA[row]].max()
        summary.add(value_V[0], explored=bool(expected_A[arm] < best - NOTHING))


class Beliefs:
    """A ridge regression for every arm, kept up to date. Values V are those of `Asking`, measured from their mean.

    That is the mean of all that was seen; or one that is given with a `prior_AFV`, the weights that are believed in
    before anything is seen, as firmly as `penalty` outcomes would tell.
    """

    def __init__(self, prior_AFV: np.ndarray, penalty: float, mean_V: np.ndarray | None = None) -> None:
        n_arms, n_inputs, n_values = prior_AFV.shape
        self._mean_moves, self.mean_V = mean_V is None, np.zeros(n_values) if mean_V is None else mean_V
        self.inverse_AFF = np.tile(np.eye(n_inputs) / penalty, (n_arms, 1, 1))
        self.input_AF, self.moment_AFV = np.zeros((n_arms, n_inputs)), penalty * prior_AFV
        self.count, self.squares = 0, 0.0

    @property
    def spread(self) -> float:
        """The standard deviation of the utilities seen so far; 1 where they do not differ."""
        return spread_of(np.sqrt(self.squares / max(self.count, 1)))

    def of(self, input_F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each arm's expected utility, and the square root of x' A^-1 x: how little is known of it there."""
        gain_AF = self.inverse_AFF @ input_F
        value_A = (gain_AF * (self.moment_AFV[:, :, 0] - self.mean_V[0] * self.input_AF)).sum(axis=1)
        return value_A, np.sqrt((gain_AF * input_F).sum(axis=1))

    def learn(self, arm: int, input_F: np.ndarray, value_V: np.ndarray) -> None:
        self.inverse_AFF[arm] = with_another(self.inverse_AFF[arm], input_F)
        if not self._mean_moves:
            self.moment_AFV[arm] += np.outer(input_F, value_V - self.mean_V)
            return
        self.moment_AFV[arm] += np.outer(input_F, value_V)
        self.input_AF[arm] += input_F
        self.count += 1
        before_V = self.mean_V
        self.mean_V = before_V + (value_V - before_V) / self.count
        self.squares += (value_V[0] - before_V[0]) * (value_V[0] - self.mean_V[0])

    @property
    def weight_AFV(self) -> np.ndarray:
        """The posterior means of the weights."""
        return self.inverse_AFF @ (self.moment_AFV - self.input_AF[:, :, None] * self.mean_V)


def spread_of(deviation: float) -> float:
    """A standard deviation as a unit: 1 where values do not differ."""
    return float(deviation) if deviation > NOTHING else 1.0


def with_another(inverse_FF: np.ndarray, input_F: np.ndarray) -> np.ndarray:
    """The inverse of A + x x', from that of A (Sherman and Morrison)."""
    gain_F = inverse_FF @ input_F
    updated_FF: np.ndarray = inverse_FF - np.outer(gain_F, gain_F) / (1.0 + gain_F @ input_F)
    return updated_FF


@dataclass(frozen=True)
class Space:
    """What a regression reads of a query: its encoding, centred and projected, and a constant."""

    centre_E: np.ndarray
    projection_EP: np.ndarray

    @classmethod
    def along(cls, direction_EP: np.ndarray, encoding_QE: np.ndarray) -> Space:
        """The projection along these directions, brought to one scale together: inputs have length 1 on average."""
        centre_E = encoding_QE.mean(axis=0, dtype=np.float64)
        size = np.sqrt((((encoding_QE - centre_E) @ direction_EP) ** 2).sum(axis=1).mean())
        return cls(centre_E, direction_EP / (size if size > NOTHING else 1.0))

    @classmethod
    def of_principal_components(cls, encoding_QE: np.ndarray, dimensions: int) -> Space:
        centred_QE = encoding_QE - encoding_QE.mean(axis=0, dtype=np.float64)
        direction_EE = np.linalg.eigh(centred_QE.T @ centred_QE)[1]
        return cls.along(direction_EE[:, ::-1][:, :dimensions], encoding_QE)

    def inputs(self, encoding_QE: np.ndarray) -> np.ndarray:
        """`[Q, F]`: the P projections, and the constant."""
        return np.hstack([(encoding_QE - self.centre_E) @ self.projection_EP, np.ones((len(encoding_QE), 1))])


class Regressions(NamedTuple):
    """What a bandit keeps: linear predictions of every arm's score and cost. V is the score and, if known, the cost.

    An arm that was never asked counts as bad, and dear, as the worst of the others.
    """

    centre_E: np.ndarray
    projection_EP: np.ndarray
    weight_AFV: np.ndarray
    mean_V: np.ndarray
    seen_A: np.ndarray
    cost_ref: float

    def predict(self, encoding_QE: np.ndarray) -> Predictions:
        input_QF = Space(self.centre_E, self.projection_EP).inputs(encoding_QE)
        value_VQA = np.einsum("qf,afv->vqa", input_QF, self.weight_AFV) + self.mean_V[:, None, None]
        # Rounded, for what differs in the last digits is a tie, and a tie goes to the cheaper arm.
        value_VQA = np.round(value_VQA, 10)
        for value_QA, worst in zip(value_VQA, (np.min, np.max), strict=False):
            value_QA[:, ~self.seen_A] = worst(value_QA[:, self.seen_A], axis=1, keepdims=True)
        return predictions_of(np.hstack(list(value_VQA)), self.cost_ref)
