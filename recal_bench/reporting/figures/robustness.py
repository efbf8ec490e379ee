"""How often routers change their mind when a query is asked in other words, and what that costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from recal_bench.arrays import FloatQ, IntQ
from recal_bench.errors import RecalBenchError, RunError, SettingsError, near_miss
from recal_bench.evaluation.statistics import LEVEL, crossed_interval
from recal_bench.experiments.deployed import DeployedRouter
from recal_bench.experiments.matching import arm_named
from recal_bench.experiments.origins import outcomes_of
from recal_bench.experiments.records import Data, Run
from recal_bench.importers.decisions import Decided, Paraphrase
from recal_bench.outcomes import Arm, Objective, Outcomes
from recal_bench.outcomes.dense import identifier_of
from recal_bench.reporting.figures.compare import TEST
from recal_bench.reporting.figures.differences import ci_of
from recal_bench.reporting.figures.entries import Entry, Group, read_groups
from recal_bench.routers import Queries
from recal_bench.wording import counted, listed, show, some_of

_SHARE = (0.0, 1.0)


class RobustnessRow(BaseModel):
    """One router on the paraphrases of test queries. Rates are macro means over tasks, with 95% intervals.

    `flip_rate`: the share of paraphrases for which it chooses another arm than for the query. `utility_lost`: by how
    much the utility of the arm for the query exceeds that of the arm for the paraphrase, both on the query's outcomes;
    null where these are not known.
    """

    router: str
    settings: dict[str, Any]
    settings_hash: str
    external: bool
    outcomes: str
    data_hash: str
    n_seeds: int
    n_queries: int
    n_paraphrases: int
    flip_rate: float
    flip_rate_ci: tuple[float, float] | None
    utility_lost: float | None
    utility_lost_ci: tuple[float, float] | None


@dataclass(frozen=True)
class RobustnessTable:
    """The routers of one set of outcomes, the steadiest first. `notes` say what was not asked, and why."""

    data: Data
    rows: tuple[RobustnessRow, ...]
    notes: tuple[str, ...]


class _Asked(NamedTuple):
    """Paraphrases P: the place of the query of each among the group's, and the arm that each seed chose for it."""

    query_P: IntQ
    arm_SP: NDArray[Any]


def robustness(
    runs: Sequence[Run], paraphrases: Sequence[Paraphrase], decided: Mapping[str, Sequence[Decided]]
) -> list[RobustnessTable]:
    """One table for each set of outcomes whose test queries are paraphrased.

    Every router that can be loaded is asked again with the paraphrases' texts, and all else as it was. `decided` holds
    what routers that were not run here chose for paraphrases, by their names. Raises RunError where no query of the
    runs is paraphrased, SettingsError on a name in `decided` that no run has, OutcomesError on an unknown arm.
    """
    groups = read_groups(runs)
    there = {entry.router for group in groups for entry in group.entries if entry.record.external}
    for name in decided:
        if name not in there:
            raise SettingsError(
                f"--decisions {name}{near_miss(name, there)}: no run there has decisions of that name: give "
                f"`recal-bench run --decisions {name}=FILE` what it chose for the queries themselves first"
            )
    found = [table for group in groups if (table := _table(group, paraphrases, decided))]
    if not found:
        rows: list[Paraphrase | Decided] = [*paraphrases, *(row for each in decided.values() for row in each)]
        names = [f"{show(row.query_id, 40)} ({row.where.unit} {row.where.number:,})" for row in rows]
        raise RunError(
            f"no test query of these runs is paraphrased: the file names {some_of(names, 3)}; is it of these outcomes?"
        )
    return found


