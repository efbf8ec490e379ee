"""What a price of cost makes of predictions: every price at which a choice changes. Arrays in, numbers out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recal_bench.arrays import BoolQA, FloatQ, FloatQA, IntQ


class Steps(NamedTuple):
    """Changes of single choices in the order of their prices, N in all: which query leaves which arm for which one.

    `first_Q` are the arms where cost has no price. From `price_N[n]` on the query `row_N[n]` takes `to_N[n]`.
    """

    first_Q: IntQ
    price_N: FloatQ
    row_N: IntQ
    from_N: IntQ
    to_N: IntQ


def steps(score_QA: FloatQA, cost_QA: FloatQA, available_QA: BoolQA) -> Steps:
    """All prices at which the available arm of the highest `score - price * cost` changes, on any query.

    For each query it walks along the upper envelope of one line an arm, from price 0 on: the next arm is the cheaper
    one whose line is met first. As the price rises, the predicted cost of the choice only falls.
    """
    score_QA = np.where(available_QA, score_QA, -np.inf)
    rows = np.arange(len(score_QA))
    arm_Q = _cheapest(score_QA == score_QA.max(axis=1, keepdims=True), cost_QA)
    first_Q, found = arm_Q, []
    while True:
        saved_QA = cost_QA[rows, arm_Q][:, None] - cost_QA
        with np.errstate(divide="ignore", invalid="ignore"):
            price_QA = (score_QA[rows, arm_Q][:, None] - score_QA) / saved_QA
        price_QA = np.where(available_QA & (saved_QA > 0), price_QA, np.inf)
        price_Q = price_QA.min(axis=1)
        next_Q = _cheapest(price_QA == price_Q[:, None], cost_QA)
        moved = np.flatnonzero(np.isfinite(price_Q))
        if not len(moved):
            break
        found.append(np.stack([price_Q[moved], moved, arm_Q[moved], next_Q[moved]]))
        arm_Q = np.where(np.isfinite(price_Q), next_Q, arm_Q)
    price_N, *indices = np.concatenate(found, axis=1) if found else np.zeros((4, 0))
    order = np.argsort(price_N, kind="stable")
    row_N, from_N, to_N = (index[order].astype(np.int64) for index in indices)
    return Steps(first_Q, price_N[order], row_N, from_N, to_N)


def along(found: Steps, value_QA: FloatQA, weight_Q: FloatQ) -> tuple[FloatQ, FloatQ]:
    """The weighted sum of the chosen arms' values at every price: prices `[P]` between which nothing changes, and sums.

    The first price is 0, each other one lies between two steps; the last lies beyond all of them.
    """
    rows = np.arange(len(found.first_Q))
    start = float((value_QA[rows, found.first_Q] * weight_Q).sum())
    change_N = (value_QA[found.row_N, found.to_N] - value_QA[found.row_N, found.from_N]) * weight_Q[found.row_N]
    last_N = np.append(np.diff(found.price_N) > 0, True)[: len(found.price_N)]
    step_P, sum_P = found.price_N[last_N], start + np.cumsum(change_N)[last_N]
    if not len(step_P):
        return np.zeros(1), np.array([start])
    between_P = np.append((step_P[:-1] + step_P[1:]) / 2, 2 * step_P[-1] + 1)
    # A choice that changes at the price 0 is a tie there: the price 0 itself is no stretch of its own.
    prices, sums = np.append(0.0, between_P), np.append(start, sum_P)
    return (prices[1:], sums[1:]) if step_P[0] == 0 else (prices, sums)


def _cheapest(among_QA: BoolQA, cost_QA: FloatQA) -> IntQ:
    return np.asarray(np.argmin(np.where(among_QA, cost_QA, np.inf), axis=1), dtype=np.int64)
