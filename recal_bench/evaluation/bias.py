"""The bias of an advantage estimator: which arm it follows for a text, where the utility would choose another.

A router sees a text, not the outcomes that are drawn. What an estimator prefers for a text is therefore decided by its
expected advantages, over the joint law of the outcomes and over the groups that the policy draws. Two views of it, both
through the estimators of `recal_bench.calibration` themselves: near a vertex, where one arm (the resident) fills the
group but for one rollout of another (the invader), in closed form for any number of arms; and anywhere, from all groups
of a small problem or by following drawn ones. docs/bias.md holds the formulas and what is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from math import factorial, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from recal_bench.arrays import FloatA, FloatQA, IntQ
from recal_bench.calibration import ESTIMATORS, Batch, Running
from recal_bench.calibration.rewards import component_rewards, component_weights

CELLS = 200
"""Cells of a margin table for a unit of cost (`cost_ref`)."""
_OUTCOME = 1
_FIRM = 1e9
_ENOUGH = 4000
_FAR = 12.0

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Rule(NamedTuple):
    """What turns rewards into advantages: an estimator's name, and its settings where it has some."""

    estimator: str
    calibration: Any = None


class Groups(NamedTuple):
    """Well-formed rollouts, `[Q, G]`: the arm, its score, its cost in units of `cost_ref`, its share of the query."""

    arm_QG: Ints
    score_QG: Floats
    cost_QG: Floats
    share_QG: Floats


class Law(NamedTuple):
    """The joint law of the outcomes given a text, as N cases whose probabilities add up to 1."""

    probability_N: Floats
    score_NA: Floats
    cost_NA: Floats

    @classmethod
    def independent(cls, score_A: Sequence[float], cost_A: Sequence[float]) -> Law:
        """Arms that are right or wrong independently of each other, at fixed costs."""
        right_NA = np.array(list(np.ndindex(*[2] * len(score_A))), dtype=np.float64)
        probability_NA = np.where(right_NA > 0, score_A, 1 - np.asarray(score_A))
        return cls(probability_NA.prod(axis=1), right_NA, right_NA * 0 + cost_A)


# Advantages in a realistic batch


def advantages(rule: Rule, alpha: float, groups: Groups, around: Groups) -> Floats:
    """What the rule makes of each group, `[Q, G]`, in a batch that also holds the groups `around` it.

    Running quantities are fixed at what `around` alone gives them. Quantities of the batch (its mean, its spread) are
    those of all groups together, the same for all: that moves no comparison of two arms of a text.
    """
    _, state = _estimate(rule, alpha, around)
    both = Groups(*(np.concatenate(parts) for parts in zip(around, groups, strict=True)))
    return _estimate(rule, alpha, both, _firm(state))[0][len(around.arm_QG) :]


