"""Run records made comparable: all seeds of a router as arrays over the same queries, one group for each `Data`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatQ, FloatSQ, IntQ, StrQ
from recal_bench.defaults import BASELINE, SAVINGS_TARGET
from recal_bench.errors import RunError
from recal_bench.experiments.records import Data, Run, RunRecord
from recal_bench.experiments.standing import made_by, standing, superseded_notes
from recal_bench.outcomes.schema import LATENCY
from recal_bench.wording import counted, listed, share

if TYPE_CHECKING:
    import pandas as pd

_KEYS = ["split", "task", "query_id"]
_NUMBERS = ["score", "cost_usd", "router_cost_usd", "utility", "regret"]
_LOGGED = ["propensity", "logged_score", "logged_cost_usd", "logged_utility", "expected_logged_utility"]
_EXPECTED = "expected_utility"
_OPTIONAL = (_EXPECTED, LATENCY)
"""What records of older versions, or of outcomes that do not hold it, lack."""


@dataclass(frozen=True)
class Entry:
    """One router with one set of settings: its runs in the order of their seeds. NaN where a number is unknown.

    Costs are USD per query; `router_cost_SQ` is the router's own. `latency_SQ` are the seconds that the arms took. A
    deterministic router has one run. `expected_SQ` is the expected utility of the chosen arm: on simulated outcomes the
    true one, on a log of single choices a model's.
    """

    runs: tuple[Run, ...]
    arm_SQ: NDArray[Any]
    score_SQ: FloatSQ
    cost_SQ: FloatSQ
    router_cost_SQ: FloatSQ
    utility_SQ: FloatSQ
    regret_SQ: FloatSQ
    expected_SQ: FloatSQ
    latency_SQ: FloatSQ

    @property
    def record(self) -> RunRecord:
        return self.runs[0].record

    @property
    def router(self) -> str:
        return self.record.configuration.router

    @property
    def settings_hash(self) -> str:
        return self.record.configuration.settings_hash

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.record.configuration.seed for run in self.runs)

    @property
    def one_seed_of_many(self) -> bool:
        """Whether training luck is at play and only one draw of it was seen."""
        return len(self.runs) == 1 and not self.record.deterministic and not self.record.reference


class Logged(NamedTuple):
    """What a log of single choices holds of each query; `expected_Q` is the utility a model expects of its arm.

    All of it is unknown (NaN) for the queries of a mixed log of which several arms were asked.
    """

    arm_Q: StrQ
    propensity_Q: FloatQ
    score_Q: FloatQ
    cost_Q: FloatQ
    utility_Q: FloatQ
    expected_Q: FloatQ


@dataclass(frozen=True)
class Group:
    """Everything that ran on the same outcomes, over the queries of all evaluated splits (sorted by their keys).

    `notes` say what a reader should know of the outcomes and of records that are not among the entries.
    """

    data: Data
    split_Q: StrQ
    task_Q: StrQ
    query_id_Q: StrQ
    entries: tuple[Entry, ...]
    logged: Logged | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def task_code_Q(self) -> IntQ:
        """Each query's task as a number, in the order of the names: names take long to sort."""
        place = {task: code for code, task in enumerate(sorted(set(self.task_Q.tolist())))}
        return np.array([place[task] for task in self.task_Q.tolist()], dtype=np.int64)

    def find(self, name: str) -> Entry | None:
        """The entry of a router, named by itself or as `router@settings_hash`; None where there is none.

        Raises RunError where several settings of the router decide differently and none of them is named.
        """
        found = [entry for entry in self.entries if name in (entry.router, f"{entry.router}@{entry.settings_hash}")]
        if any(not np.array_equal(entry.arm_SQ, found[0].arm_SQ) for entry in found[1:]):
            names = ", ".join(f"{entry.router}@{entry.settings_hash}" for entry in found)
            raise RunError(
                f"{name} names {len(found)} rows on {self.data.name} that decide differently: "
                f"name one of {names} as the baseline, or remove the runs you do not want"
            )
        return found[0] if found else None


def same_data(runs: Iterable[Run]) -> list[list[Run]]:
    """Runs by the outcomes they used, in the order of the outcomes' names; whatever the order of the runs."""
    by_data: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_data[run.record.configuration.data.identity].append(run)
    return sorted(by_data.values(), key=lambda each: (_data_of(each).name, _data_of(each).identity))


def _data_of(runs: Sequence[Run]) -> Data:
    """The outcomes of runs on the same ones, under the name that was used last."""
    newest = max(runs, key=lambda run: (run.record.started, run.folder.name))
    return newest.record.configuration.data


def read_groups(runs: Sequence[Run]) -> list[Group]:
    """Read the decisions of all runs that stand. A run whose decisions cannot be read is left out with a note.

    Raises RunError where none of those on the same outcomes can be, and where runs decide on other queries.
    """
    return [_read_group(each) for each in same_data(runs)]


def _read_group(runs: list[Run]) -> Group:
    found = standing(runs)
    reader = _Reader()
    read: dict[tuple[str, str], dict[int, tuple[Run, pd.DataFrame]]] = defaultdict(dict)
    left_out = []
    for run in sorted(found.runs, key=lambda run: run.folder.name):
        configuration = run.record.configuration
        try:
            frame = reader.read(run)
        except UnreadableRunError as error:
            left_out.append(error)
            continue
        read[configuration.router, configuration.settings_hash][configuration.seed] = run, frame
    if not read:
        raise left_out[0]
    entries = []
    for _, by_seed in sorted(read.items()):
        chosen = [by_seed[seed] for seed in sorted(by_seed)]
        entries.append(reader.entry(chosen[:1] if chosen[0][0].record.deterministic else chosen))
    data = _data_of(runs)
    notes = [*data.notes, *_renamed(runs, data), *(f"left out: {error}" for error in left_out)]
    notes += [*superseded_notes(found.superseded), *_mixed(entries), *_fixed_arms(entries)]
    split_Q, task_Q, query_id_Q = (reader.keys[name].to_numpy(dtype=object) for name in _KEYS)
    return Group(data, split_Q, task_Q, query_id_Q, tuple(entries), reader.logged, tuple(notes))


