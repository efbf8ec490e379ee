"""Ridge regression of every arm's score and cost on the encoding of a query."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from recal_bench.arrays import FloatA, FloatQA, distinct_rows
from recal_bench.encoders import Encoder, fit_encoder
from recal_bench.routers import Predictions, Queries, Train
from recal_bench.toolbox.inferred_tasks import fit_posterior
from recal_bench.toolbox.targets import in_fixed_order, linear_inputs, predictions_of, targets_of

ENCODER = "tfidf"
PENALTY = 30.0
"""In queries."""


class RidgeFit(NamedTuple):
    """The encoder, weights `[E + 1, C]` of what lies above the typical values of the columns (see `Targets`).

    With `task_ET` (see `fit_posterior`) the inputs hold the probability of each task too: weights `[E + 1 + T, C]`.
    """

    text_encoder: Encoder
    weight_EC: NDArray[np.float64]
    typical_C: FloatA
    cost_ref: float
    task_ET: NDArray[np.float64] | None = None


def fit_ridge(train: Train, encoder: str = ENCODER, penalty: float = PENALTY, tasks: bool = False) -> RidgeFit:
    """Raises OutcomesError where no arm has an outcome."""
    train = in_fixed_order(train)
    targets = targets_of(train)
    text_encoder = fit_encoder(encoder, train.queries.prompt, train.queries.features)
    input_QE, task_ET = linear_inputs(text_encoder, train.queries), None
    if tasks:
        task_ET = fit_posterior(input_QE[:, :-1], train.outcomes.task_Q.astype(str))
        input_QE = _with_tasks(input_QE, task_ET)
    weight_EC = np.zeros((input_QE.shape[1], len(targets.typical_C)))
    excess_QC = targets.excess_QC
    # Arms observed on the same queries share one solve: all of them, where nothing is missing.
    patterns, pattern_C = distinct_rows(targets.known_QC.T)
    for number, known_Q in enumerate(patterns):
        columns = np.flatnonzero(pattern_C == number)
        # A million rows are not copied where nothing is missing.
        rows = slice(None) if known_Q.all() else known_Q
        weight_EC[:, columns] = ridge_weights(input_QE[rows], excess_QC[rows][:, columns], penalty)
    return RidgeFit(text_encoder, weight_EC, targets.typical_C, targets.cost_ref, task_ET)


def predict_ridge(fit: RidgeFit, queries: Queries) -> Predictions:
    """The expected score and cost (USD) of every arm."""
    excess_QC = _with_tasks(linear_inputs(fit.text_encoder, queries), fit.task_ET) @ fit.weight_EC
    return predictions_of(fit.typical_C + excess_QC, fit.cost_ref)


def _with_tasks(input_QE: FloatQA, task_ET: NDArray[np.float64] | None) -> FloatQA:
    return input_QE if task_ET is None else np.hstack([input_QE, softmax(input_QE @ task_ET, axis=1)])


def ridge_weights(input_QE: FloatQA, target_QC: FloatQA, penalty: float) -> NDArray[Any]:
    """The weights `[E, C]` of least squared error plus `penalty` times their squares.

    All weights are penalised, that of a constant too: few outcomes move an arm's level little.
    """
    gram_EE = input_QE.T @ input_QE + penalty * np.eye(input_QE.shape[1])
    return np.asarray(np.linalg.solve(gram_EE, input_QE.T @ target_QC))
