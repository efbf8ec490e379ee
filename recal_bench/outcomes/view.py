"""The rows of an outcomes file to the dense view. N rows with a usable key, Q queries, A arms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recal_bench.arrays import FloatQ, FloatQA, ObjectQA, StrQ
from recal_bench.outcomes.dense import Arm, Outcomes, content_hash
from recal_bench.outcomes.rows import Rows


def dense_view(rows: Rows, name: str) -> Outcomes:
    """The outcomes of a file without problems. What is repeated (draws of one outcome) is averaged."""
    first_Q, first_A = rows.query.first, rows.arm.first
    text = {
        each: np.array(rows.labels(each, first_Q), dtype=object) for each in ("task", "query_id", "prompt", "split")
    }
    arms = map(Arm, rows.labels("model", first_A), rows.labels("strategy", first_A))
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
    n_queries, n_arms = rows.shape
    cell_N, value_N = rows.query.group_N * n_arms + rows.arm.group_N, value_N[rows.keyed]
    # Summed in the order of the values, so that the order of the file does not show in the last digit.
    order = np.lexsort((value_N, cell_N))
    total = np.bincount(cell_N[order], weights=value_N[order], minlength=n_queries * n_arms)
    count = np.bincount(cell_N, minlength=n_queries * n_arms)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(n_queries, n_arms)


def _noise(rows: Rows) -> FloatQA | None:
    """The squared standard error of each mean score, NaN for fewer than two draws; None where no outcome has more."""
    cell_N = rows.query.group_N * rows.shape[1] + rows.arm.group_N
    count_QA = np.bincount(cell_N, minlength=rows.shape[0] * rows.shape[1]).reshape(rows.shape)
    if count_QA.max(initial=0) < 2:
        return None
    square_QA = _mean(rows, rows.score_N**2) - _mean(rows, rows.score_N) ** 2
    return np.where(count_QA > 1, np.maximum(square_QA, 0.0) / np.maximum(count_QA - 1, 1), np.nan)


def _responses(rows: Rows) -> ObjectQA | None:
    """The text of each outcome, None where it has none; of several draws the one that comes first by its text."""
    column = rows.columns.columns.get("response")
    if column is None:
        return None
    n_queries, n_arms = rows.shape
    cell_N = rows.query.group_N * n_arms + rows.arm.group_N
    text_V = np.array([value if isinstance(value, str) else None for value in column.values], dtype=object)
    order_V = np.argsort(np.argsort(np.array([text or "" for text in text_V], dtype=object), kind="stable"))
    code_N = column.code_N[rows.keyed]
    last_first_N = np.lexsort((-order_V[code_N], cell_N))
    response_C = np.full(n_queries * n_arms, None, dtype=object)
    # Of several texts for one cell, numpy keeps the last.
    response_C[cell_N[last_first_N]] = text_V[code_N[last_first_N]]
    return response_C.reshape(n_queries, n_arms)
