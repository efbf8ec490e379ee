"""Run records made comparable: all seeds of a router as arrays over the same queries, one group for each `Data`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatQ, FloatSQ, StrQ
from recal_bench.errors import RunError
from recal_bench.experiments.records import Data, Run, RunRecord

if TYPE_CHECKING:
    import pandas as pd

_KEYS = ["split", "task", "query_id"]
_NUMBERS = ["score", "cost_usd", "router_cost_usd", "utility", "regret"]
_LOGGED = ["propensity", "logged_score", "logged_cost_usd", "logged_utility", "expected_logged_utility"]
_EXPECTED = "expected_utility"


@dataclass(frozen=True)
class Entry:
    """One router with one set of settings: its runs in the order of their seeds. NaN where a number is unknown.

    Costs are USD per query; `router_cost_SQ` is the router's own. A deterministic router has one run. `expected_SQ` is
    the utility that a model expects of the chosen arm, on a log of single choices alone.
    """

    runs: tuple[Run, ...]
    arm_SQ: NDArray[Any]
    score_SQ: FloatSQ
    cost_SQ: FloatSQ
    router_cost_SQ: FloatSQ
    utility_SQ: FloatSQ
    regret_SQ: FloatSQ
    expected_SQ: FloatSQ | None = None

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
    """Everything that ran on the same outcomes, over the queries of all evaluated splits (sorted by their keys)."""

    data: Data
    split_Q: StrQ
    task_Q: StrQ
    query_id_Q: StrQ
    entries: tuple[Entry, ...]
    logged: Logged | None = None

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
    """Runs by the `Data` they used, in the order of the data's names; whatever the order of the runs."""
    by_data: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        data = run.record.configuration.data
        by_data[f"{data.name}\n{json.dumps(data.model_dump(mode='json'), sort_keys=True)}"].append(run)
    return [by_data[key] for key in sorted(by_data)]


def read_groups(runs: Sequence[Run]) -> list[Group]:
    """Read the decisions of all runs. Raises RunError where runs on the same data decide on other queries."""
    return [_read_group(each) for each in same_data(runs)]


def _read_group(runs: list[Run]) -> Group:
    by_settings: dict[tuple[str, str], dict[int, Run]] = defaultdict(dict)
    for run in runs:
        configuration = run.record.configuration
        by_seed = by_settings[configuration.router, configuration.settings_hash]
        # Tuning may arrive at settings that were run before: the same result twice, kept once, as the tuned one.
        if configuration.seed not in by_seed or configuration.tuned:
            by_seed[configuration.seed] = run
    reader = _Reader()
    entries = []
    for _, by_seed in sorted(by_settings.items()):
        chosen = [by_seed[seed] for seed in sorted(by_seed)]
        entries.append(reader.entry(chosen[:1] if chosen[0].record.deterministic else chosen))
    split_Q, task_Q, query_id_Q = (reader.keys[name].to_numpy(dtype=object) for name in _KEYS)
    return Group(runs[0].record.configuration.data, split_Q, task_Q, query_id_Q, tuple(entries), reader.logged)


class _Reader:
    """Reads decisions in the order of their keys, and checks that every run has the first run's keys."""

    def __init__(self) -> None:
        self._raw_keys: pd.DataFrame | None = None
        self._order: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.keys: pd.DataFrame
        self._first: Run
        self.logged: Logged | None = None

    def entry(self, runs: list[Run]) -> Entry:
        frames = [self._read(run) for run in runs]
        numbers = [np.stack([frame[name].to_numpy(dtype=np.float64) for frame in frames]) for name in _NUMBERS]
        arm_SQ = np.stack([frame["arm"].to_numpy(dtype=object) for frame in frames])
        entry = Entry(tuple(runs), arm_SQ, *numbers)
        if "propensity" not in frames[0]:
            return entry
        of_log = [frames[0][name].to_numpy() for name in _LOGGED]
        self.logged = Logged(frames[0]["logged_arm"].to_numpy(dtype=object), *of_log)
        expected_SQ = np.stack([frame[_EXPECTED].to_numpy() for frame in frames])
        return replace(entry, expected_SQ=expected_SQ)

    def _read(self, run: Run) -> pd.DataFrame:
        frame = decisions_of(run)
        raw_keys = frame[_KEYS]
        if self._raw_keys is not None and raw_keys.equals(self._raw_keys):
            same_order: pd.DataFrame = frame.iloc[self._order]
            return same_order
        # Sorting the keys of every run would take most of the time; nearly always they are in the same order.
        order = raw_keys.sort_values(_KEYS, kind="stable").index.to_numpy()
        keys = raw_keys.iloc[order].reset_index(drop=True)
        if self._raw_keys is None:
            if keys.duplicated().any():
                raise RunError(f"{run.folder} decides twice on a query: run it again with --fresh")
            self._raw_keys, self._order, self.keys, self._first = raw_keys, order, keys, run
        elif not keys.equals(self.keys):
            raise RunError(
                f"{run.folder} and {self._first.folder} decide on different queries of the same outcomes: "
                "run both again with --fresh"
            )
        ordered: pd.DataFrame = frame.iloc[order]
        return ordered


def decisions_of(run: Run) -> pd.DataFrame:
    """A run's decisions with checked columns: keys and arms as text, the rest as numbers (NaN: unknown)."""
    import pandas as pd

    try:
        frame = run.decisions()
    except (OSError, ValueError) as error:
        raise RunError(f"{run.folder} has no readable decisions.parquet: run it again with --fresh") from error
    logged = run.logged
    text_names = [*_KEYS, "arm", *(["logged_arm"] if logged else [])]
    number_names = [*_NUMBERS, *([*_LOGGED, _EXPECTED] if logged else [])]
    absent = [name for name in [*text_names, *number_names] if name not in frame]
    if absent:
        raise RunError(
            f"{run.folder}/decisions.parquet lacks the columns {', '.join(absent)}: run it again with --fresh"
        )
    texts = {name: frame[name].astype(str) for name in text_names}
    numbers = {name: pd.to_numeric(frame[name]).astype(np.float64) for name in number_names}
    checked: pd.DataFrame = pd.DataFrame({**texts, **numbers}).reset_index(drop=True)
    return checked
