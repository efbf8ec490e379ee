"""Are two sets of queries alike? Texts, shares of choices, and means, each with an interval and a p value.

`before` are the queries of yesterday, `today` the new ones. Each query counts as an independent draw: whoever calls
sees to it that a prompt counts once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import BoolQ, FloatQ, IntQ
from recal_bench.evaluation.stability import Bounded
from recal_bench.evaluation.statistics import LEVEL, Interval, t_interval

PERMUTATIONS = 499
FOLDS = 5
RIDGE = 10.0
"""Of the mean variance of a direction: keeps directions in which few queries differ from deciding."""
LEAST_QUERIES = 20
"""On each side, below which nothing is told."""


class Apart(NamedTuple):
    """How well a classifier tells today's queries from those before: the AUC on queries it was not fitted to.

    0.5: not at all; 1: every one. `p` of "the two are draws from one population".
    """

    auc: Bounded
    p: float


class Share(NamedTuple):
    """So many of so many, with the 95% interval of the share (Wilson)."""

    hits: int
    total: int
    value: float
    low: float
    high: float


class Shares(NamedTuple):
    """A share before and today, and the difference with its 95% interval (Newcombe)."""

    before: Share
    today: Share
    difference: Bounded


class Shift(NamedTuple):
    """A mean before and today, with the t intervals of both and of the difference (Welch). `p` is the difference's."""

    before: Interval
    today: Interval
    difference: Interval


def tell_apart(
    before_QE: NDArray[np.floating], today_QE: NDArray[np.floating], permutations: int = PERMUTATIONS, seed: int = 0
) -> Apart:
    """The classifier two-sample test of Lopez-Paz and Oquab (arXiv 1610.06545), with the AUC as its statistic.

    A ridge regression of the label on the embedding, each of `FOLDS` folds judged by a fit to the others; pairs are
    compared within a fold. The folds are drawn without a look at the labels, so permuting these gives an exact p. For
    given inputs its predictions are linear in the labels: all permutations are fitted at once. The interval is that of
    LeDell et al. (Electron. J. Stat. 9, 1583), of a cross-validated AUC by its influence curve. That takes the fits as
    given, which says too little near 0.5: the standard error is at least that among the permutations, drawn in towards
    0 and 1 as that of a share is.
    """
    rng = np.random.default_rng(seed)
    input_QE = np.concatenate([before_QE, today_QE]).astype(np.float64)
    label_Q = np.repeat([0.0, 1.0], [len(before_QE), len(today_QE)])
    fold_Q = rng.permutation(len(input_QE)) % FOLDS
    shuffled = [rng.permutation(label_Q) for _ in range(permutations)]
    label_QP = np.stack([label_Q, *shuffled], axis=1)
    won_P, pairs_P, by_fold = np.zeros(1 + permutations), np.zeros(1 + permutations), []
    for fold in range(FOLDS):
        held_Q = fold_Q == fold
        score_QP = _ridge_scores(input_QE[~held_Q], label_QP[~held_Q], input_QE[held_Q])
        won, pairs = _won_pairs(score_QP, label_QP[held_Q])
        won_P, pairs_P = won_P + won, pairs_P + pairs
        by_fold.append((score_QP[:, 0], label_Q[held_Q] == 1))
    auc_P = won_P / np.maximum(pairs_P, 1)
    auc = float(auc_P[0])
    error = max(_auc_error(by_fold, auc), 2 * float(np.sqrt(auc * (1 - auc))) * float(auc_P[1:].std()))
    half = _normal_quantile() * error
    return Apart(
        Bounded(auc, max(0.0, auc - half), min(1.0, auc + half)),
        float((auc_P >= auc_P[0] - 1e-12).sum() / (1 + permutations)),
    )


