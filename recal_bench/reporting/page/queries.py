"""The page's query lists: of every query its prompt, what each arm scored and cost, and what each router chose."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from recal_bench.arrays import FloatQ, FloatQA, FloatSQ, StrQ
from recal_bench.defaults import UPPER_BOUND
from recal_bench.errors import RecalBenchError
from recal_bench.experiments.bench import load_outcomes
from recal_bench.experiments.records import Data, Run
from recal_bench.outcomes import Outcomes
from recal_bench.provenance import DATA_VARIABLE
from recal_bench.reporting.figures.entries import Entry, Group, read_groups
from recal_bench.reporting.figures.logged import LOGGED
from recal_bench.reporting.figures.names import labels

MOST_QUERIES = 20_000
"""Queries beyond which the list is a sample, evenly over splits and tasks."""
_PROMPT_WIDTH = 4_000


class _Asked(NamedTuple):
    """What outcomes hold of a group's queries: prompts, and the score and cost (USD) of its arms, NaN where unknown."""

    prompt_Q: list[str]
    score_QA: FloatQA
    cost_QA: FloatQA


def query_lists(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One list for each set of outcomes among the runs.

    Runs keep no prompts, and of the arms only the chosen ones: the rest is read from where the runs' commands say that
    the outcomes lie. Where they are not there, or are others by now, the list says so and does without.
    """
    return [_list(group) for group in read_groups(runs)]


def _list(group: Group) -> dict[str, Any]:
    count = len(group.query_id_Q)
    kept = np.unique(np.linspace(0, count - 1, min(count, MOST_QUERIES)).round().astype(int))
    asked, note = _asked(group, kept)
    arms = [*group.data.arms, *(arm for arm in group.data.held_out if arm not in group.data.arms)]
    names = labels([_Named(entry) for entry in group.entries])
    choices = [_choices(entry.arm_SQ[:, kept], arms) for entry in group.entries]
    measure, meaning, lost_RQ = _lost(group)
    lost = [_rounded(lost_Q[kept], 4) for lost_Q in lost_RQ]
    if group.logged is not None:
        names, lost = [*names, LOGGED], [*lost, [None] * len(kept)]
        choices.append(_choices(group.logged.arm_Q[None, kept], arms))
    splits, split_Q = np.unique(group.split_Q[kept].astype(str), return_inverse=True)
    tasks, task_Q = np.unique(group.task_Q[kept].astype(str), return_inverse=True)
    found: dict[str, Any] = {
        "name": group.data.name,
        "total": count,
        "note": note,
        "arms": arms,
        "routers": names,
        "splits": splits.tolist(),
        "tasks": tasks.tolist(),
        "split": split_Q.tolist(),
        "task": task_Q.tolist(),
        "id": group.query_id_Q[kept].tolist(),
        "choice": choices,
        "lost": lost,
        "measure": measure,
        "meaning": meaning,
    }
    if asked is not None:
        found["prompt"] = [
            prompt if len(prompt) <= _PROMPT_WIDTH else f"{prompt[:_PROMPT_WIDTH]} …" for prompt in asked.prompt_Q
        ]
        found["score"] = [_rounded(score_A, 4) for score_A in asked.score_QA]
        found["cost"] = [_significant(1000 * cost_A) for cost_A in asked.cost_QA]
    return found


class _Named:
    """An entry as `labels` wants it."""

    def __init__(self, entry: Entry) -> None:
        self.router, self.settings_hash = entry.router, entry.settings_hash
        self.settings = entry.record.configuration.settings


def _choices(arm_SQ: StrQ, arms: Sequence[str]) -> list[int | list[int]]:
    """The arm of each query, as its place in `arms` (-1: none of them); a list where seeds differ."""
    place = {arm: number for number, arm in enumerate(arms)}
    found: list[int | list[int]] = []
    for chosen in zip(*arm_SQ, strict=True):
        numbers = [place.get(arm, -1) for arm in chosen]
        found.append(numbers[0] if len(set(numbers)) == 1 else numbers)
    return found


def _lost(group: Group) -> tuple[str | None, str | None, list[FloatQ]]:
    """What that is called which is lost, its meaning, and how much each entry lost on each query, mean over seeds.

    NaN where it is unknown, and no name where it is unknown of all.
    """
    if any(np.isfinite(entry.regret_SQ).any() for entry in group.entries):
        meaning = "the expected utility given away to the best arm by the truth"
        return "regret", meaning, [entry.regret_SQ.mean(axis=0) for entry in group.entries]
    best, what = group.find(UPPER_BOUND), "score" if group.data.unknown_costs else "utility"
    meaning = f"what was lost against the best arm in hindsight, in {what}"
    if best is None or group.logged is not None:
        return None, None, [np.full(len(group.query_id_Q), np.nan)] * len(group.entries)
    lost = [_value(best, group.data)[0] - _value(entry, group.data).mean(axis=0) for entry in group.entries]
    return f"{what} lost", meaning, lost


def _value(entry: Entry, data: Data) -> FloatSQ:
    return entry.score_SQ if data.unknown_costs else entry.utility_SQ


def _asked(group: Group, kept: np.ndarray) -> tuple[_Asked | None, str | None]:
    """What the outcomes hold of the kept queries; or why they are not shown."""
    outcomes, why = _outcomes_of(group.data, [run for entry in group.entries for run in entry.runs])
    if outcomes is None:
        return None, why
    keys = zip(outcomes.task_Q, outcomes.query_id_Q, strict=True)
    row_of = {(str(task), str(query_id)): row for row, (task, query_id) in enumerate(keys)}
    wanted = zip(group.task_Q[kept], group.query_id_Q[kept], strict=True)
    rows = [row_of.get((str(task), str(query_id)), -1) for task, query_id in wanted]
    if -1 in rows:
        return None, "Prompts are not shown: the outcomes do not hold all of these queries."
    arm_of = {str(arm): number for number, arm in enumerate(outcomes.arms)}
    arms = [*group.data.arms, *(arm for arm in group.data.held_out if arm not in group.data.arms)]
    columns = [arm_of[arm] for arm in arms]
    place = np.ix_(rows, columns)
    return _Asked(list(outcomes.prompt_Q[rows]), outcomes.score_QA[place], outcomes.cost_QA[place]), None


def _outcomes_of(data: Data, runs: Sequence[Run]) -> tuple[Outcomes | None, str]:
    """The outcomes that runs were made on, if they can still be read and are the same; else why not."""
    why = "Prompts are not shown: no run's command names the outcomes file."
    tried: list[dict[str, Any]] = []
    for command in dict.fromkeys(run.record.command for run in runs):
        try:
            options = _world(data) if data.simulated else _reading(shlex.split(command))
            if options is None or options in tried:
                continue
            tried.append(options)
            outcomes = load_outcomes(**options)
        except (RecalBenchError, OSError, ValueError):
            why = "Prompts are not shown: the outcomes that the runs' commands name cannot be read from here."
            continue
        if outcomes.data_hash == data.hash:
            return outcomes, ""
        why = "Prompts are not shown: the outcomes that the runs' commands name are others by now."
    return None, why


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
    return {"path": path, "score_range": (float(low), float(high)), "zero_cost": _option(words, "--zero-cost")}


def _option(words: Sequence[str], name: str) -> str | None:
    """An option's value in the words of a command."""
    for word, after in zip(words, [*words[1:], None], strict=True):
        if word == name:
            return after
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def _cut(prompt: str) -> str:
    return prompt if len(prompt) <= _PROMPT_WIDTH else f"{prompt[:_PROMPT_WIDTH]} ..."


def _rounded(value_N: FloatQ, digits: int) -> list[float | None]:
    return [None if value != value else round(value, digits) for value in value_N.tolist()]


def _significant(value_N: FloatQ) -> list[float | None]:
    return [None if value != value else float(f"{value:.4g}") for value in value_N.tolist()]
