"""The rows of an outcomes file to the dense view. N rows with a usable key, Q queries, A arms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recal_bench.arrays import FloatQ, FloatQA, ObjectQA, StrQ
from recal_bench.outcomes.coding import Coded
from recal_bench.outcomes.dense import Arm, Outcomes, content_hash
from recal_bench.outcomes.rows import Rows


def dense_view(rows: Rows, name: str) -> Outcomes:
    """The outcomes of a file without problems. What is repeated (draws of one outcome) is averaged."""
    keys = rows.keys
    first_Q, first_A = keys.query.first, keys.arm.first
    text = {each: keys.labels(each, first_Q) for each in ("task", "query_id", "prompt", "split")}
    arms = map(Arm, keys.labels("model", first_A), keys.labels("strategy", first_A))
    outcomes = Outcomes(
        task_Q=text["task"],
        query_id_Q=text["query_id"],
        prompt_Q=text["prompt"],
        split_Q=text["split"],
        arms=tuple(arms),
        score_QA=_mean(rows, rows.score_N),
        cost_QA=_mean(rows, rows.cost_N),
        name=name,
        data_hash="",
        noise_QA=_noise(rows),
        response_QA=_responses(rows),
        propensity_Q=rows.propensity_Q if rows.logged else None,
        column_QA={each: _mean(rows, value_N) for each, value_N in rows.other.items()},
    )
    return replace(outcomes, data_hash=content_hash(outcomes))


def in_splits(outcomes: Outcomes, split_Q: StrQ) -> Outcomes:
    """The same outcomes with each query in a given split, in the order of such rows."""
    split = replace(outcomes, split_Q=split_Q)
    order = np.lexsort(
        [np.unique(key_Q, return_inverse=True)[1] for key_Q in (split.query_id_Q, split.task_Q, split_Q)]
    )
    split = split.take(order)
    return replace(split, data_hash=content_hash(split))


def _mean(rows: Rows, value_N: FloatQ) -> FloatQA:
    """Mean over the rows of an outcome; NaN where there is none or one of them is NaN."""
    shape, cell_N, value_N = rows.keys.shape, rows.keys.cell_N, rows.keys.of(value_N)
    mean_C = np.full(shape[0] * shape[1], np.nan)
    if not rows.keys.repeats:
        mean_C[cell_N] = value_N
        mean_C += 0.0  # no zero has a sign, as in a sum
        return mean_C.reshape(shape)
    # Summed in the order of the values, so that the order of the file does not show in the last digit.
    order = np.lexsort((value_N, cell_N))
    outcome = rows.keys.outcome
    total_O = np.bincount(outcome.group_N[order], weights=value_N[order])
    mean_C[cell_N[outcome.first]] = total_O / np.bincount(outcome.group_N)
    return mean_C.reshape(shape)


def _noise(rows: Rows) -> FloatQA | None:
    """The squared standard error of each mean score, NaN for fewer than two draws; None where no outcome has more."""
    if not rows.keys.repeats:
        return None
    count_QA = np.bincount(rows.keys.cell_N, minlength=rows.keys.shape[0] * rows.keys.shape[1]).reshape(rows.keys.shape)
    square_QA = _mean(rows, rows.score_N**2) - _mean(rows, rows.score_N) ** 2
    return np.where(count_QA > 1, np.maximum(square_QA, 0.0) / np.maximum(count_QA - 1, 1), np.nan)


def _responses(rows: Rows) -> ObjectQA | None:
    """The text of each outcome, None where it has none; of several draws the one that comes first by its text."""
    column = rows.columns.columns.get("response")
    if column is None:
        return None
    assert isinstance(column, Coded)
    cell_N, code_N = rows.keys.cell_N, rows.keys.of(column.code_N)
    text_V = np.array([value if isinstance(value, str) else None for value in column.values], dtype=object)
    response_C = np.full(rows.keys.shape[0] * rows.keys.shape[1], None, dtype=object)
    if rows.keys.repeats:
        order_V = np.argsort(np.argsort(np.array([text or "" for text in text_V], dtype=object), kind="stable"))
        last_first_N = np.lexsort((-order_V[code_N], cell_N))
        cell_N, code_N = cell_N[last_first_N], code_N[last_first_N]
    # Of several texts for one cell, numpy keeps the last.
    response_C[cell_N] = text_V[code_N]
    return response_C.reshape(rows.keys.shape)