def _table(
    group: Group, paraphrases: Sequence[Paraphrase], decided: Mapping[str, Sequence[Decided]]
) -> RobustnessTable | None:
    of_test_Q = group.split_Q == TEST
    rows, notes = [], []
    places = _Places(group, np.flatnonzero(of_test_Q))
    outcomes, why = outcomes_of(group.data, [run for entry in group.entries for run in entry.runs])
    known = None if outcomes is None else _Known(group, outcomes)
    asked = [(place, row) for row in paraphrases if (place := places.of(row)) is not None]
    if len(asked) < len(paraphrases):
        left_out = f"{len(paraphrases) - len(asked):,} of {counted(len(paraphrases), 'paraphrase')}"
        notes.append(f"{left_out} are of no test query: left out")
    refused: dict[str, str] = {}
    not_given: list[str] = []
    for entry in group.entries:
        if entry.record.reference:
            continue
        given = None
        if entry.record.external:
            given = _given(group.data, entry, decided.get(entry.router, ()), places)
            not_given += [] if given else [entry.router]
        elif asked:
            try:
                given = _again(entry, group, asked, known)
            except RecalBenchError as error:
                refused[entry.router] = str(error)
        if given is not None:
            rows.append(_row(group, entry, given, known))
    if not rows:
        return None
    if known is None:
        notes.append(f"utility lost is not known: {why}")
    if not_given:
        notes.append(f"what {listed(not_given)} chose for paraphrases is not given (--decisions NAME=FILE): left out")
    notes += [f"{router} was not asked: {error}" for router, error in sorted(refused.items())]
    rows.sort(key=lambda row: (row.flip_rate, row.router, row.settings_hash))
    return RobustnessTable(group.data, tuple(rows), tuple(notes))


class _Places:
    """Where the test queries of a group are."""

    def __init__(self, group: Group, rows: IntQ) -> None:
        self._of_id: dict[str, dict[str, int]] = defaultdict(dict)
        for row in rows.tolist():
            self._of_id[str(group.query_id_Q[row])][str(group.task_Q[row])] = row

    def of(self, row: Paraphrase | Decided) -> int | None:
        """None for what is no test query. Raises RunError where several tasks have the id, and none is named."""
        tasks = self._of_id.get(row.query_id, {})
        if row.task is None and len(tasks) > 1:
            raise RunError(
                f"{row.where}: {show(row.query_id, 40)} is a query of {listed(sorted(tasks))}: add a column task"
            )
        return next(iter(tasks.values()), None) if row.task is None else tasks.get(row.task)


class _Known:
    """The utilities of the group's queries and arms, NaN where unknown, and which arms have an outcome."""

    def __init__(self, group: Group, outcomes: Outcomes) -> None:
        data = group.data
        self.names = [*data.arms, *(arm for arm in data.held_out if arm not in data.arms)]
        keys = zip(outcomes.task_Q.astype(str), outcomes.query_id_Q.astype(str), strict=True)
        row_of = {key: row for row, key in enumerate(keys)}
        rows = [row_of[str(task), str(name)] for task, name in zip(group.task_Q, group.query_id_Q, strict=True)]
        place = {str(arm): number for number, arm in enumerate(outcomes.arms)}
        block = np.ix_(rows, [place[name] for name in self.names])
        objective = Objective(data.alpha, data.cost_ref, data.unknown_costs, data.latency_price)
        charged_QA = objective.charged(outcomes.cost_QA, outcomes.latency_QA)
        self.utility_QA = objective.utility(outcomes.score_QA[block], charged_QA[block])
        self.observed_QA = outcomes.observed_QA[block]


def _again(entry: Entry, group: Group, asked: Sequence[tuple[int, Paraphrase]], known: _Known | None) -> _Asked:
    """What the routers of an entry choose for the paraphrases, among the arms that they may choose for the query."""
    query_P = np.array([place for place, _ in asked], dtype=np.int64)
    queries = Queries(
        tuple(identifier_of(str(group.task_Q[place]), str(group.query_id_Q[place])) for place in query_P),
        tuple(row.prompt for _, row in asked),
    )
    restricted = group.data.missing == "restrict"
    if restricted and known is None:
        raise RunError("which arms it may choose (--missing restrict) is not known without the outcomes")
    available_PA = known.observed_QA[query_P] if restricted and known else None
    loaded = [DeployedRouter(run) for run in entry.runs]
    arm_SP = np.array(
        [[str(each.arms[arm]) for arm in each.decide(queries, available_PA)] for each in loaded], dtype=object
    )
    return _Asked(query_P, arm_SP)


