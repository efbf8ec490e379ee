"""The same outcomes made harder to learn from: less of train, or arms that train does not hold."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from recal_bench.arrays import IntQ
from recal_bench.errors import SettingsError, near_miss
from recal_bench.experiments.bench import Bench
from recal_bench.outcomes import Arm, Outcomes, mean_over_observed


def with_train_fraction(bench: Bench, fraction: float) -> Bench:
    """A share of train to learn from; the objective and what is evaluated stay.

    Of each task that share of the queries is kept, at least one; a larger share holds the queries of a smaller one.
    Raises SettingsError on a share that is not above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise SettingsError(f"a train fraction of {fraction:g}: give a share above 0, at most 1")
    part = part_of_train(bench.splits.train, fraction)
    n_queries = {**bench.data.n_queries, "train": len(part)}
    return replace(
        bench,
        data=bench.data.model_copy(update={"train_fraction": fraction, "n_queries": n_queries}),
        splits=replace(bench.splits, train=part),
        options=(*bench.options, "--train-fraction", repr(fraction)),
        mean_score_A=mean_over_observed(part.score_QA, part.propensity_Q),
        mean_cost_A=mean_over_observed(part.cost_QA, part.propensity_Q),
    )


def part_of_train(train: Outcomes, fraction: float) -> Outcomes:
    """That share of each task's queries, at least one."""
    order_Q = _drawn(train, "fraction")
    of_task = [order_Q[train.task_Q[order_Q] == task] for task in train.tasks]
    kept = [rows[: max(1, round(fraction * len(rows)))] for rows in of_task]
    return train.take(np.sort(np.concatenate(kept)))


def with_held_out(bench: Bench, names: Sequence[str], labelled: int) -> Bench:
    """Arms that train and validation do not hold, and that a router may meet when it is evaluated.

    `names` are arms (`model|strategy`) or models with all their arms. A router that can `adapt` gets the outcomes of
    the new arms on `labelled` train queries, drawn evenly from the tasks; others choose among the known arms. The
    objective stays. Raises SettingsError on an unknown name, and where no arm would be left or labelled.
    """
    if bench.data.logged:
        raise SettingsError(
            "--hold-out-arms needs the outcomes of several arms on the same queries: a log of single choices has one"
        )
    arms = bench.splits.train.arms
    new = [index for index, arm in enumerate(arms) if str(arm) in names or arm.model in names]
    _check_held_out(arms, names, new)
    if not 1 <= labelled <= len(bench.splits.train):
        raise SettingsError(
            f"--labelled {labelled}: give a number from 1 to {len(bench.splits.train):,}, train's queries"
        )
    known = [index for index in range(len(arms)) if index not in new]
    train = bench.splits.train
    rows = _evenly(train, labelled)
    few = train.take(rows).take_arms(np.array(new))
    splits = replace(
        bench.splits,
        train=train.take_arms(np.array(known)),
        validation=bench.splits.validation.take_arms(np.array(known)),
        evaluation={name: part.take_arms(np.array(known + new)) for name, part in bench.splits.evaluation.items()},
    )
    held_out = tuple(str(arms[index]) for index in new)
    ordered = tuple(str(arms[index]) for index in known + new)
    return replace(
        bench,
        data=bench.data.model_copy(update={"held_out": held_out, "labelled": labelled, "arms": ordered}),
        splits=splits,
        few=few,
        options=(*bench.options, "--hold-out-arms", ",".join(names), "--labelled", str(labelled)),
        mean_score_A=np.concatenate([bench.mean_score_A[known], mean_over_observed(few.score_QA)]),
        mean_cost_A=np.concatenate([bench.mean_cost_A[known], mean_over_observed(few.cost_QA)]),
    )


def _check_held_out(arms: tuple[Arm, ...], names: Sequence[str], new: list[int]) -> None:
    there = [*map(str, arms), *dict.fromkeys(arm.model for arm in arms)]
    for name in names:
        if name not in there:
            raise SettingsError(
                f"--hold-out-arms: there is no arm or model {name}{near_miss(name, there)}: the arms are "
                f"{', '.join(map(str, arms))}"
            )
    if len(new) == len(arms):
        raise SettingsError("--hold-out-arms names all arms: leave some to learn from")


def _drawn(train: Outcomes, what: str) -> IntQ:
    """The rows in an order drawn from what they are, so that the order of the file does not show."""
    keys = zip(train.task_Q, train.query_id_Q, strict=True)
    return np.argsort([hashlib.sha256(f"{what}\n{task}\n{query}".encode()).hexdigest() for task, query in keys])


def _evenly(train: Outcomes, count: int) -> IntQ:
    """So many rows, of the tasks in turn."""
    order_Q = _drawn(train, "labelled")
    turn_Q = np.zeros(len(train), dtype=np.int64)
    for task in train.tasks:
        of_task = order_Q[train.task_Q[order_Q] == task]
        turn_Q[of_task] = np.arange(len(of_task))
    return np.sort(order_Q[np.argsort(turn_Q[order_Q], kind="stable")][:count])
