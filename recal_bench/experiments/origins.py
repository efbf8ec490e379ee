"""The outcomes that runs were made on, read again from where their commands say that they lie."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recal_bench.errors import OutcomesError, RecalBenchError, RunError
from recal_bench.experiments.bench import load_outcomes
from recal_bench.experiments.records import Data, Run
from recal_bench.experiments.variants import part_of_train
from recal_bench.outcomes import Outcomes
from recal_bench.outcomes.splits import Splits, prepare
from recal_bench.outcomes.unknown_costs import UnknownCosts
from recal_bench.provenance import DATA_VARIABLE


def outcomes_of(data: Data, runs: Sequence[Run]) -> tuple[Outcomes | None, str]:
    """The outcomes that runs were made on, if they can still be read and are the same; else why not."""
    why = "no run's command names the outcomes file"
    tried: list[dict[str, Any]] = []
    for command in dict.fromkeys(run.record.command for run in runs):
        try:
            options = _world(data) if data.simulated else _reading(shlex.split(command))
            if options is None or options in tried:
                continue
            tried.append(options)
            outcomes = load_outcomes(**options)
        except (RecalBenchError, OSError, ValueError):
            why = "the outcomes that the runs' commands name cannot be read from here"
            continue
        if outcomes.data_hash == data.hash:
            return outcomes, ""
        why = "the outcomes that the runs' commands name are others by now"
    return None, why


def splits_of(run: Run, path: Path | None = None) -> Splits:
    """The splits that a run was made on, from the outcomes file at `path` or where its command says.

    Unknown costs that the run estimated stay unknown. Raises RunError where the file is not to be found or another.
    """
    data = run.record.configuration.data
    if path is None:
        outcomes, why = outcomes_of(data, [run])
        if outcomes is None:
            raise RunError(f"{run.folder}: {why}: name the outcomes file with --outcomes")
    else:
        options = _reading(shlex.split(run.record.command)) or {}
        outcomes = load_outcomes(**options | {"path": path})
        if outcomes.data_hash != data.hash:
            raise OutcomesError(f"{path} does not hold the outcomes that {run.folder} was made on: give that file")
    costs = UnknownCosts("drop") if data.cost_rule.startswith("drop") else None
    splits = prepare(outcomes, data.tasks, data.missing, costs)
    train = part_of_train(splits.train, data.train_fraction)
    if len(train) != data.n_queries["train"]:
        raise RunError(f"{run.folder} was made with other rules for splits than there are here: run it again")
    return Splits(train, splits.validation, splits.evaluation, splits.notes)


def _world(data: Data) -> dict[str, Any] | None:
    """The options of `load_outcomes` that give a world of the embedded pool, which its name tells."""
    named = re.fullmatch(r"embedded(?:-(efforts))?(?:-seed(-?\d+))?", data.name)
    return None if named is None else {"world_arms": named[1] or "standard", "world_seed": int(named[2] or 0)}


def _reading(words: Sequence[str]) -> dict[str, Any] | None:
    """The options of `load_outcomes` by which the words of a command read a file; None where they name none.

    Raises ValueError on a range of scores that is none.
    """
    path = _option(words, "--outcomes")
    if path is None:
        return None
    if path.startswith(f"${DATA_VARIABLE}/"):
        path = os.path.expandvars(path)
    low, _, high = (_option(words, "--score-range") or "0,1").partition(",")
    others = {name.replace("-", "_"): _option(words, f"--{name}") for name in ("zero-cost", "split-by")}
    return {"path": path, "score_range": (float(low), float(high)), **others}


def _option(words: Sequence[str], name: str) -> str | None:
    """An option's value in the words of a command."""
    for word, after in zip(words, [*words[1:], None], strict=True):
        if word == name:
            return after
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None