def _firm(state: Any) -> Any:
    """A state whose running quantities have so much weight behind them that what is asked about does not move them."""
    if isinstance(state, Running):
        return Running(*(_FIRM * part for part in state))
    if isinstance(state, dict):
        return {name: _firm(part) for name, part in state.items()}
    if isinstance(state, list | tuple):
        parts = [_firm(part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    return state


def _estimate(rule: Rule, alpha: float, groups: Groups, state: Any = None) -> tuple[Floats, Any]:
    """The estimator itself. Without a state the running quantities are those of the groups."""
    estimator = ESTIMATORS[rule.estimator]
    settings, shape = estimator.settings_from(rule.calibration), groups.arm_QG.shape
    state = estimator.start(np.zeros(3), np.zeros(1), settings) if state is None else state
    reward_QGK = component_rewards(np.ones(shape, dtype=bool), groups.score_QG, groups.cost_QG)
    batch = Batch(
        reward_QGK=reward_QGK,
        weight_K=np.array(component_weights(alpha, has_cost=True)),
        is_outcome_K=np.arange(3) == _OUTCOME,
        outcome_QG=reward_QGK[..., _OUTCOME],
        share_QG=groups.share_QG,
        dataset_Q=np.zeros(shape[0], dtype=np.int64),
        valid_QG=np.ones(shape, dtype=bool),
    )
    return estimator.compute(batch, state, settings)


def draw_groups(
    policy_QA: FloatQA, score_QA: FloatQA, cost_QA: FloatQA, group_size: int, rng: np.random.Generator
) -> Groups:
    """A group for every row, drawn from its policy. An arm drawn twice has one outcome, as in training from a log."""
    cumulative_QA = policy_QA.cumsum(axis=1)
    threshold_QG = rng.random((len(policy_QA), group_size)) * cumulative_QA[:, -1:]
    arm_QG = (threshold_QG[:, :, None] >= cumulative_QA[:, None, :]).sum(axis=2)
    return _groups(arm_QG, score_QA, cost_QA)


def mixed_groups(resident_Q: IntQ, invader_Q: IntQ, score_QA: FloatQA, cost_QA: FloatQA, group_size: int) -> Groups:
    """Groups of one rollout of the invader (the first) and otherwise the resident."""
    arm_QG = np.repeat(resident_Q[:, None], group_size, axis=1)
    arm_QG[:, 0] = invader_Q
    return _groups(arm_QG, score_QA, cost_QA)


def _groups(arm_QG: Ints, score_QA: FloatQA, cost_QA: FloatQA) -> Groups:
    score_QG, cost_QG = (np.take_along_axis(value_QA, arm_QG, axis=1) for value_QA in (score_QA, cost_QA))
    return Groups(arm_QG, score_QG, cost_QG, np.full(arm_QG.shape, 1 / arm_QG.shape[1]))


def whole_groups(policy_QA: FloatQA, score_QA: FloatQA, cost_QA: FloatQA) -> Groups:
    """Groups that hold every arm once, with its probability as its share: what `expected` is given."""
    arm_QG = np.tile(np.arange(policy_QA.shape[1]), (len(policy_QA), 1))
    return Groups(arm_QG, score_QA, cost_QA, policy_QA)


# Near a vertex, in closed form


class MarginTable(NamedTuple):
    """The invader's advantage in a mixed group less the resident's in a group of its own.

    `value_RIC` by the resident's score, the invader's score (0, 1) and the cell of the invader's cost less the
    resident's, of which cell c spans `[low + c * step, low + (c + 1) * step]`. Once the resident's own group is
    subtracted, an estimator depends on costs through their differences alone.
    """

    value_RIC: Floats
    low: float
    step: float


def margin_table(rule: Rule, alpha: float, around: Groups, reach: float) -> MarginTable:
    """Ask the estimator about every mixed group: both scores, and differences of cost up to `reach`."""
    group_size, n_cells = around.arm_QG.shape[1], int(np.ceil(reach * CELLS))
    difference_C = (np.arange(-n_cells, n_cells) + 0.5) / CELLS
    resident_N, invader_N, difference_N = (
        part.ravel() for part in np.meshgrid([0.0, 1.0], [0.0, 1.0], difference_C, indexing="ij")
    )
    one, other = np.ones(len(resident_N), dtype=np.int64), np.zeros(len(resident_N), dtype=np.int64)
    score_NA, cost_NA = np.stack([resident_N, invader_N], 1), np.stack([np.zeros_like(difference_N), difference_N], 1)
    mixed = mixed_groups(other, one, score_NA, cost_NA, group_size)
    pure = mixed_groups(other[:2], other[:2], np.array([[0.0], [1.0]]), np.zeros((2, 1)), group_size)
    asked = Groups(*(np.concatenate(parts) for parts in zip(pure, mixed, strict=True)))
    advantage_QG = advantages(rule, alpha, asked, around)
    own_R, invader_RIC = advantage_QG[:2, -1], advantage_QG[2:, 0].reshape(2, 2, -1)
    return MarginTable(invader_RIC - own_R[:, None, None], -n_cells / CELLS, 1 / CELLS)


def margins(table: MarginTable, score_QA: FloatQA, both_QAA: Floats, cost_QA: FloatQA, half_QA: FloatQA) -> Floats:
    """Expected margin of the invader (last axis) over the resident (the one before), `[Q, A, A]`; 0 on the diagonal.

    `score_QA` and `both_QAA` are the probabilities that an arm, that both of two arms are right; costs are uniform
    within `cost_QA +- half_QA`, independently of each other and of the scores. The difference of two uniform costs has
    a trapezoidal density, so that the mean of the table over it is a second difference of its second antiderivative.
    """
    resident_Q, invader_Q = score_QA[:, :, None], score_QA[:, None, :]
    chance = {
        (0, 0): 1 - resident_Q - invader_Q + both_QAA,
        (0, 1): invader_Q - both_QAA,
        (1, 0): resident_Q - both_QAA,
        (1, 1): both_QAA,
    }
    first_RIC = _antiderivative(table.value_RIC, table.step)
    second_RIC = _antiderivative(table.value_RIC * table.step / 2 + first_RIC[..., :-1], table.step)
    centre = cost_QA[:, None, :] - cost_QA[:, :, None]
    of_resident, of_invader = half_QA[:, :, None], half_QA[:, None, :]
    total = np.zeros_like(both_QAA)
    for sign, edge in (
        (1, centre + of_resident + of_invader),
        (-1, centre + of_resident - of_invader),
        (-1, centre - of_resident + of_invader),
        (1, centre - of_resident - of_invader),
    ):
        place = (edge - table.low) / table.step
        cell = np.clip(place.astype(np.int64), 0, table.value_RIC.shape[-1] - 1)
        rest = (place - cell) * table.step
        for (resident, invader), probability in chance.items():
            value_C, first_C, second_C = (each[resident, invader] for each in (table.value_RIC, first_RIC, second_RIC))
            total += sign * probability * (second_C[cell] + rest * (first_C[cell] + rest * value_C[cell] / 2))
    total /= 4 * of_resident * of_invader
    total[:, np.arange(total.shape[1]), np.arange(total.shape[1])] = 0.0
    return np.asarray(total)


def _antiderivative(value_RIC: Floats, step: float) -> Floats:
    start_RI1 = np.zeros((*value_RIC.shape[:-1], 1))
    return np.concatenate([start_RI1, np.cumsum(value_RIC, axis=-1) * step], axis=-1)


class Optima(NamedTuple):
    """The arm that is followed for each text, and how many arms no other invades (1 where the answer is clear)."""

    arm_Q: IntQ
    stable_Q: IntQ


def optima(margin_QAA: Floats) -> Optima:
    """The arm whose strongest invader gains least: where arms are there that none invades, it is one of them."""
    diagonal_AA = np.eye(margin_QAA.shape[1], dtype=bool)
    strongest_QA = np.where(diagonal_AA, -np.inf, margin_QAA).max(axis=2)
    return Optima(strongest_QA.argmin(axis=1), (strongest_QA <= 0).sum(axis=1))


# Anywhere: what each arm's expected advantage is under a policy


def expected_advantages(rule: Rule, alpha: float, law: Law, policy_A: FloatA, group_size: int) -> FloatA:
    """Each arm's exact expected advantage where it is drawn, over all groups and all cases of a small problem.

    A softmax policy's expected gradient in the logit of arm a is `policy_a (value_a - sum_b policy_b value_b)`: an arm
    gains on another where this value is the higher. All queries of the batch have this text.
    """
    n_cases, n_arms = law.score_NA.shape
    if ESTIMATORS[rule.estimator].all_actions:
        policy_NA = np.tile(policy_A, (n_cases, 1))
        groups, probability_Q = whole_groups(policy_NA, law.score_NA, law.cost_NA), law.probability_N
    else:
        arm_CG = np.array(list(combinations_with_replacement(range(n_arms), group_size)))
        count_CA = (arm_CG[:, :, None] == np.arange(n_arms)).sum(axis=1)
        orders_C = np.array([factorial(group_size) / prod(factorial(n) for n in count_A) for count_A in count_CA])
        probability_Q = np.outer(orders_C * (policy_A**count_CA).prod(axis=1), law.probability_N).ravel()
        cases = (np.tile(value_NA, (len(arm_CG), 1)) for value_NA in (law.score_NA, law.cost_NA))
        groups = _groups(np.repeat(arm_CG, n_cases, axis=0), *cases)
    # The batch around holds each group as often as its probability wants, without chance.
    points = (np.arange(_ENOUGH) + 0.5) / _ENOUGH * probability_Q.sum()
    due = np.minimum(np.searchsorted(probability_Q.cumsum(), points), len(probability_Q) - 1)
    advantage_QG = advantages(rule, alpha, groups, Groups(*(part[due] for part in groups)))
    return np.asarray(
        probability_Q @ arm_advantages(advantage_QG, groups.arm_QG, np.tile(policy_A, (len(probability_Q), 1)))
    )


def arm_advantages(advantage_QG: Floats, arm_QG: Ints, policy_QA: FloatQA) -> FloatQA:
    """`mean_j A_ij 1[a_ij = a] / policy_ia`: estimates, without bias, its expected advantage where it is drawn."""
    (n_queries, n_arms), group_size = policy_QA.shape, advantage_QG.shape[1]
    slot_QG = arm_QG + n_arms * np.arange(n_queries)[:, None]
    total_N = np.bincount(slot_QG.ravel(), advantage_QG.ravel(), n_queries * n_arms)
    return np.asarray(total_N.reshape(n_queries, n_arms) / (group_size * policy_QA))


class Climb(NamedTuple):
    """How `climb` goes: `draws` groups of `group_size` for each text and step, a rate that falls linearly to 0 over the
    steps, and the share of the rollouts that go to any arm at random."""

    group_size: int = 16
    draws: int = 16
    steps: int = 2000
    rate: float = 0.1
    explore: float = 0.05


def climb(
    rule: Rule, alpha: float, score_NQA: Floats, cost_NQA: Floats, start_QA: FloatQA, settings: Climb, seed: int
) -> FloatQA:
    """Where a tabular softmax policy comes to that follows an estimator from the logits `start_QA`: policies `[Q, A]`.

    The logits move by the arms' advantages in units of the advantages' spread at the first step (the natural gradient:
    in the plain one an arm that has become rare takes ages to come back). N outcomes of each text are drawn beforehand;
    a step takes the next of them. Its batch is all of its groups, the running quantities are those of the batch.
    """
    rng, n_arms, logit_QA, scale = np.random.default_rng(seed), start_QA.shape[1], start_QA, 0.0
    for step in range(settings.steps):
        taken_N = np.arange(step * settings.draws, (step + 1) * settings.draws) % len(score_NQA)
        score_RA, cost_RA = (value_NQA[taken_N].reshape(-1, n_arms) for value_NQA in (score_NQA, cost_NQA))
        policy_QA = (1 - settings.explore) * softmax(logit_QA, axis=1) + settings.explore / n_arms
        policy_RA = np.tile(policy_QA, (settings.draws, 1))
        if ESTIMATORS[rule.estimator].all_actions:
            groups = whole_groups(policy_RA, score_RA, cost_RA)
        else:
            groups = draw_groups(policy_RA, score_RA, cost_RA, settings.group_size, rng)
        advantage_RG, _ = _estimate(rule, alpha, groups)
        scale = scale or float(np.sqrt((advantage_RG**2).mean()))
        value_NQA = arm_advantages(advantage_RG, groups.arm_QG, policy_RA).reshape(settings.draws, *start_QA.shape)
        rate = settings.rate * (1 - step / settings.steps) / scale
        # An arm that is given up stays within reach.
        logit_QA = np.maximum(logit_QA + rate * value_NQA.mean(axis=0), logit_QA.max(axis=1, keepdims=True) - _FAR)
    return np.asarray(softmax(logit_QA, axis=1))
