"""Whether routing can pay on some outcomes, told from what routers learn from, before any training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recal_bench.encoders import fit_encoder
from recal_bench.errors import OutcomesError
from recal_bench.experiments.bench import Bench
from recal_bench.experiments.records import Data
from recal_bench.outcomes.splits import normalized_prompt
from recal_bench.toolbox.signal import LEAST_QUERIES, Signal, estimate_signal
from recal_bench.wording import counted, show, some_of

ENCODER = "tfidf"
_LISTED = 10


@dataclass(frozen=True)
class FoundSignal:
    """The signal in a bench's train and validation queries, in utility, or in score where no cost is known (`what`).

    `notes` say in one line each what was left out.
    """

    data: Data
    what: str
    encoder: str
    signal: Signal
    notes: tuple[str, ...]


def find_signal(bench: Bench, encoder: str = ENCODER) -> FoundSignal:
    """How far task and text tell the arms apart on train and validation, and what the best router could gain.

    Test is not looked at. Every prompt counts once in its task; queries that lack an arm's outcome, and tasks of fewer
    than 20 queries, do not count. Raises OutcomesError where nothing is left, on a log of single choices and for a
    single arm, SettingsError on an unknown encoder.
    """
    name, arms = bench.data.name, bench.splits.train.arms
    if bench.data.logged:
        raise OutcomesError(
            f"{name} is a log of single choices, in which no query shows how arms differ: leave out --signal, or ask "
            "all arms of some queries"
        )
    if len(arms) < 2:
        raise OutcomesError(f"{name} has one arm, {arms[0]}: routing needs two or more")
    parts = (bench.splits.train, bench.splits.validation)
    value_QA = np.concatenate([bench.objective.utility(part.score_QA, part.cost_QA) for part in parts])
    task_Q, prompt_Q = (np.concatenate([getattr(part, each) for part in parts]) for each in ("task_Q", "prompt_Q"))
    noises = [part.noise_QA for part in parts if part.noise_QA is not None]
    noise_QA = np.concatenate(noises) if len(noises) == len(parts) else None

    notes = []
    complete_Q = ~np.isnan(value_QA).any(axis=1)
    if not complete_Q.all():
        notes.append(f"{int((~complete_Q).sum()):,} of {counted(len(complete_Q), 'query')} lack an arm: left out here")
    keys = [(task, normalized_prompt(prompt)) for task, prompt in zip(task_Q, prompt_Q, strict=True)]
    first = {keys[row]: row for row in reversed(np.flatnonzero(complete_Q).tolist())}
    rows = np.array(sorted(first.values()), dtype=np.int64)
    if repeats := int(complete_Q.sum()) - len(rows):
        notes.append(f"{counted(repeats, 'query')} with the prompt of another one of the task: left out here")
    tasks, number_R, count_T = np.unique(task_Q[rows].astype(str), return_inverse=True, return_counts=True)
    small_T = count_T < LEAST_QUERIES
    if small_T.all():
        raise OutcomesError(
            f"{name}: no task has {LEAST_QUERIES} train and validation queries on which all {len(arms)} arms have an "
            "outcome, fewer of which do not tell the signal: give more queries, or fewer arms"
        )
    if small_T.any():
        names = some_of([show(task) for task in tasks[small_T]], _LISTED)
        notes.append(f"{counted(int(small_T.sum()), 'task')} of fewer than {LEAST_QUERIES} queries left out: {names}")
    rows = rows[~small_T[number_R]]
    prompts = tuple(prompt_Q[rows])
    signal = estimate_signal(
        value_QA[rows],
        task_Q[rows],
        fit_encoder(encoder, prompts).encode(prompts),
        arms,
        None if noise_QA is None else noise_QA[rows],
    )
    return FoundSignal(bench.data, "utility" if bench.objective.has_cost else "score", encoder, signal, tuple(notes))
