"""Does today's traffic look like what a run was fitted to and judged on?

The queries before are those of validation and test: they come from where train comes from, and neither router nor
encoder was fitted to them. An encoder that learns its directions from train places train's own prompts otherwise than
new ones of the same kind, and a test against these would call that drift (docs/drift.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recal_bench.arrays import BoolQ, Float32QE, FloatQ, IntQ, StrQ
from recal_bench.encoders import Encoder, fit_encoder, load_encoder
from recal_bench.encoders.shared import FILE, REFERENCE
from recal_bench.errors import OutcomesError, PluginError
from recal_bench.evaluation.drift import (
    LEAST_QUERIES,
    Apart,
    Shares,
    Shift,
    compare_means,
    compare_shares,
    p_of_choices,
    tell_apart,
)
from recal_bench.evaluation.statistics import LEVEL, holm
from recal_bench.experiments.deployed import DeployedRouter
from recal_bench.experiments.origins import splits_of
from recal_bench.experiments.records import Run
from recal_bench.experiments.traffic import Traffic
from recal_bench.outcomes import Outcomes
from recal_bench.outcomes.splits import Splits, normalized_prompt
from recal_bench.toolbox.clusters import clustered
from recal_bench.toolbox.hierarchy import CLUSTERS, FOREIGN, PROMPTS_A_CLUSTER, STRANGE
from recal_bench.toolbox.novelty import Novelty, distances, fit_novelty
from recal_bench.wording import counted

ENCODER = "tfidf"
"""Of a router that has none."""
MOST = 2_000
"""Queries of a side that the two-sample test looks at; of more a sample, drawn with a fixed seed."""
LEAST_SCORED = 20
"""Prompts with a known value, on both sides, from which means are compared."""
LEAST_FOLLOWED = 0.8
"""The share of a log's rows that must hold the router's own choice. Of another router's log they are a selection, whose
score and cost differ from those of all its choices without any drift."""


class Checked(NamedTuple):
    """What is compared, and the p of "nothing has changed" before and after Holm's adjustment over all that is."""

    p: float
    p_adjusted: float

    @property
    def changed(self) -> bool:
        return self.p_adjusted <= 1 - LEVEL


@dataclass(frozen=True)
class Drift:
    """What differs between today's log and the queries before. Each prompt counts once.

    `seen` prompts of the log are word for word in train; these are not compared. `before` and `today` are the numbers
    of prompts that are. `foreign`: the shares of queries that lie further from all tasks of train than nine in ten of
    the queries before. `score` and `cost` (USD; None where too few are known): those of the router's own choice, less
    what was expected of it: predictions where `predicted`, else the arm's means on train. `arms`: the shares of the
    router's choices, on test and on today's prompts; None where it cannot choose by a prompt alone. `followed`: in how
    many of the rows that name an arm it is the router's choice. `checks`: by name (`queries`, `foreign`, `score`,
    `cost`, `arms`).
    """

    run: Run
    log: str
    encoder: str
    rows: int
    prompts: int
    seen: int
    before: int
    today: int
    queries: Apart
    foreign: Shares
    predicted: bool
    score: Shift | None
    cost: Shift | None
    arms: dict[str, Shares] | None
    followed: tuple[int, int]
    checks: dict[str, Checked]
    notes: tuple[str, ...]

    @property
    def changed(self) -> tuple[str, ...]:
        """The names of the checks that found a change."""
        return tuple(name for name, check in self.checks.items() if check.changed)


class _Choices(NamedTuple):
    """The router's arm for each query (index into its arms), with the score and cost to expect of it."""

    arm_Q: IntQ
    score_Q: FloatQ
    cost_Q: FloatQ


@dataclass(frozen=True)
class Before:
    """What logs of a run are compared with: its held-out queries, which of them are foreign, its choices on test."""

    run: Run
    router: DeployedRouter
    splits: Splits
    encoder: Encoder
    held_QE: Float32QE
    novelty: Novelty
    foreign_Q: BoolQ
    chosen: _Choices | None
    notes: tuple[str, ...]


