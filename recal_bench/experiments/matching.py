"""Decisions and paraphrases from elsewhere, matched with the queries and arms of a bench."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recal_bench.arrays import FloatQ, IntQ
from recal_bench.errors import OutcomesError, near_miss
from recal_bench.experiments.bench import Bench
from recal_bench.importers.decisions import Decided
from recal_bench.outcomes import Arm
from recal_bench.wording import counted, listed, show, some_of

_EXAMPLES = 3
Key = tuple[str, str]
"""Task and query_id."""


@dataclass(frozen=True)
class Chosen:
    """What one seed chose on one split: the place of an arm for every query; `cost_Q` (USD) is the router's own, None
    where it is not known."""

    arm_Q: IntQ
    cost_Q: FloatQ | None


def matched(bench: Bench, rows: Sequence[Decided], what: str) -> tuple[dict[int, dict[str, Chosen]], tuple[str, ...]]:
    """Decisions by seed and evaluated split, in the order of its queries; and what was not used. Raises as
    `read_external` does, with `what` in front.
    """
    arms = bench.splits.test.arms
    place = {written: arm_named(written, arms, what, rows) for written in dict.fromkeys(row.arm for row in rows)}
    keys = _keys_of(bench, rows, what)
    chosen: dict[int, dict[Key, Decided]] = defaultdict(dict)
    twice = []
    for row, key in zip(rows, keys, strict=True):
        if key in chosen[row.seed]:
            twice.append(row)
        chosen[row.seed][key] = row
    if twice:
        raise OutcomesError(
            f"{what}: {counted(len(twice), 'query')} decided twice{_such_as(twice)}: keep one decision of each, or "
            "tell seeds apart with a column seed"
        )
    judged = {name: _keys(bench, name) for name in bench.splits.evaluation}
    by_seed: dict[int, dict[str, Chosen]] = defaultdict(dict)
    for seed, found in sorted(chosen.items()):
        for name, keys_Q in judged.items():
            absent = [query_id for task, query_id in keys_Q if (task, query_id) not in found]
            if absent:
                of_seed = f" of seed {seed}" if len(chosen) > 1 else ""
                raise OutcomesError(
                    f"{what}: the decisions{of_seed} lack {len(absent):,} of {counted(len(keys_Q), f'{name} query')}, "
                    f"e.g. {some_of([show(each) for each in absent], _EXAMPLES)}: decide on all of them"
                )
            of_query = [found[key] for key in keys_Q]
            arm_Q = np.array([place[row.arm] for row in of_query], dtype=np.int64)
            _require_available(bench, name, arm_Q, what)
            costs = [row.cost for row in of_query]
            cost_Q = None if None in costs else np.array(costs, dtype=np.float64)
            by_seed[seed][name] = Chosen(arm_Q, cost_Q)
    used = set().union(*judged.values())
    unused = len(rows) - sum(key in used for key in keys)
    notes = (f"{counted(unused, 'decision')} on queries that are not judged: not used",) if unused else ()
    return dict(by_seed), notes


def arm_named(written: str, arms: Sequence[Arm], what: str, rows: Sequence[Decided] = ()) -> int:
    """The place of an arm that is written `model|strategy`, or as its model where that has one strategy.

    Raises OutcomesError where there is none, or more than one; `rows` are counted that name it.
    """
    names = [str(arm) for arm in arms]
    if written in names:
        return names.index(written)
    of_model = [number for number, arm in enumerate(arms) if arm.model == written]
    if len(of_model) == 1:
        return of_model[0]
    where = ""
    if in_rows := [row for row in rows if row.arm == written]:
        where = f" in {counted(len(in_rows), 'row')}, first {in_rows[0].where.unit} {in_rows[0].where.number:,}"
    if of_model:
        raise OutcomesError(
            f"{what}: {show(written)}{where} is a model with {len(of_model)} strategies: name the arm, one of "
            f"{some_of([names[number] for number in of_model], 10)}"
        )
    known = [*names, *dict.fromkeys(arm.model for arm in arms)]
    raise OutcomesError(
        f"{what}: there is no arm or model {show(written)}{near_miss(written, known)}{where}: the arms are "
        f"{some_of(names, 10)}"
    )


def _keys_of(bench: Bench, rows: Sequence[Decided], what: str) -> list[Key]:
    """The task and id of the query that each row is about, of all queries of the outcomes.

    Raises OutcomesError on a query that they do not hold, and on an id of several tasks where no task is named.
    """
    known: set[Key] = {key for name in bench.splits.parts for key in _keys(bench, name)} | bench.splits.left_out
    tasks_of: dict[str, set[str]] = defaultdict(set)
    for task, query_id in known:
        tasks_of[query_id].add(task)
    found, unknown, unclear = [], [], []
    for row in rows:
        tasks = tasks_of.get(row.query_id, set())
        if row.task is None and len(tasks) > 1:
            unclear.append(row)
        elif not tasks or row.task not in (None, *tasks):
            unknown.append(row)
        else:
            found.append((row.task or next(iter(tasks)), row.query_id))
    if unknown:
        raise OutcomesError(
            f"{what}: {len(unknown):,} of {counted(len(rows), 'row')} name queries that {bench.data.name} does not hold"
            f"{_such_as(unknown)}: is it the file of these outcomes?"
        )
    if unclear:
        names = sorted(tasks_of[unclear[0].query_id])
        raise OutcomesError(
            f"{what}: {counted(len(unclear), 'row')} name a query_id that several tasks have{_such_as(unclear)} in "
            f"{listed(names)}: add a column task"
        )
    return found


def _such_as(rows: Sequence[Decided]) -> str:
    named = [f"{show(row.query_id, 40)} ({row.where.unit} {row.where.number:,})" for row in rows]
    return f", e.g. {some_of(named, _EXAMPLES)}"


def _keys(bench: Bench, split: str) -> list[Key]:
    part = bench.splits.parts[split]
    return list(zip(part.task_Q.astype(str).tolist(), part.query_id_Q.astype(str).tolist(), strict=True))


def _require_available(bench: Bench, split: str, arm_Q: IntQ, what: str) -> None:
    part = bench.splits.evaluation[split]
    without_Q = ~bench.calls(part).available_QA[np.arange(len(part)), arm_Q]
    if without_Q.any():
        names = [show(each, 40) for each in part.query_id_Q[without_Q]]
        raise OutcomesError(
            f"{what}: the chosen arm has no outcome for {counted(len(names), f'{split} query')}, e.g. "
            f"{some_of(names, _EXAMPLES)}: choose among the arms that have one, or give --missing zero"
        )
