"""Which records stand in tables: of equal configurations the newest, and what became of the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

from recal_bench.experiments.records import Configuration, Run

_RESULT = ["split", "task", "query_id", "arm", "score", "cost_usd", "router_cost_usd"]


class Superseded:
    """An older record of a configuration, and the one that stands in its place."""

    def __init__(self, run: Run, by: Run) -> None:
        self.run, self.by = run, by

    @property
    def differs(self) -> str:
        """In what it was made differently, in a few words: code, packages, device."""
        old, new = self.run.record, self.by.record
        was, now = old.configuration, new.configuration
        parts = []
        if old.record_version != new.record_version:
            parts.append(f"record version {old.record_version}, now {new.record_version}")
        elif was.source != now.source:
            codes = "" if old.code == new.code else f" {old.code}, now {new.code}"
            parts.append(f"code{codes}" if codes else "the router's code")
        names = sorted({*was.versions, *now.versions}) if was.versions else []
        parts += [
            f"{name} {was.versions.get(name, 'absent')}, now {now.versions.get(name, 'absent')}"
            for name in names
            if was.versions.get(name) != now.versions.get(name)
        ]
        if was.device != now.device:
            parts.append(f"device {was.device}, now {now.device}")
        if was.decisions != now.decisions:
            parts.append("the decisions")
        return "; ".join(parts) or "nothing"

    @cached_property
    def same_result(self) -> bool:
        """Whether both decided the same on every query, for the same score and cost."""
        try:
            old, new = (
                each.decisions()[_RESULT].sort_values(_RESULT[:3], ignore_index=True) for each in (self.run, self.by)
            )
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return bool(old.equals(new))


class Standing(NamedTuple):
    """The records that stand in tables, in the order they were given, and those that do not."""

    runs: list[Run]
    superseded: list[Superseded]


def standing(runs: Sequence[Run]) -> Standing:
    """Of records with the same router, settings, seed and outcomes the newest one stands.

    They may differ in code, packages and device, and in whether the settings are called tuned: of records made in the
    same way a tuned one stands. Of decisions that were made elsewhere those that were given last stand, all seeds of
    them.
    """
    equal: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in runs:
        equal[_what(run.record.configuration)].append(run)
    stands: set[int] = set()
    superseded = []
    given: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in (run for run in runs if run.record.external):
        given[run.record.configuration.router, run.record.configuration.data.identity].append(run)
    for each in given.values():
        newest = _newest(each)
        last = newest.record.configuration.decisions
        earlier = [run for run in each if run.record.configuration.decisions != last]
        superseded += [Superseded(run, newest) for run in earlier]
        for run in earlier:
            equal[_what(run.record.configuration)].remove(run)
    for each in filter(None, equal.values()):
        newest = _newest(each)
        stands.add(id(newest))
        superseded += [Superseded(run, newest) for run in each if run is not newest]
    return Standing([run for run in runs if id(run) in stands], superseded)


def _newest(runs: Sequence[Run]) -> Run:
    """Of the records made in the way that was used last the tuned one, if any, and else the last."""
    last: dict[str, str] = {}
    for run in runs:
        last[made_by(run)] = max(run.record.started, last.get(made_by(run), ""))

    def rank(run: Run) -> tuple[str, bool, str, str]:
        tuned = run.record.configuration.tuned is not None
        return last[made_by(run)], tuned, run.record.started, run.folder.name

    return max(runs, key=rank)


def superseded_notes(superseded: Iterable[Superseded]) -> list[str]:
    """What a reader of a table should know of older records with other results: one line, nothing where there are none.

    A record whose result is the newest one's is not worth a word.
    """
    by_row: dict[tuple[str, str], list[Superseded]] = defaultdict(list)
    for each in superseded:
        if not each.same_result:
            by_row[each.run.record.configuration.router, each.differs].append(each)
    if not by_row:
        return []
    named = [
        f"{router} ({len(each)}, {', '.join(sorted(one.run.folder.name for one in each)[:2])}"
        f"{', ...' if len(each) > 2 else ''}: {differs})"
        for (router, differs), each in sorted(by_row.items())
    ]
    return [
        f"older records of the same configurations with other results are not shown: {'; '.join(named)}; "
        "`recal-bench runs --prune` removes them"
    ]


def made_by(run: Run) -> str:
    """What a record was made by: code, versions of packages, device."""
    configuration = run.record.configuration
    made = (configuration.source, sorted(configuration.versions.items()), configuration.device)
    return repr((*made, configuration.decisions))


def _what(configuration: Configuration) -> tuple[str, ...]:
    return configuration.router, configuration.settings_hash, str(configuration.seed), configuration.data.identity
