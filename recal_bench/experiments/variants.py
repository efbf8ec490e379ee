"""The same outcomes with less of train, arms that train does not hold, fewer labels, or with latency charged."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from recal_bench.arrays import IntQ, IntQA
from recal_bench.errors import SettingsError, near_miss
from recal_bench.experiments.bench import Bench
from recal_bench.outcomes import Arm, Outcomes, mean_over_observed
from recal_bench.wording import counted, listed


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


def with_latency_price(bench: Bench, price: float) -> Bench:
    """A second of latency takes so much from the utility of every outcome, in what routers learn and are judged by.

    Raises SettingsError on a price that is not a finite number above 0, where a latency is unknown, and where cost has
    no price by which the charge could be told to routers.
    """
    option, name = f"--latency-price {price:g}", bench.data.name
    if not (np.isfinite(price) and price > 0):
        raise SettingsError(f"{option}: give a finite number above 0, the utility that a second takes")
    if bench.data.logged:
        raise SettingsError(
            f"{option}: {name} is a log of single choices, whose estimates hold no latency: leave it out"
        )
    if not bench.objective.has_cost or not bench.objective.alpha:
        raise SettingsError(f"{option} is charged as a cost: it needs the cost of every outcome and an --alpha above 0")
    parts = bench.splits.parts.values()
    if any(part.latency_QA is None for part in parts):
        raise SettingsError(f"{option}: {name} has no latencies that can be read: give a column latency_s, in seconds")
    unknown = sum(
        int((part.observed_QA & np.isnan(part.latency_QA)).sum()) for part in parts if part.latency_QA is not None
    )
    if unknown:
        raise SettingsError(
            f"{option}: {counted(unknown, 'outcome')} of {name} have no known latency, which is not one of zero: leave "
            "out these rows and choose --missing restrict"
        )
    return replace(
        bench,
        data=bench.data.model_copy(update={"latency_price": price}),
        objective=replace(bench.objective, latency_price=price),
        options=(*bench.options, "--latency-price", repr(price)),
    )


def with_labels_per_query(bench: Bench, labels: int) -> Bench:
    """Of each train query the outcomes of so many arms, drawn at random; the objective and what is evaluated stay.

    Validation stays whole. The draw depends on task, query and arm alone: it is the same for every router, and a larger
    number holds the outcomes of a smaller one. Of a query with fewer outcomes all are kept.
    Raises SettingsError on a number that is not from 1 to one less than the arms, where an arm is left without any
    outcome, and where the outcomes cannot be thinned out in this way.
    """
    train = bench.splits.train
    if bench.data.logged:
        raise SettingsError("--labels-per-query: a log of single choices has one outcome a query already: leave it out")
    if not 1 <= labels < len(train.arms):
        raise SettingsError(
            f"--labels-per-query {labels}: {bench.data.name} has {len(train.arms)} arms: give a smaller number, or all"
        )
    drawn_QA = _drawn_arms(train) < labels
    part = train.of_outcomes(drawn_QA)
    without = [str(arm) for index, arm in enumerate(train.arms) if not part.observed_QA[:, index].any()]
    if without:
        raise SettingsError(
            f"--labels-per-query {labels}: on {counted(len(train), 'train query')} no outcome of "
            f"{listed(without)} was drawn: give a larger number"
        )
    return replace(
        bench,
        data=bench.data.model_copy(update={"labels_per_query": labels}),
        splits=replace(bench.splits, train=part),
        options=(*bench.options, "--labels-per-query", str(labels)),
        mean_score_A=mean_over_observed(part.score_QA),
        mean_cost_A=mean_over_observed(part.cost_QA),
    )


def _drawn_arms(train: Outcomes) -> IntQA:
    """The place of each arm in the order in which the outcomes of its query are drawn; those without one come last."""
    names = [str(arm) for arm in train.arms]
    key_QA = np.array(
        [
            [int(hashlib.sha256(f"labels\n{task}\n{query}\n{name}".encode()).hexdigest()[:15], 16) for name in names]
            for task, query in zip(train.task_Q, train.query_id_Q, strict=True)
        ]
    )
    key_QA = np.where(train.observed_QA, key_QA, np.iinfo(np.int64).max)
    return np.argsort(np.argsort(key_QA, axis=1, kind="stable"), axis=1, kind="stable")


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
    if bench.data.labels_per_query:
        raise SettingsError("--hold-out-arms does not go with --labels-per-query: leave one of them out")
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
