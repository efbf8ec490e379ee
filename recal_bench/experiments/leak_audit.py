"""Whether decisions from elsewhere follow the outcomes of test more closely than the text allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatQA, IntQ
from recal_bench.encoders import fit_encoder
from recal_bench.errors import OutcomesError
from recal_bench.experiments.bench import Bench
from recal_bench.experiments.signal import ENCODER, find_signal
from recal_bench.outcomes.splits import normalized_prompt
from recal_bench.routers import Train
from recal_bench.toolbox.hierarchy import fit_hierarchy
from recal_bench.toolbox.leaks import LeakAudit, hidden_gain, over_each_task
from recal_bench.toolbox.signal import LEAST_QUERIES
from recal_bench.toolbox.targets import in_fixed_order, predictions_of, targets_of


class Expectation(NamedTuple):
    """What the text tells of test: its encoding, and the utility that the hierarchy, fitted to train, expects."""

    embedding_QE: NDArray[np.floating]
    utility_QA: FloatQA


def audit(bench: Bench, choices: Sequence[IntQ]) -> LeakAudit | None:
    """What the choices of each seed on test hold about its outcomes (see `toolbox.leaks`).

    None where that cannot be told: on a log of single choices, with one arm, with held-out arms, with fewer than 20
    test queries.
    """
    test = bench.charged(bench.splits.test)
    if bench.data.logged or bench.few is not None or len(test.arms) < 2 or len(test) < LEAST_QUERIES:
        return None
    utility_QA = bench.objective.utility(test.score_QA, test.cost_QA)
    found = audited(bench, expectation(bench), utility_QA, choices)
    if not np.isfinite([found.gain, found.p, *found.gain_ci]).all():
        return None  # as where every task has one query
    return against_ceiling(bench, found, utility_QA, choices, ceiling_of(bench)) if found.follows else found


def expectation(bench: Bench) -> Expectation:
    """Of all arms on test, from train. Test's outcomes are not looked at."""
    train: Train = in_fixed_order(bench.train)
    targets, test = targets_of(train), bench.splits.test
    encoder = fit_encoder(ENCODER, train.queries.prompt)
    fit, _ = fit_hierarchy(
        encoder.encode(train.queries.prompt),
        targets.value_QC,
        targets.typical_C,
        train.outcomes.task_Q,
        train.outcomes.arms,
        # Tasks of one query each can be told by no text.
        tasks=2 * len(train.outcomes.tasks) <= len(train.outcomes),
    )
    embedding_QE = encoder.encode(tuple(test.prompt_Q))
    predicted = predictions_of(fit.values(embedding_QE), targets.cost_ref)
    return Expectation(embedding_QE, bench.objective.utility(*predicted))


def audited(bench: Bench, expected: Expectation, utility_QA: FloatQA, choices: Sequence[IntQ]) -> LeakAudit:
    """Whether choices on test follow these utilities of its arms."""
    test = bench.splits.test
    prompts = [normalized_prompt(prompt) for prompt in test.prompt_Q]
    gain = hidden_gain(
        utility_QA,
        expected.utility_QA,
        _shares(choices, utility_QA),
        expected.embedding_QE,
        test.task_Q,
        prompts,
        test.arms,
    )
    one_sided = gain.p / 2 if gain.estimate > 0 else 1 - gain.p / 2
    return LeakAudit(gain=gain.estimate, gain_ci=(gain.low, gain.high), p=one_sided, queries=len(test))


def ceiling_of(bench: Bench) -> float | None:
    """The upper end of what the best router could gain over the best arm of each task; None where it is not known."""
    try:
        return find_signal(bench).signal.over_task.high
    except OutcomesError:
        return None


def against_ceiling(
    bench: Bench, found: LeakAudit, utility_QA: FloatQA, choices: Sequence[IntQ], ceiling: float | None
) -> LeakAudit:
    """The audit, with what the choices gain over the best arm of each task of test."""
    over = over_each_task(utility_QA, _shares(choices, utility_QA), bench.splits.test.task_Q)
    if not np.isfinite([over.estimate, over.low, over.high]).all():
        return found
    update = {"over_task": over.estimate, "over_task_ci": (over.low, over.high), "ceiling": ceiling}
    return found.model_copy(update=update)


def _shares(choices: Sequence[IntQ], utility_QA: FloatQA) -> FloatQA:
    """The share of seeds that chose each arm."""
    chosen_QA = np.zeros(utility_QA.shape)
    for arm_Q in choices:
        chosen_QA[np.arange(len(arm_Q)), arm_Q] += 1 / len(choices)
    return chosen_QA