def prepare_before(run: Run, outcomes: Path | None = None) -> Before:
    """What `compare_with` needs of a run, once for all logs.

    `outcomes` is the file that the run was made on, where its command does not find it. Raises RunError where it is not
    to be found or the router cannot be loaded, OutcomesError where validation and test hold fewer than 20 prompts.
    """
    router, splits, notes = DeployedRouter(run), splits_of(run, outcomes), list[str]()
    held = tuple(dict.fromkeys((*splits.validation.prompt_Q, *splits.test.prompt_Q)))
    _require(len(held), f"{run.folder} has {counted(len(held), 'prompt')} in validation and test")
    encoder = _encoder(run.folder / "router", splits.train, notes)
    held_QE = encoder.encode(held)
    novelty, foreign_Q = _novelty(encoder.encode(splits.train.prompt_Q.tolist()), splits.train.task_Q, held_QE)
    chosen = None
    try:
        chosen = _choices_on(router, splits.test.prompt_Q.tolist())
    except PluginError:
        notes.append(
            "the router needs more than a prompt to choose: its choices, their score and cost are not compared"
        )
    return Before(run, router, splits, encoder, held_QE, novelty, foreign_Q, chosen, tuple(notes))


def compare_with(before: Before, traffic: Traffic) -> Drift:
    """Compare a log with what a run was made on. Raises OutcomesError where the log holds fewer than 20 new prompts."""
    notes, rows_of = list(before.notes), _by_prompt(traffic.prompt_N)
    known = {normalized_prompt(prompt) for prompt in before.splits.train.prompt_Q}
    new = [rows for prompt, rows in rows_of.items() if prompt not in known]
    prompts = tuple(traffic.prompt_N[rows[0]] for rows in new)
    _require(len(new), f"{traffic.name} holds {counted(len(new), 'prompt')} that are not word for word in train")
    today_QE = before.encoder.encode(prompts)
    held_QE = _sampled(before.held_QE, "validation and test", notes)
    apart = tell_apart(held_QE, _sampled(today_QE, traffic.name, notes))
    foreign_Q = distances(before.novelty, today_QE) > before.novelty.strange
    p = {
        "queries": apart.p,
        "foreign": p_of_choices(before.foreign_Q.astype(np.int64), foreign_Q.astype(np.int64)),
    }
    arms, shifts, followed = None, dict[str, Shift | None](), (0, 0)
    if before.chosen is not None:
        today = _choices_on(before.router, prompts)
        names = [str(arm) for arm in before.router.arms]
        p["arms"] = p_of_choices(before.chosen.arm_Q, today.arm_Q)
        arms = {name: compare_shares(before.chosen.arm_Q == arm, today.arm_Q == arm) for arm, name in enumerate(names)}
        both = zip(new, today.arm_Q, strict=True)
        followed_QN = [[row for row in rows if traffic.arm_N[row] == names[arm]] for rows, arm in both]
        followed = (sum(map(len, followed_QN)), sum(int((traffic.arm_N[rows] != "").sum()) for rows in new))
        shifts = _shifts(before, before.chosen, traffic, today, followed_QN, followed, notes)
        p |= {what: shift.difference.p for what, shift in shifts.items() if shift is not None}
    adjusted = holm([*p.values()])
    return Drift(
        run=before.run,
        log=traffic.name,
        encoder=before.encoder.name,
        rows=len(traffic.prompt_N),
        prompts=len(rows_of),
        seen=len(rows_of) - len(new),
        before=len(before.held_QE),
        today=len(prompts),
        queries=apart,
        foreign=compare_shares(before.foreign_Q, foreign_Q),
        predicted=before.router.predicts,
        score=shifts.get("score"),
        cost=shifts.get("cost"),
        arms=arms,
        followed=followed,
        checks={name: Checked(p[name], each) for name, each in zip(p, adjusted, strict=True)},
        notes=tuple(notes),
    )


def _require(count: int, what: str) -> None:
    if count < LEAST_QUERIES:
        raise OutcomesError(f"{what}: {LEAST_QUERIES} are needed to tell drift from chance")


def _by_prompt(prompt_N: StrQ) -> dict[str, list[int]]:
    """The rows of each prompt; what counts as the same prompt does so in splits."""
    found: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompt_N):
        found.setdefault(normalized_prompt(prompt), []).append(row)
    return found


