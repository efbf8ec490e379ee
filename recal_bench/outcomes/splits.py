"""Train, validation and what is evaluated, without leaks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from recal_bench.arrays import StrQ
from recal_bench.errors import OutcomesError, near_miss
from recal_bench.outcomes.dense import Outcomes, standard_split
from recal_bench.outcomes.missing import RULES, complete, take_arms
from recal_bench.outcomes.unknown_costs import UnknownCosts
from recal_bench.wording import counted, share, tallied

NEW_SPLIT_PERCENT = {"train": 60, "validation": 10, "test": 30}
NEW_VALIDATION_PERCENT = {"train": 85, "validation": 15}
_WELL_FILLED = 10


@dataclass(frozen=True)
class Splits:
    """What routers learn from, what they are judged on (`evaluation`: `test` first), and what was done to get there.

    `left_out` are the queries (task and id) of the outcomes that are in no split.
    """

    train: Outcomes
    validation: Outcomes
    evaluation: dict[str, Outcomes]
    notes: tuple[str, ...]
    left_out: frozenset[tuple[str, str]] = frozenset()

    @property
    def test(self) -> Outcomes:
        return self.evaluation["test"]

    @property
    def parts(self) -> dict[str, Outcomes]:
        """All splits by name, train and validation first."""
        return {"train": self.train, "validation": self.validation, **self.evaluation}


def prepare(
    outcomes: Outcomes, tasks: tuple[str, ...] = (), missing: str = "error", costs: UnknownCosts | None = None
) -> Splits:
    """Split some outcomes, of the given tasks or of all, so that no prompt is on two sides, and say what was done.

    `missing`: `error` refuses missing outcomes, `restrict` leaves them NaN, `zero` counts them as score 0 at the arm's
    mean train cost. `costs` is the rule for costs that are known in part; without one they stay as they are. Raises
    OutcomesError on an unknown task or rule, and where train, validation or test is empty.
    """
    if missing not in RULES:
        raise OutcomesError(f"--missing {missing}{near_miss(missing, RULES)}: it is one of {', '.join(RULES)}")
    notes = list(outcomes.notes)
    chosen = _of_tasks(outcomes, tasks, notes)
    prompt_Q = normalized_prompts(chosen.prompt_Q)
    split_Q = _named(chosen, prompt_Q, notes)
    kept_Q = _without_leaks(split_Q, prompt_Q, chosen.name, notes)
    chosen, split_Q, prompt_Q = chosen.take(kept_Q), split_Q[kept_Q], prompt_Q[kept_Q]
    if "validation" not in split_Q:
        split_Q = _with_validation(chosen, split_Q, prompt_Q, notes)
    chosen = replace(chosen, split_Q=split_Q)
    if costs is not None:
        chosen = costs.settle(chosen, missing, notes)
    chosen = complete(chosen, missing, notes)
    evaluation = {name: chosen.of_split(name) for name in _evaluated(chosen.split_Q)}
    left_out = _keys(outcomes) - _keys(chosen) if len(chosen) < len(outcomes) else frozenset()
    return Splits(chosen.of_split("train"), chosen.of_split("validation"), evaluation, tuple(notes), left_out)


def _keys(outcomes: Outcomes) -> frozenset[tuple[str, str]]:
    return frozenset(zip(outcomes.task_Q.astype(str), outcomes.query_id_Q.astype(str), strict=True))


def normalized_prompt(prompt: str) -> str:
    """Prompts that are equal in this form are the same prompt: capitals and white space do not count."""
    return " ".join(prompt.casefold().split())


def normalized_prompts(prompts: Iterable[str]) -> StrQ:
    """The same of each of many, `[Q]`."""
    # Without a call of our own for each: a million prompts are many.
    return np.array([*map(" ".join, map(str.split, map(str.casefold, prompts)))], dtype=object)


def _of_tasks(outcomes: Outcomes, tasks: tuple[str, ...], notes: list[str]) -> Outcomes:
    known = outcomes.tasks
    for task in tasks:
        if task not in known:
            raise OutcomesError(
                f"{outcomes.name} has no task {task}{near_miss(task, known)}: it has {', '.join(known)}"
            )
    if not tasks:
        return outcomes
    chosen = outcomes.take(np.isin(outcomes.task_Q, tasks))
    return take_arms(chosen, np.any(chosen.observed_QA, axis=0), "no outcome in these tasks", notes)


def _evaluated(split_Q: StrQ) -> list[str]:
    return sorted(set(split_Q) - {"train", "validation"}, key=lambda name: (name != "test", name))


def _named(outcomes: Outcomes, prompt_Q: StrQ, notes: list[str]) -> StrQ:
    """Each query's split under its standard name, or a new split where the outcomes have none."""
    names = sorted(set(outcomes.split_Q))
    if names == [""]:
        split_Q = assign(prompt_Q, outcomes.task_Q, NEW_SPLIT_PERCENT)
        if set(split_Q) != set(NEW_SPLIT_PERCENT):
            raise OutcomesError(
                f"{outcomes.name}: there is no split, and {len(set(prompt_Q))} prompts are too few to make train, "
                "validation and test of: give three queries to a task, or a column split"
            )
        notes.append(
            "no split in the file: 60% of each task's prompts became train, 10% validation and 30% test, in the order "
            f"of their SHA-256: {tallied(split_Q, 'query')}"
        )
        return split_Q
    standard = {name: standard_split(name) for name in names}
    for name, meaning in standard.items():
        same = [other for other in names if standard[other] == meaning]
        if len(same) > 1:
            raise OutcomesError(f"{outcomes.name}: splits {' and '.join(same)} both mean {meaning}: rename one of them")
        if name != meaning:
            notes.append(f"split {name} is taken as {meaning}")
    split_Q = np.array([standard[name] for name in outcomes.split_Q], dtype=object)
    for name in ("train", "test"):
        if name not in split_Q:
            raise OutcomesError(
                f"{outcomes.name}: there is no {name} query; the splits are {tallied(split_Q, 'query')}: name two of "
                "them train and test, or leave the column split out to have one made"
            )
    return split_Q


