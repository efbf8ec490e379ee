"""The folder of a run: locked, worked on under a hidden name, given its own by a rename; found again, or recovered."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recal_bench import provenance
from recal_bench.arrays import finite_or_none
from recal_bench.errors import RunError
from recal_bench.experiments.bench import Bench
from recal_bench.experiments.records import Configuration, LaterRunError, Run, RunRecord, parse_line, read_run
from recal_bench.folders import naming, written_whole

if TYPE_CHECKING:
    import pandas as pd

METRICS = "metrics.jsonl"
_LOCKS, _LATENCY = ".locks", ".latency"


def work_folder(target: Path) -> Path:
    return target.with_name(f".{target.name}")


def find_run(bench: Bench, target: Path) -> Run | None:
    """The finished run of a folder, under the present name of its outcomes; None where there is none, or a damaged one.

    Nothing is written. Raises LaterRunError where a later version wrote the record, which is not for this one to
    replace.
    """
    import pyarrow.parquet

    try:
        run = read_run(target)
        rows = pyarrow.parquet.read_metadata(target / "decisions.parquet").num_rows
    except LaterRunError:
        raise
    except (RunError, OSError, ValueError):
        return None
    if rows != sum(map(len, bench.splits.evaluation.values())):
        return None
    return Run(folder=target, record=_renamed(run.record, bench))


def _renamed(record: RunRecord, bench: Bench) -> RunRecord:
    configuration: Configuration = record.configuration.model_copy(update={"data": bench.data})
    return record.model_copy(update={"configuration": configuration})


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """One process at a time works on a run, and none while latencies are measured in the same folder."""
    from filelock import FileLock

    locks = target.parent / _LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / _LATENCY):
        pass
    with FileLock(locks / target.name):
        yield


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Whether no other process works on a run of the folder; those that want to begin wait until the block ends.

    False too where the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    locks = folder / _LOCKS
    with contextlib.ExitStack() as held:
        try:
            locks.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(locks / _LATENCY))
            for path in sorted(locks.glob("[!.]*")):
                with FileLock(path, timeout=0):
                    pass
        except (Timeout, OSError):
            yield False
            return
        yield True


def begin(target: Path, fresh: bool) -> tuple[Path, int]:
    """The hidden folder in which a run is worked on, and the step of the checkpoint from which it goes on (0: none).

    Its log is cut back to that step. Where the log is damaged, or ends before, all of it begins again.
    """
    from recal_bench.training import checkpoint_step, remove_checkpoint

    work = work_folder(target)
    if fresh:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    step = checkpoint_step(work)
    kept = _lines_until(work / METRICS, step) if step else []
    if kept is None:
        remove_checkpoint(work)
        kept, step = [], 0
    (work / METRICS).write_bytes(b"".join(kept))
    return work, step


def _lines_until(path: Path, step: int) -> list[bytes] | None:
    """The lines of a log up to a step; None where one of them is damaged, or that step's is absent."""
    kept: list[bytes] = []
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        found = parse_line(line)
        if found is None or not isinstance(found.get("step"), int):
            return None
        kept.append(line)
        if found["step"] == step:
            return kept if line.endswith(b"\n") else None
    return None


def finish(target: Path, record: RunRecord) -> None:
    """Write the record last, then give the work folder its name. An older run of that name is replaced."""
    work = work_folder(target)
    write_record(work, record)
    if target.exists():
        target.rename(target.with_name(f".{target.name}-old-{os.getpid()}"))
    work.rename(target)
    _remove_old(target)


def recover(target: Path) -> None:
    """Bring back a run whose process was killed when it was finished but for its name."""
    with contextlib.suppress(RunError):
        read_run(work_folder(target))
        if not target.exists():
            work_folder(target).rename(target)
    _remove_old(target)


def _remove_old(target: Path) -> None:
    if (target / "run.json").exists():
        for old in target.parent.glob(f".{target.name}-old-*"):
            shutil.rmtree(old, ignore_errors=True)


def write_decisions(frame: pd.DataFrame, work: Path) -> None:
    path = work / "decisions.parquet"
    with naming(path):
        frame.to_parquet(path, index=False)


def write_record(folder: Path, record: RunRecord) -> None:
    with written_whole(folder / "run.json") as draft:
        draft.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def record_of(bench: Bench, configuration: Configuration, started: datetime, **results: Any) -> RunRecord:
    return RunRecord(
        configuration=configuration,
        started=started.isoformat(timespec="microseconds"),
        code=provenance.code_version(),
        packages=provenance.package_versions(),
        device_name=provenance.device_name(configuration.device),
        mean_score_A=tuple(map(finite_or_none, bench.mean_score_A)),
        mean_cost_A=tuple(map(finite_or_none, bench.mean_cost_A)),
        label_cost_usd=bench.label_cost,
        **results,
    )