def _given(data: Data, entry: Entry, rows: Sequence[Decided], places: _Places) -> _Asked | None:
    """What a router that was not run here chose for paraphrases; None where that is not given.

    Raises RunError on a seed that has no run, and where the seeds do not all decide on the same paraphrases.
    """
    arms = [Arm.parse(name) for name in data.arms]
    what = f"--decisions {entry.router}"
    by_seed: dict[int, list[tuple[int, str]]] = {seed: [] for seed in entry.seeds}
    for row in rows:
        place = places.of(row)
        if row.seed not in by_seed:
            there = listed([str(seed) for seed in by_seed])
            raise RunError(f"{what}: {row.where} is of seed {row.seed}, and its runs are of seed {there}: leave it out")
        if place is not None:
            by_seed[row.seed].append((place, str(arms[arm_named(row.arm, arms, what, rows)])))
    first, *others = [sorted(each) for each in by_seed.values()]
    if not first and not any(others):
        return None
    query_P = [place for place, _ in first]
    if any([place for place, _ in each] != query_P for each in others):
        raise RunError(f"{what}: its {len(by_seed)} seeds do not decide on the same paraphrases: give all of each")
    arm_SP = np.array([[arm for _, arm in each] for each in (first, *others)], dtype=object)
    return _Asked(np.array(query_P, dtype=np.int64), arm_SP)


def _row(group: Group, entry: Entry, asked: _Asked, known: _Known | None) -> RobustnessRow:
    first_SP = entry.arm_SQ[:, asked.query_P]
    queries, of_query_P = np.unique(asked.query_P, return_inverse=True)
    task_Q = np.unique(group.task_Q[queries].astype(str), return_inverse=True)[1]

    def by_query(value_SP: NDArray[np.float64]) -> NDArray[np.float64]:
        """The paraphrases of a query count as one."""
        total_SQ = np.array([np.bincount(of_query_P, value_P, len(queries)) for value_P in value_SP])
        return total_SQ / np.bincount(of_query_P)

    flips, flips_ci = _share(by_query((first_SP != asked.arm_SP).astype(np.float64)), task_Q)
    lost = None
    if known is not None:
        place = {name: number for number, name in enumerate(known.names)}
        value_SQ = by_query(_utility(known, place, asked.query_P, first_SP) - _utility(known, place, *asked))
        known_Q = ~np.isnan(value_SQ).any(axis=0)
        lost = crossed_interval([value_SQ[:, known_Q]], task_Q[known_Q]) if known_Q.any() else None
    configuration = entry.record.configuration
    return RobustnessRow(
        router=entry.router,
        settings=configuration.shown_settings,
        settings_hash=entry.settings_hash,
        external=entry.record.external,
        outcomes=group.data.name,
        data_hash=group.data.hash,
        n_seeds=len(entry.runs),
        n_queries=len(queries),
        n_paraphrases=len(asked.query_P),
        flip_rate=flips,
        flip_rate_ci=flips_ci,
        utility_lost=None if lost is None else lost.estimate,
        utility_lost_ci=None if lost is None else ci_of(lost),
    )


def _share(value_SQ: NDArray[np.float64], task_Q: IntQ) -> tuple[float, tuple[float, float] | None]:
    """A macro mean of shares with its 95% interval."""
    found = crossed_interval([value_SQ], task_Q)
    if found.estimate not in _SHARE:
        return found.estimate, ci_of(found, _SHARE)
    # None, or all, of them: no spread shows. What n of n say of a share (Clopper, Pearson 1934), n as the tasks weigh.
    count_T = np.bincount(task_Q)
    effective = len(count_T) ** 2 / float((1 / count_T).sum())
    least = ((1 - LEVEL) / 2) ** (1 / effective)
    return found.estimate, (0.0, 1 - least) if found.estimate == 0 else (least, 1.0)


def _utility(known: _Known, place: Mapping[str, int], query_P: IntQ, arm_SP: NDArray[Any]) -> NDArray[np.float64]:
    chosen_SP = np.array([[place[arm] for arm in arm_P] for arm_P in arm_SP], dtype=np.int64)
    value_SP: FloatQ = known.utility_QA[query_P[None, :], chosen_SP]
    return value_SP
