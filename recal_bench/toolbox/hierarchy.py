"""The hierarchical prior: what an arm is worth in the inferred task, and how the text moves each contrast of arms.

`value_a(x) = typical_a + sum_t P(t | x) effect_ta + slope_a . x`. Effects of tasks and slopes are estimated in
contrasts of arms (what all share, models, strategies, pairs), each kind shrunk as far as the train outcomes themselves
say: the effects by the method of moments, the slopes by a penalty chosen by exact leave-one-out. A kind that tells
nothing is switched off by that. A text that belongs to none of the tasks gets slopes whose penalty was chosen by
leaving out whole tasks. X: the values of an arm side by side (score, cost); T tasks; the last of E + 1 inputs is a
constant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from recal_bench.arrays import FloatQ, FloatQA, IntQ, StrQ
from recal_bench.outcomes import Arm
from recal_bench.toolbox.clusters import clustered
from recal_bench.toolbox.contrasts import KINDS, Contrasts, contrasts, fill_gaps, repeated
from recal_bench.toolbox.inferred_tasks import fit_posterior
from recal_bench.toolbox.novelty import Novelty, Shares, fit_novelty, shares_of
from recal_bench.toolbox.penalties import left_out_ridge, transferring_ridge

ROUNDS = 8
"""How often unknown values are filled in again."""
CLUSTERS = (4, 8, 16, 32)
PROMPTS_A_CLUSTER = 20
LEAST_TASKS = 3
"""With fewer tasks nothing can be learnt from leaving one out."""
STRANGE, FOREIGN = 0.1, 0.02
"""Shares of new texts of the tasks of train that begin to count as foreign to all tasks, and that wholly do."""
_TINY = 1e-12


@dataclass(frozen=True)
class Hierarchy:
    """A fitted hierarchy. `elsewhere_EX` and `novelty` are None where train has too few tasks to learn them from."""

    typical_X: NDArray[np.float64]
    task_ET: NDArray[np.float64]
    effect_TX: NDArray[np.float64]
    slope_EX: NDArray[np.float64]
    elsewhere_EX: NDArray[np.float64] | None = None
    novelty: Novelty | None = None

    def shares(self, embedding_QE: NDArray[np.floating]) -> Shares:
        """How foreign to the tasks of train each text is, and how familiar."""
        if self.novelty is None:
            return Shares(np.zeros(len(embedding_QE)), np.ones(len(embedding_QE)))
        return shares_of(self.novelty, embedding_QE)

    def values(self, embedding_QE: NDArray[np.floating], foreign_Q: FloatQ | None = None) -> FloatQA:
        """The expected value of every arm, `[Q, X]`; embeddings have unit length, as in training.

        `foreign_Q` is what `shares` says of them, where it is at hand.
        """
        input_QE = with_constant(embedding_QE)
        above_QX = softmax(input_QE @ self.task_ET, axis=1) @ self.effect_TX + input_QE @ self.slope_EX
        if self.elsewhere_EX is not None:
            share_Q1 = (self.shares(embedding_QE).foreign_Q if foreign_Q is None else foreign_Q)[:, None]
            above_QX = (1 - share_Q1) * above_QX + share_Q1 * (input_QE @ self.elsewhere_EX)
        return np.asarray(self.typical_X + above_QX)


def fit_hierarchy(
    embedding_QE: NDArray[np.floating],
    value_QX: FloatQA,
    typical_X: NDArray[np.float64],
    task_Q: StrQ,
    arms: Sequence[Arm],
    tasks: bool = True,
    alpha: float = 0.0,
    fresh_QE: NDArray[np.floating] | None = None,
) -> tuple[Hierarchy, FloatQA]:
    """The hierarchy, and its values for the train queries, each left out at every level, `[Q, X]`.

    `value_QX` holds the scores of the arms, and then perhaps their costs, of which a unit is worth `alpha` of score;
    NaN where unknown. `typical_X` is what each is worth over all tasks. Where train has one task, clusters of its texts
    take the place of tasks if that lowers the left-out error. Without `tasks` there is no such level.
    `fresh_QE` are texts of the same tasks that the encoder was not fitted to: how far off such texts usually lie.
    """
    names, number_Q = np.unique(task_Q.astype(str), return_inverse=True)
    grouping = [number_Q] if tasks and len(names) > 1 else [np.zeros_like(number_Q)]
    if tasks and len(names) == 1:
        most = len(np.unique(embedding_QE, axis=0)) // PROMPTS_A_CLUSTER
        counts = [count for count in CLUSTERS if count <= most]
        grouping += [clustered(embedding_QE, count, PROMPTS_A_CLUSTER, seed=0).labels_ for count in counts]
    found = repeated(contrasts(arms), value_QX.shape[1] // len(arms))
    levels = [_fit_levels(embedding_QE, value_QX - typical_X, number, found) for number in grouping]
    best, number_Q = min(zip(levels, grouping, strict=True), key=lambda pair: pair[0].error)
    task_ET = fit_posterior(embedding_QE, number_Q)
    elsewhere_EX = novelty = None
    if tasks and len(names) >= LEAST_TASKS:

        def utility(above_QX: FloatQA) -> FloatQA:
            score_QA, *costs = np.hsplit(typical_X + above_QX, above_QX.shape[1] // len(arms))
            return np.asarray(score_QA - alpha * sum(costs))

        elsewhere_EX = transferring_ridge(with_constant(embedding_QE), best.filled_QX, number_Q, utility)
        novelty = fit_novelty(embedding_QE, number_Q, STRANGE, FOREIGN, fresh_QE)
    fitted = Hierarchy(typical_X, task_ET, best.effect_TX, best.slope_EX, elsewhere_EX, novelty)
    return fitted, typical_X + best.left_out_QX


def packed(fit: Hierarchy) -> dict[str, NDArray[Any]]:
    """A hierarchy as arrays by name, for a file."""
    arrays = {name: value for name, value in vars(fit).items() if isinstance(value, np.ndarray)}
    if fit.novelty is not None:
        arrays |= {f"novelty.{name}": np.asarray(value) for name, value in fit.novelty._asdict().items()}
    return arrays


def unpacked(arrays: Mapping[str, NDArray[Any]]) -> Hierarchy:
    """The inverse of `packed`. Raises KeyError where an array is missing."""
    typical_X, task_ET, effect_TX, slope_EX = (
        arrays[name] for name in ("typical_X", "task_ET", "effect_TX", "slope_EX")
    )
    if "elsewhere_EX" not in arrays:
        return Hierarchy(typical_X, task_ET, effect_TX, slope_EX)
    square_EE, linear_ET, constant_T, *reach = (arrays[f"novelty.{name}"] for name in Novelty._fields)
    novelty = Novelty(square_EE, linear_ET, constant_T, *map(float, reach))
    return Hierarchy(typical_X, task_ET, effect_TX, slope_EX, arrays["elsewhere_EX"], novelty)


def with_constant(embedding_QE: NDArray[np.floating]) -> FloatQA:
    """Embeddings in double precision with a constant beside them, `[Q, E + 1]`."""
    return np.hstack([np.asarray(embedding_QE, dtype=np.float64), np.ones((len(embedding_QE), 1))])


@dataclass(frozen=True)
class _Levels:
    """Effects and slopes of the arms, the left-out values above the typical ones, and their mean squared error.

    The error is that of what tells arms apart: the value that all share does not count.
    """

    effect_TX: NDArray[np.float64]
    slope_EX: NDArray[np.float64]
    left_out_QX: FloatQA
    filled_QX: FloatQA
    error: float


def _fit_levels(embedding_QE: NDArray[np.floating], above_QX: FloatQA, number_Q: IntQ, found: Contrasts) -> _Levels:
    input_QE, basis_XX = with_constant(embedding_QE), found.basis_AC
    known_QX = ~np.isnan(above_QX)
    # How much of a direction is known of a query.
    weight_QX = known_QX @ basis_XX**2
    filled_QX = np.where(known_QX, above_QX, 0.0)
    eigen = np.linalg.eigh(input_QE.T @ input_QE)
    for _ in range(1 if known_QX.all() else ROUNDS):
        contrast_QX = filled_QX @ basis_XX
        effect_TX, of_task_QX = shrunk_means(contrast_QX, weight_QX, number_Q, found.kind_C)
        slope_EX, of_text_QX = left_out_ridge(input_QE, contrast_QX - of_task_QX, found.kind_C, eigen)
        residual_QX = contrast_QX - of_task_QX - of_text_QX
        left_out_QX = (of_task_QX + of_text_QX) @ basis_XX.T
        if not known_QX.all():
            variance_X = _by_kind((residual_QX**2).sum(axis=0), weight_QX.sum(axis=0), found.kind_C)
            filled_QX = fill_gaps(np.nan_to_num(above_QX), known_QX, left_out_QX, variance_X, found)
    shared_X = found.kind_C % len(KINDS) == 0
    error = float((residual_QX[:, ~shared_X] ** 2).mean()) if not shared_X.all() else 0.0
    return _Levels(effect_TX @ basis_XX.T, slope_EX @ basis_XX.T, left_out_QX, filled_QX, error)


def _by_kind(total_X: NDArray[np.float64], count_X: NDArray[np.float64], kind_X: NDArray[np.int64]) -> NDArray[Any]:
    """The mean over all directions of a kind, for each direction."""
    return np.bincount(kind_X, total_X)[kind_X] / np.maximum(np.bincount(kind_X, count_X)[kind_X], _TINY)


def shrunk_means(
    value_QX: FloatQA, weight_QX: FloatQA, number_Q: IntQ, kind_X: NDArray[np.int64]
) -> tuple[NDArray[np.float64], FloatQA]:
    """The mean of every group, drawn towards 0, `[T, X]`, and each row's with the row left out, `[Q, X]`.

    A mean of n rows keeps `signal / (signal + noise / n)` of itself, where the noise is the variance within the groups
    and the signal that of the true means, estimated for all directions of a kind together (method of moments; James and
    Stein's estimator of several means). One group keeps nothing: its mean is the typical value. `weight_QX` says how
    much of a row is known in each direction.
    """
    count_T = np.bincount(number_Q).astype(np.float64)
    if len(count_T) == 1:
        return np.zeros((1, value_QX.shape[1])), np.zeros_like(value_QX)
    member_QT = (number_Q[:, None] == np.arange(len(count_T))).astype(np.float64)
    total_TX, known_TX = member_QT.T @ value_QX, member_QT.T @ weight_QX
    mean_TX = total_TX / count_T[:, None]
    deviation_QX = value_QX - mean_TX[number_Q]
    noise_X = (deviation_QX**2).sum(axis=0) / np.maximum(known_TX.sum(axis=0) - len(count_T), 1.0)
    error_TX = noise_X / np.maximum(known_TX, _TINY)
    kept_TX = kept_shares(mean_TX, error_TX, kind_X)
    others_Q1 = np.maximum(count_T - 1, 1)[number_Q, None]
    left_out_QX = kept_TX[number_Q] * (total_TX[number_Q] - value_QX) / others_Q1
    return kept_TX * mean_TX, left_out_QX


def kept_shares(
    mean_TX: NDArray[np.float64], error_TX: NDArray[np.float64], kind_X: NDArray[np.int64]
) -> NDArray[np.float64]:
    """`signal / (signal + error)` of means whose squared standard errors are known; a kind shares its signal."""
    excess_X = (mean_TX**2 - error_TX).mean(axis=0)
    signal_X = np.maximum(_by_kind(excess_X, np.ones_like(excess_X), kind_X), 0.0)
    return np.asarray(signal_X / (signal_X + error_TX + _TINY))