def _encoder(saved: Path, train: Outcomes, notes: list[str]) -> Encoder:
    """The encoder that a router was saved with, or one fitted to train where it has none."""
    folders = sorted({path.parent for name in (FILE, REFERENCE) for path in saved.rglob(name)})
    if folders:
        return load_encoder(folders[0])
    notes.append(f"the router reads no text: its queries are compared by the encoder {ENCODER}, fitted to train")
    return fit_encoder(ENCODER, train.prompt_Q.tolist())


def _sampled(embedding_QE: Float32QE, what: str, notes: list[str]) -> Float32QE:
    if len(embedding_QE) <= MOST:
        return embedding_QE
    notes.append(f"the two-sample test looks at {MOST:,} of {len(embedding_QE):,} prompts of {what}, drawn at random")
    rows = np.random.default_rng(0).choice(len(embedding_QE), MOST, replace=False)
    return embedding_QE[np.sort(rows)]


def _novelty(train_QE: Float32QE, task_Q: StrQ, held_QE: Float32QE) -> tuple[Novelty, BoolQ]:
    """How far a query is from the tasks of train, where a query begins to be foreign, and which held-out ones are.

    Half of the held-out queries, drawn at random, set the floor; the answer is about the other half. Train's own
    queries cannot set it: where they are few the encoder places new ones further off. Where train has one task,
    clusters take the place of tasks.
    """
    tasks, number_Q = np.unique(task_Q.astype(str), return_inverse=True)
    if len(tasks) == 1:
        number_Q = clustered(train_QE, CLUSTERS[1], PROMPTS_A_CLUSTER, seed=0).labels_
    novelty = fit_novelty(train_QE, number_Q, STRANGE, FOREIGN)
    held_Q = distances(novelty, held_QE)
    setting, judged = np.array_split(np.random.default_rng(0).permutation(len(held_Q)), 2)
    floor = float(np.quantile(held_Q[setting], 1 - STRANGE))
    return novelty._replace(strange=floor), held_Q[judged] > floor


def _choices_on(router: DeployedRouter, prompts: Sequence[str]) -> _Choices:
    arm_QA, score_QA, cost_QA = router.expect(prompts)
    chosen = (np.arange(len(prompts)), arm_QA[:, 0])
    return _Choices(arm_QA[:, 0], score_QA[chosen], cost_QA[chosen])


def _shifts(
    before: Before,
    chosen: _Choices,
    traffic: Traffic,
    today: _Choices,
    followed_QN: Sequence[Sequence[int]],
    followed: tuple[int, int],
    notes: list[str],
) -> dict[str, Shift | None]:
    """Score and cost less what was expected of them, on test and today; nothing for a log without arms."""
    same, named = followed
    if not named:
        return {}
    if same < LEAST_FOLLOWED * named:
        notes.append(
            f"{same:,} of {named:,} rows hold the arm that this router chooses: the log is of another one, and score "
            "and cost are not compared: give --run the run that chose"
        )
        return {}
    test, cells = before.splits.test, (np.arange(len(before.splits.test)), chosen.arm_Q)
    score_Q, cost_Q = (_mean_known(value_N, followed_QN) for value_N in (traffic.score_N, traffic.cost_N))
    score = (test.score_QA[cells] - chosen.score_Q, score_Q - today.score_Q)
    cost = (test.cost_QA[cells] - chosen.cost_Q, cost_Q - today.cost_Q)
    return {"score": _compared(*score, "score", notes), "cost": _compared(*cost, "cost", notes)}


def _mean_known(value_N: FloatQ, rows_QN: Sequence[Sequence[int]]) -> FloatQ:
    """The mean of the known values of each prompt's rows; NaN where there is none."""
    known = [value_N[[row for row in rows if not np.isnan(value_N[row])]] for rows in rows_QN]
    return np.array([each.mean() if len(each) else np.nan for each in known])


def _compared(before_Q: FloatQ, today_Q: FloatQ, what: str, notes: list[str]) -> Shift | None:
    """The shift of known values; None, with a note, where they are too few to say."""
    before_Q, today_Q = before_Q[~np.isnan(before_Q)], today_Q[~np.isnan(today_Q)]
    if min(len(before_Q), len(today_Q)) >= LEAST_SCORED:
        return compare_means(before_Q, today_Q)
    notes.append(
        f"{what} is not compared: for the router's choice it is known of {counted(len(today_Q), 'prompt')} of the log "
        f"and of {len(before_Q):,} of test, and {LEAST_SCORED} are needed"
    )
    return None