def _ridge_scores(
    fitted_QE: NDArray[np.float64], label_QP: NDArray[np.float64], held_QE: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What ridge regressions of several labels, fitted to some queries, give others, `[Q, P]`."""
    mean_E = fitted_QE.mean(axis=0)
    centred_QE = fitted_QE - mean_E
    gram_EE = centred_QE.T @ centred_QE
    gram_EE += (RIDGE * np.trace(gram_EE) / len(gram_EE) + 1e-12) * np.eye(len(gram_EE))
    weight_EP = np.linalg.solve(gram_EE, centred_QE.T @ (label_QP - label_QP.mean(axis=0)))
    return np.asarray((held_QE - mean_E) @ weight_EP)


def _won_pairs(
    score_QP: NDArray[np.float64], label_QP: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """In how many of the pairs of one query of each label the higher score has label 1, a tie counting half."""
    from scipy.stats import rankdata

    ones_P = label_QP.sum(axis=0)
    won_P = (rankdata(score_QP, axis=0) * label_QP).sum(axis=0) - ones_P * (ones_P + 1) / 2
    return won_P, ones_P * (len(label_QP) - ones_P)


def _auc_error(by_fold: list[tuple[FloatQ, BoolQ]], auc: float) -> float:
    """The standard error of an AUC over the pairs within folds, from each query's own part in it."""
    parts: dict[bool, list[FloatQ]] = {True: [], False: []}
    total = sum(int(is_one_Q.sum()) * int((~is_one_Q).sum()) for _, is_one_Q in by_fold)
    for score_Q, is_one_Q in by_fold:
        one_Q, zero_Q = score_Q[is_one_Q], score_Q[~is_one_Q]
        won_QQ = (one_Q[:, None] > zero_Q) + 0.5 * (one_Q[:, None] == zero_Q) - auc
        parts[True].append(won_QQ.sum(axis=1))
        parts[False].append(won_QQ.sum(axis=0))
    variance = 0.0
    for found in parts.values():
        part_Q = np.concatenate(found)
        variance += float((part_Q**2).sum()) * len(part_Q) / max(len(part_Q) - 1, 1)
    return float(np.sqrt(variance)) / max(total, 1)


def share(hit_Q: BoolQ) -> Share:
    """The share of queries that are hit, with Wilson's interval, which stays open at none and at all."""
    from scipy.stats import binomtest

    hits, total = int(hit_Q.sum()), len(hit_Q)
    interval = binomtest(hits, total).proportion_ci(LEVEL, method="wilson")
    return Share(hits, total, hits / total, float(interval.low), float(interval.high))


def compare_shares(before_Q: BoolQ, today_Q: BoolQ) -> Shares:
    """Two shares and their difference, by Newcombe's interval of Wilson scores (Statist. Med. 17, 873, method 10)."""
    before, today = share(before_Q), share(today_Q)
    value = today.value - before.value
    below = np.hypot(today.value - today.low, before.high - before.value)
    above = np.hypot(today.high - today.value, before.value - before.low)
    return Shares(before, today, Bounded(value, value - float(below), value + float(above)))


def p_of_choices(before_Q: IntQ, today_Q: IntQ, permutations: int = 9_999, seed: int = 0) -> float:
    """p of "both chose alike" for choices 0, 1, ...: Pearson's chi-squared, its distribution by permutation."""
    n_choices = 1 + int(max(before_Q.max(), today_Q.max()))
    today_C = np.bincount(today_Q, minlength=n_choices)
    total_C = today_C + np.bincount(before_Q, minlength=n_choices)
    today_C, total_C = today_C[total_C > 0], total_C[total_C > 0]
    drawn_PC = np.random.default_rng(seed).multivariate_hypergeometric(total_C, len(today_Q), size=permutations)
    expected_C = total_C * len(today_Q) / total_C.sum()
    # Where the margins are fixed, that of one side is the whole statistic but for a factor.
    seen = float(((today_C - expected_C) ** 2 / expected_C).sum())
    drawn_P = ((drawn_PC - expected_C) ** 2 / expected_C).sum(axis=1)
    return float((1 + (drawn_P >= seen - 1e-9).sum()) / (1 + permutations))


def compare_means(before_Q: FloatQ, today_Q: FloatQ) -> Shift:
    """Two means and their difference, for two or more known values on each side."""
    (before, error_b, df_b), (today, error_t, df_t) = _mean(before_Q), _mean(today_Q)
    error = float(np.hypot(error_b, error_t))
    df = error**4 / (error_b**4 / df_b + error_t**4 / df_t) if error else np.inf
    return Shift(
        t_interval(before, error_b, df_b), t_interval(today, error_t, df_t), t_interval(today - before, error, df)
    )


def _mean(value_Q: FloatQ) -> tuple[float, float, int]:
    """The mean, its standard error and the degrees of freedom."""
    return float(value_Q.mean()), float(value_Q.std(ddof=1)) / len(value_Q) ** 0.5, len(value_Q) - 1


def _normal_quantile() -> float:
    from scipy.special import ndtri

    found: Any = ndtri((1 + LEVEL) / 2)
    return float(found)
