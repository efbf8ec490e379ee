"""The rows of a comparison that no router can be, as runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recal_bench import provenance
from recal_bench.defaults import BASELINE, KNOWN_TRUTH, SAVINGS_TARGET, TASK_BEST, UPPER_BOUND
from recal_bench.evaluation import references
from recal_bench.experiments.bench import Bench
from recal_bench.experiments.records import Configuration, Run, read_run
from recal_bench.experiments.replay import bayes_arms, decision_frame
from recal_bench.experiments.work import METRICS, begin, find_run, finish, locked, record_of, recover, write_decisions
from recal_bench.outcomes import Outcomes
from recal_bench.routers import Decisions
from recal_bench.toolbox.targets import typical_values

if TYPE_CHECKING:
    import pandas as pd


def run_references(bench: Bench, folder: Path, command: str | None = None, fresh: bool = False) -> list[Run]:
    """The rows that no router can be: `oracle`, `task-best`, `best-accuracy` (one arm) and, where the truth is known,
    `bayes`. What they choose on train is chosen on train; only the oracle, which a log of single choices lacks, looks
    at the outcomes it is judged on.
    """
    if command is None:
        command = provenance.command_line("recal-bench", "run", "--router", BASELINE, *bench.options)
    train, objective = bench.charged(bench.splits.train), bench.objective
    train_utility_QA = objective.utility(train.score_QA, train.cost_QA)
    accuracy_A = typical_values(train.score_QA, train, np.min)
    mean_cost_A = bench.mean_cost_A[: len(train.arms)]
    choosers: dict[str, Callable[[Outcomes], Decisions]] = {
        TASK_BEST: lambda part: Decisions(
            references.task_best(
                train_utility_QA,
                train.task_Q,
                part.task_Q,
                bench.calls(bench.of_train_arms(part)).available_QA,
                mean_cost_A,
                train.propensity_Q,
            )
        ),
        SAVINGS_TARGET: lambda part: bench.calls(bench.of_train_arms(part)).choose(np.tile(accuracy_A, (len(part), 1))),
    }
    if not bench.data.logged:
        choosers[UPPER_BOUND] = lambda part: Decisions(
            references.oracle(objective.utility(part.score_QA, bench.charged(part).cost_QA), part.cost_QA)
        )
    if train.expected_score_QA is not None:
        choosers[KNOWN_TRUTH] = lambda part: Decisions(bayes_arms(objective, part))
    return [_run_reference(bench, name, choose, folder, command, fresh) for name, choose in choosers.items()]


def _run_reference(
    bench: Bench, name: str, choose: Callable[[Outcomes], Decisions], folder: Path, command: str, fresh: bool
) -> Run:
    import pandas as pd

    configuration = Configuration(
        router=name,
        settings={},
        seed=0,
        device="cpu",
        data=bench.data,
        source=provenance.source_hash(Bench),
        versions=provenance.versions_used(references.oracle),
    )
    target = folder / f"{name}-{configuration.key}-s0"
    if not fresh and (found := find_run(bench, target)):
        return found
    with locked(target):
        recover(target)
        if not fresh and (found := find_run(bench, target)):
            return found
        started = datetime.now(timezone.utc)
        work, _ = begin(target, fresh)
        frames: list[pd.DataFrame] = [
            decision_frame(bench, split, part, choose(part), bench.calls(part))
            for split, part in bench.splits.evaluation.items()
        ]
        write_decisions(pd.concat(frames, ignore_index=True), work)
        (work / METRICS).unlink()
        finish(target, record_of(bench, configuration, started, reference=True, deterministic=True, command=command))
    return read_run(target)
