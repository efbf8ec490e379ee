"""The decisions of a router that was not run here, as runs like any other router's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from recal_bench import provenance
from recal_bench.defaults import KNOWN_TRUTH, STANDARD_REFERENCES
from recal_bench.errors import OutcomesError, RunError, SettingsError
from recal_bench.experiments.bench import Bench
from recal_bench.experiments.leak_audit import audit
from recal_bench.experiments.matching import Chosen, matched
from recal_bench.experiments.records import Configuration, Run, read_run
from recal_bench.experiments.replay import decision_frame
from recal_bench.experiments.work import METRICS, begin, find_run, finish, locked, record_of, recover, write_decisions
from recal_bench.folders import sha256, slug
from recal_bench.importers.decisions import read_decisions
from recal_bench.routers import Decisions, is_known
from recal_bench.toolbox.leaks import LeakAudit
from recal_bench.wording import counted, show

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class External:
    """The decisions of a router that was not run here: by seed and evaluated split. `hash` names them, `command` makes
    the row again, `notes` say what was not used."""

    name: str
    hash: str
    by_seed: Mapping[int, Mapping[str, Chosen]]
    command: str
    notes: tuple[str, ...] = ()


def require_names(names: Sequence[str]) -> None:
    """Raises SettingsError on a name that a router or a reference has, that is given twice, or cannot be one."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise SettingsError(f"a router cannot be called {show(name)!r}: use letters, digits, dots and hyphens")
        if is_known(name) or name in (*STANDARD_REFERENCES, KNOWN_TRUTH):
            raise SettingsError(f"{name} is the name of a router or reference of recal-bench: give another name")
        if names.count(name) > 1:
            raise SettingsError(f"{name} is given {names.count(name)} times: a router has one source of decisions")


def read_external(bench: Bench, name: str, path: Path) -> External:
    """The decisions of a file (see `importers.decisions`) on every query of every evaluated split.

    Raises OutcomesError, with counts and the first examples, on arms and queries that the outcomes do not hold, on
    queries that are decided twice or not at all, and where the router's own cost is known in part.
    """
    what = f"--decisions {name}={path}"
    rows = read_decisions(path)
    costs = sum(row.cost is None for row in rows)
    if 0 < costs < len(rows):
        raise OutcomesError(
            f"{what}: the router's own cost is empty in {costs:,} of {counted(len(rows), 'row')}: fill it in (0 where "
            "it is free), or leave the column out"
        )
    given = f"--decisions {name}={provenance.command_line(path)}"
    command = f"recal-bench run {given} {provenance.command_line(*bench.options)}".rstrip()
    by_seed, notes = matched(bench, rows, what)
    return External(name, sha256(path)[:16], by_seed, command, notes)


def run_external(bench: Bench, external: External, folder: Path, fresh: bool = False) -> list[Run]:
    """A run of each seed, or the record of the same decisions on the same outcomes, if no others were given since."""
    runs, found = [], None
    fresh = fresh or _last_given(bench, external, folder) != external.hash
    for seed in external.by_seed:
        configuration = Configuration(
            router=external.name,
            settings={},
            seed=seed,
            device="cpu",
            data=bench.data,
            source=provenance.source_hash(Bench),
            versions=provenance.versions_used(decision_frame, audit),
            decisions=external.hash,
        )
        target = folder / f"{slug(external.name)}-{configuration.key}-s{seed}"
        if not fresh and (known := find_run(bench, target)):
            runs.append(known)
            continue
        found = found or _audit(bench, external)
        with locked(target):
            recover(target)
            if fresh or find_run(bench, target) is None:
                _keep(bench, external, configuration, target, found, fresh)
        runs.append(read_run(target))
    return runs


def _last_given(bench: Bench, external: External, folder: Path) -> str:
    """The hash of the decisions that were given last under this name on these outcomes; empty where none were."""
    last = ("", "")
    for path in folder.glob(f"{slug(external.name)}-*-s*/run.json"):
        with contextlib.suppress(RunError):
            record = read_run(path.parent).record
            made = record.configuration
            if record.external and (made.router, made.data.identity) == (external.name, bench.data.identity):
                last = max(last, (record.started, made.decisions))
    return last[1]


def _audit(bench: Bench, external: External) -> LeakAudit | None:
    return audit(bench, [of_split["test"].arm_Q for of_split in external.by_seed.values()])


def _keep(
    bench: Bench,
    external: External,
    configuration: Configuration,
    target: Path,
    found: LeakAudit | None,
    fresh: bool,
) -> None:
    import pandas as pd

    started = datetime.now(timezone.utc)
    work, _ = begin(target, fresh)
    frames = []
    for name, chosen in external.by_seed[configuration.seed].items():
        part = bench.splits.evaluation[name]
        calls = bench.calls(part)
        if chosen.cost_Q is not None:
            calls.router_cost_Q += chosen.cost_Q
        frame = decision_frame(bench, name, part, Decisions(chosen.arm_Q), calls)
        frames.append(frame if chosen.cost_Q is not None else frame.assign(router_cost_usd=np.nan))
    write_decisions(pd.concat(frames, ignore_index=True), work)
    (work / METRICS).unlink()
    record = record_of(
        bench,
        configuration,
        started,
        deterministic=len(external.by_seed) == 1,
        command=external.command,
        audit=found,
    )
    finish(target, record)


def names_in(given: Collection[str], option: str) -> dict[str, str]:
    """`NAME=VALUE` words by name. Raises SettingsError on a word of another form and as `require_names` does."""
    pairs = []
    for word in given:
        name, equals, value = word.partition("=")
        if not (equals and name.strip() and value.strip()):
            raise SettingsError(f"{option} {word}: write NAME={'URL' if option == '--endpoint' else 'FILE'}")
        pairs.append((name.strip(), value.strip()))
    require_names([name for name, _ in pairs])
    return dict(pairs)