def _renamed(runs: Sequence[Run], data: Data) -> list[str]:
    others = sorted({run.record.configuration.data.name for run in runs} - {data.name})
    return [f"some runs call the same outcomes {listed(others)}"] if others else []


def _mixed(entries: Sequence[Entry]) -> list[str]:
    """The rows whose seeds were not all made by the same code, packages and device."""
    mixed = sorted({entry.router for entry in entries if len(set(map(made_by, entry.runs))) > 1})
    if not mixed:
        return []
    return [
        f"not all seeds of {listed(mixed)} were run by the same code, packages and device: "
        f"--fresh runs {'them' if len(mixed) > 1 else 'it'} again"
    ]


def _fixed_arms(entries: Sequence[Entry]) -> list[str]:
    """Which arm the rows are that always take one, where they can."""
    named = []
    for entry in entries:
        if entry.router in (BASELINE, SAVINGS_TARGET):
            count = Counter(entry.arm_SQ[0].tolist())
            most = min(count, key=lambda arm: (-count[arm], arm))
            part = "" if len(count) == 1 else f" (on {share(count[most], count.total())} of the queries)"
            named.append(f"{entry.router} is {most}{part}")
    return ["; ".join(sorted(named, reverse=True))] if named else []


class UnreadableRunError(RunError):
    """A run whose decisions cannot be read, which says nothing of other runs."""


class _Reader:
    """Reads decisions in the order of their keys, and checks that every run has the first run's keys."""

    def __init__(self) -> None:
        self._raw_keys: pd.DataFrame | None = None
        self._order: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.keys: pd.DataFrame
        self._first: Run
        self.logged: Logged | None = None

    def entry(self, read: Sequence[tuple[Run, pd.DataFrame]]) -> Entry:
        runs, frames = zip(*read, strict=True)
        names = [*_NUMBERS, *_OPTIONAL]
        numbers = [np.stack([frame[name].to_numpy(dtype=np.float64) for frame in frames]) for name in names]
        if "propensity" in frames[0]:
            of_log = [frames[0][name].to_numpy() for name in _LOGGED]
            self.logged = Logged(frames[0]["logged_arm"].to_numpy(dtype=object), *of_log)
        return Entry(tuple(runs), np.stack([frame["arm"].to_numpy(dtype=object) for frame in frames]), *numbers)

    def read(self, run: Run) -> pd.DataFrame:
        """The decisions of one run. Raises UnreadableRunError, or RunError where they are on other queries."""
        frame = decisions_of(run)
        raw_keys = frame[_KEYS]
        if self._raw_keys is not None and raw_keys.equals(self._raw_keys):
            same_order: pd.DataFrame = frame.iloc[self._order]
            return same_order
        # Sorting the keys of every run would take most of the time; nearly always they are in the same order.
        order = raw_keys.sort_values(_KEYS, kind="stable").index.to_numpy()
        keys = raw_keys.iloc[order].reset_index(drop=True)
        if keys.duplicated().any():
            raise UnreadableRunError(f"{run.folder} decides twice on a query: run it again with --fresh")
        if self._raw_keys is None:
            self._raw_keys, self._order, self.keys, self._first = raw_keys, order, keys, run
        elif not keys.equals(self.keys):
            raise RunError(
                f"{run.folder} and {self._first.folder} decide on different queries of the same outcomes: "
                "run both again with --fresh"
            )
        ordered: pd.DataFrame = frame.iloc[order]
        return ordered


def decisions_of(run: Run) -> pd.DataFrame:
    """A run's decisions with checked columns: keys and arms as text, the rest as numbers (NaN: unknown).

    Raises UnreadableRunError where they are absent or damaged.
    """
    import pandas as pd

    def unreadable(what: str) -> UnreadableRunError:
        return UnreadableRunError(f"{run.folder}/decisions.parquet {what}: run it again with --fresh")

    try:
        frame = run.decisions()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable("cannot be read") from error
    logged = run.logged
    optional = [LATENCY] if logged else _OPTIONAL
    frame = frame.assign(**{name: np.nan for name in optional if name not in frame})
    text_names = [*_KEYS, "arm", *(["logged_arm"] if logged else [])]
    number_names = [*_NUMBERS, *_OPTIONAL, *(_LOGGED if logged else [])]
    absent = [name for name in [*text_names, *number_names] if name not in frame]
    if absent:
        raise unreadable(f"lacks the columns {', '.join(absent)}")
    texts = {name: frame[name].astype(str) for name in text_names}
    try:
        numbers = {name: pd.to_numeric(frame[name]).astype(np.float64) for name in number_names}
    except (ValueError, TypeError) as error:
        raise unreadable("holds text where numbers belong") from error
    checked: pd.DataFrame = pd.DataFrame({**texts, **numbers}).reset_index(drop=True)
    for split, count in run.record.configuration.data.n_queries.items():
        there = int((checked["split"] == split).sum())
        if there and there != count:
            raise unreadable(f"decides on {counted(there, 'query')} of {split} and not on {count:,}")
    return checked
