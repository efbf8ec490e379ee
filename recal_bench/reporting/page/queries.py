"""The page's query lists: of every query its prompt, what each arm scored and cost, and what each router chose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from recal_bench.arrays import FloatQ, FloatQA, FloatSQ, StrQ
from recal_bench.defaults import UPPER_BOUND
from recal_bench.experiments.origins import outcomes_of
from recal_bench.experiments.records import Data, Run
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
        self.settings = entry.record.configuration.shown_settings


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
    outcomes, why = outcomes_of(group.data, [run for entry in group.entries for run in entry.runs])
    if outcomes is None:
        return None, f"Prompts are not shown: {why}."
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


def _cut(prompt: str) -> str:
    return prompt if len(prompt) <= _PROMPT_WIDTH else f"{prompt[:_PROMPT_WIDTH]} ..."


def _rounded(value_N: FloatQ, digits: int) -> list[float | None]:
    return [None if value != value else round(value, digits) for value in value_N.tolist()]


def _significant(value_N: FloatQ) -> list[float | None]:
    return [None if value != value else float(f"{value:.4g}") for value in value_N.tolist()]
