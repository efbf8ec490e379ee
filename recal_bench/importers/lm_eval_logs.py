"""Output folders of `lm_eval --log_samples`: which files count, what they hold. The rows are made in `lm_eval`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recal_bench.errors import OutcomesError, near_miss
from recal_bench.importers.files import SourceRow, json_file, json_lines
from recal_bench.wording import counted, show

_NAME = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.jsonl")
_PREFERRED = ("exact_match", "acc")
_NOT_A_METRIC = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash",
    "target_hash",
}  # fmt: skip


@dataclass(frozen=True)
class Samples:
    """A task's samples file of one run of one model. `downward` are the metrics whose small values are good."""

    path: Path
    task: str
    stamp: str
    model: str
    downward: frozenset[str]


def newest(sources: Sequence[Path], notes: list[str]) -> list[Samples]:
    """The newest samples file of each model and task in the sources, by task and model.

    Raises OutcomesError where there is none, and where two folders hold the same model's samples of one task.
    """
    groups: defaultdict[tuple[str, str], list[Samples]] = defaultdict(list)
    for path in sorted({path for source in sources for path in _files(source)}):
        samples = _samples(path, notes)
        groups[samples.task, samples.model].append(samples)
    chosen = []
    older = 0
    for (task, model), found in sorted(groups.items()):
        folders = sorted({str(samples.path.parent) for samples in found})
        if len(folders) > 1:
            raise OutcomesError(
                f"{folders[0]} and {folders[1]} both hold task {task} of model {show(model)}: import them apart, or "
                "remove one"
            )
        last = max(found, key=lambda samples: samples.stamp)
        chosen.append(last)
        older += len(found) - 1
        if len(found) > 1:
            notes.append(f"{show(model)}, {task}: the run of {last.stamp} is the newest of {len(found)}, and counts")
    return chosen


def _files(source: Path) -> list[Path]:
    if not source.exists():
        raise OutcomesError(f"{source} does not exist: check the path")
    found = [source] if source.is_file() else list(source.rglob("samples_*.jsonl"))
    named = [path for path in found if _NAME.fullmatch(path.name)]
    if not named:
        raise OutcomesError(
            f"{source} holds no samples_TASK_TIME.jsonl: give what `lm_eval --log_samples --output_path` wrote"
        )
    return named


def _samples(path: Path, notes: list[str]) -> Samples:
    parts = _NAME.fullmatch(path.name)
    assert parts is not None
    task, stamp = parts.groups()
    model, downward = path.parent.name, frozenset[str]()
    # `results_TIME.json`, or `NAME_TIME.json` where --output_path named a file.
    for beside in sorted(path.parent.glob(f"*_{stamp}.json")):
        results = json_file(beside)
        if isinstance(results, dict):
            model = str(results.get("model_name") or model)
            upward = results.get("higher_is_better")
            upward = upward.get(task) if isinstance(upward, dict) else None
            if isinstance(upward, dict):
                downward = frozenset(name for name, is_up in upward.items() if is_up is False)
            break
    else:
        notes.append(f"{path.name}: no results file beside it, so the model is called after the folder, {model}")
    return Samples(path, task, stamp, model, downward)


@dataclass(frozen=True)
class Choice:
    """Which filter's rows of a task are read, and which metric is the score."""

    filter: str
    metric: str


def choose(files: Sequence[Samples], wanted_filter: str | None, wanted_metric: str | None) -> Choice:
    """The filter and the metric of one task, the same for all its files.

    What is wanted counts where the task has it. Raises OutcomesError where there are several, naming them.
    """
    metrics: defaultdict[str, list[set[str]]] = defaultdict(list)
    for samples in files:
        for name, found in _filters(samples).items():
            metrics[name].append(found - samples.downward)
    shared = {name: set.intersection(*found) for name, found in metrics.items() if len(found) == len(files)}
    where = f"{files[0].path}: task {files[0].task}"
    if not shared:
        raise OutcomesError(f"{where} has no filter that all its models share: run them again with one lm_eval")
    if wanted_filter not in shared and len(shared) > 1:
        names = ", ".join(sorted(shared))
        raise OutcomesError(f"{where} is scored with several filters: choose one with --filter: {names}")
    chosen = wanted_filter if wanted_filter in shared else next(iter(shared))
    assert chosen is not None
    known = shared[chosen]
    preferred = [name for name in (wanted_metric, *_PREFERRED, *(known if len(known) == 1 else ())) if name in known]
    if not preferred:
        names = ", ".join(sorted(known))
        raise OutcomesError(
            f"{where} has several metrics: choose one with --metric: {names}"
            if known
            else f"{where} has no metric that can be a score (a number for each sample, the higher the better)"
        )
    assert preferred[0] is not None
    return Choice(chosen, preferred[0])


def check_wanted(option: str, wanted: str | None, choices: Sequence[Choice], notes: list[str]) -> None:
    """Raises OutcomesError where no task has what an option names; a note where some have not."""
    found = [choice.filter if option == "--filter" else choice.metric for choice in choices]
    if wanted is None:
        return
    if wanted not in found:
        known = ", ".join(sorted(set(found)))
        raise OutcomesError(f"no task has {option} {wanted}{near_miss(wanted, found)}: without it they use {known}")
    others = [name for name in found if name != wanted]
    if others:
        names = ", ".join(sorted(set(others)))
        notes.append(f"{counted(len(others), 'task')} without {option} {wanted}: read by {names}")


def _filters(samples: Samples) -> dict[str, set[str]]:
    """The filters in a samples file, each with the metrics that give a number."""
    found: dict[str, set[str]] = {}
    for _, record in json_lines(samples.path):
        name = filter_of(record)
        if name not in found:
            found[name] = {metric for metric in _metrics(record) if _is_number(record.get(metric))}
    if not found:
        raise OutcomesError(f"{samples.path} holds no sample: run the task again, or remove the file")
    return found


def filter_of(record: SourceRow) -> str:
    return str(record.get("filter") or "none")


def _metrics(record: SourceRow) -> Sequence[str]:
    named = record.get("metrics")
    if isinstance(named, list):
        return [name for name in named if isinstance(name, str)]
    return [name for name in record if name not in _NOT_A_METRIC]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