def assign(prompt_Q: StrQ, task_Q: StrQ, percent: dict[str, int]) -> StrQ:
    """A split for every query, `percent` of each task's prompts to each; queries of one prompt stay together.

    Within a task the prompts go to the splits in the order of their SHA-256, so neither the order of the queries nor
    other tasks matter, but for prompts that tasks share: these follow the task with fewer prompts. A task gets
    its shares to within one prompt, and at least one prompt in each split where it has as many as there are splits.
    """
    prompts = {task: set(prompt_Q[task_Q == task]) for task in sorted(set(task_Q))}
    split_of: dict[str, str] = {}
    # Tasks that must reach every split go first, the smallest of them before all, while its prompts are still free.
    for task in sorted(prompts, key=lambda each: (len(prompts[each]) < _WELL_FILLED, len(prompts[each]), each)):
        quota = _quotas(len(prompts[task]), percent)
        for prompt in prompts[task] & split_of.keys():
            quota[split_of[prompt]] -= 1
        free = sorted(prompts[task] - split_of.keys(), key=_digest)
        slots = [name for name in reversed(percent) for _ in range(quota[name])]
        split_of |= zip(free, slots, strict=False)
    return np.array([split_of[prompt] for prompt in prompt_Q], dtype=object)


def _digest(prompt: str) -> bytes:
    return hashlib.sha256(prompt.encode()).digest()


def _quotas(n: int, percent: dict[str, int]) -> dict[str, int]:
    """`n` shared out by rounding the running total; from `n` = the number of shares on, none is zero."""
    ends = [(n * total + 50) // 100 for total in np.cumsum(list(percent.values())).tolist()]
    quota = dict(zip(percent, np.diff([0, *ends]).tolist(), strict=True))
    for name in percent:
        if quota[name] == 0 and n >= len(percent):
            quota[max(quota, key=lambda each: quota[each])] -= 1
            quota[name] = 1
    return quota


def _without_leaks(split_Q: StrQ, prompt_Q: StrQ, source: str, notes: list[str]) -> np.ndarray:
    """Which queries stay when no prompt of an evaluated split is learnt from, and none of validation is in train."""
    kept_Q = np.ones(len(split_Q), dtype=bool)
    code_of = {prompt: code for code, prompt in enumerate(dict.fromkeys(prompt_Q))}
    code_Q = np.array([*map(code_of.__getitem__, prompt_Q)], dtype=np.int64)
    pairs = [(name, learnt) for name in _evaluated(split_Q) for learnt in ("train", "validation")] + [
        ("validation", "train")
    ]
    for judged, learnt in pairs:
        judged_P = np.bincount(code_Q[kept_Q & (split_Q == judged)], minlength=len(code_of)) > 0
        learnt_Q = kept_Q & (split_Q == learnt)
        leaked_Q = learnt_Q & judged_P[code_Q]
        if not leaked_Q.any():
            continue
        n_leaked, n_judged = len(np.unique(code_Q[leaked_Q])), int(judged_P.sum())
        part = share(n_leaked, n_judged)
        what = f"{n_leaked:,} of {n_judged:,} {judged} prompts ({part}) are also in {learnt}"
        if (leaked_Q == learnt_Q).all():
            raise OutcomesError(
                f"{source}: {what}, and without them no {learnt} query is left: give {learnt} prompts of its own, or "
                "leave the column split out to have a split by prompt made"
            )
        kept_Q &= ~leaked_Q
        notes.append(f"{what}: {counted(int(leaked_Q.sum()), f'{learnt} query')} with those prompts dropped")
    return kept_Q


def _with_validation(outcomes: Outcomes, split_Q: StrQ, prompt_Q: StrQ, notes: list[str]) -> StrQ:
    """Part of train becomes validation."""
    train = np.flatnonzero(split_Q == "train")
    split_Q = split_Q.copy()
    split_Q[train] = assign(prompt_Q[train], outcomes.task_Q[train], NEW_VALIDATION_PERCENT)
    n = int((split_Q == "validation").sum())
    if n == 0:
        raise OutcomesError(
            f"{outcomes.name}: there is no validation split, and train ({counted(len(train), 'query')}) is too small "
            "to take one from it: give more train queries, or a validation split"
        )
    notes.append(
        f"no validation split in the file: {n:,} of {len(train):,} train queries (15% of each task's prompts, in the "
        "order of their SHA-256) became validation"
    )
    return split_Q
