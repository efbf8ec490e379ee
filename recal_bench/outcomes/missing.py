"""Outcomes that are not there: the rule for them, and the few that only lack a score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recal_bench.errors import OutcomesError
from recal_bench.outcomes.dense import Outcomes
from recal_bench.outcomes.objective import mean_over_observed
from recal_bench.outcomes.unknown_costs import SMALL_SHARE
from recal_bench.wording import counted, share, some_of, tallied

RULES = ("error", "restrict", "zero")
_LISTED_ARMS = 10


def complete(outcomes: Outcomes, missing: str, notes: list[str]) -> Outcomes:
    """Outcomes with their final splits, made complete by one of `RULES`.

    A log of single choices has none missing: what is not known there is estimated.
    """
    if missing == "error":
        outcomes = _without_unscored(outcomes, notes)
    if outcomes.logged:
        return _mixed(outcomes, missing, notes)
    n_missing, total = int((~outcomes.observed_QA).sum()), outcomes.score_QA.size
    if n_missing == 0:
        return outcomes
    if missing == "error":
        raise OutcomesError(
            f"{outcomes.name}: {n_missing:,} of {total:,} outcomes ({share(n_missing, total)}) are missing: choose "
            "--missing restrict (a router chooses only among the arms that have an outcome for the query) or "
            "--missing zero (a missing outcome counts as score 0, at the arm's mean train cost)"
        )
    outcomes = _trained_arms(outcomes, notes)
    absent_QA = ~outcomes.observed_QA
    n_missing, total = int(absent_QA.sum()), absent_QA.size
    if missing == "restrict":
        notes.append(
            f"{n_missing:,} of {total:,} outcomes are missing: for each query, routers choose among the arms observed "
            "(--missing restrict)"
        )
        return outcomes
    mean_cost_A = mean_over_observed(outcomes.of_split("train").cost_QA)
    notes.append(
        f"{n_missing:,} of {total:,} outcomes are missing and count as score 0 at the arm's mean train cost, unknown "
        "where the arm has none (--missing zero)"
    )
    return replace(
        outcomes,
        score_QA=np.where(absent_QA, 0.0, outcomes.score_QA),
        cost_QA=np.where(absent_QA, mean_cost_A, outcomes.cost_QA),
    )


def _without_unscored(outcomes: Outcomes, notes: list[str]) -> Outcomes:
    """The queries without those that the file has an outcome of without its score, where these are few."""
    if outcomes.unscored_QA is None:
        return outcomes
    lost_Q = np.any(outcomes.unscored_QA & ~outcomes.observed_QA, axis=1)
    kept = outcomes.take(~lost_Q)
    if not lost_Q.any() or lost_Q.mean() > SMALL_SHARE or set(kept.split_Q) != set(outcomes.split_Q):
        return outcomes
    notes.append(
        f"{int(lost_Q.sum()):,} of {counted(len(outcomes), 'query')} with an outcome without a score are left out "
        "(--missing restrict leaves out these outcomes alone)"
    )
    return kept


def _mixed(outcomes: Outcomes, missing: str, notes: list[str]) -> Outcomes:
    """A log of single choices. Where it shows several arms of a query, others may be missing."""
    several_Q = outcomes.several_Q
    gaps_Q = several_Q & ~outcomes.observed_QA.all(axis=1)
    if missing == "zero" or (missing == "restrict" and not gaps_Q.any()):
        raise OutcomesError(
            f"{outcomes.name} is a log of single choices, which is not replayed but estimated from: leave out "
            f"--missing {missing}"
        )
    if several_Q.any():
        notes.append(
            f"a mixed log: {int(several_Q.sum()):,} of {counted(len(outcomes), 'query')} show several arms, and are "
            "replayed; the others show one, and are estimated from"
        )
    if gaps_Q.any() and missing == "error":
        raise OutcomesError(
            f"{outcomes.name}: {counted(int(gaps_Q.sum()), 'query')} of the {int(several_Q.sum()):,} with several arms "
            "lack others: choose --missing restrict (a router chooses only among the arms that have an outcome there)"
        )
    if gaps_Q.any():
        notes.append(
            f"{counted(int(gaps_Q.sum()), 'query')} with several arms lack others: routers choose among the arms "
            "observed there (--missing restrict)"
        )
    return outcomes


def _trained_arms(outcomes: Outcomes, notes: list[str]) -> Outcomes:
    """The arms that have an outcome in train, and the queries that have one of these arms."""
    names = set(outcomes.split_Q)
    seen_in_train_A = np.any(outcomes.of_split("train").observed_QA, axis=0)
    outcomes = take_arms(outcomes, seen_in_train_A, "no outcome in train", notes)
    reached_Q = np.any(outcomes.observed_QA, axis=1)
    if not reached_Q.all():
        lost = outcomes.take(~reached_Q)
        notes.append(f"queries dropped that no arm is left for: {tallied(lost.split_Q, 'query')}")
        outcomes = outcomes.take(reached_Q)
        for name in sorted(names - set(outcomes.split_Q)):
            raise OutcomesError(f"{outcomes.name}: no {name} query has an outcome of an arm that is seen in train")
    return outcomes


def take_arms(outcomes: Outcomes, keep_A: np.ndarray, why: str, notes: list[str]) -> Outcomes:
    if keep_A.all():
        return outcomes
    lost = [str(outcomes.arms[arm]) for arm in np.flatnonzero(~keep_A)]
    notes.append(f"{len(lost)} of {len(keep_A)} arms dropped, {why}: {some_of(lost, _LISTED_ARMS)}")
    return outcomes.take_arms(keep_A)
