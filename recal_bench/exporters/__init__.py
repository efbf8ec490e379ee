"""Outcomes and run records in the forms in which others publish and read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recal_bench.errors import OutcomesError, SettingsError, near_miss
from recal_bench.exporters.dataset import dataset_of_file, dataset_of_runs
from recal_bench.exporters.every_eval_ever import records_of_file, records_of_runs
from recal_bench.exporters.sources import Exported, LoggedFile, Publisher
from recal_bench.folders import written_together

__all__ = ["FORMATS", "Exported", "Format", "Publisher", "export"]


@dataclass(frozen=True)
class Format:
    """One form of a publication. Both functions write into an empty folder, and say what a reader should know."""

    of_file: Callable[[LoggedFile, Path, Publisher], Exported]
    of_runs: Callable[[Path, Path, Publisher], Exported]


FORMATS: dict[str, Format] = {
    "every-eval-ever": Format(records_of_file, records_of_runs),
    "dataset": Format(dataset_of_file, dataset_of_runs),
}


def export(source: Path, to: str, out: Path, publisher: Publisher) -> Exported:
    """Write an outcomes file, or a folder of runs, in a form for others into the folder `out`.

    All of it is written, or nothing. Raises SettingsError on an unknown form and on a folder that holds something
    already, OutcomesError and RunError on a source that cannot be used.
    """
    if to not in FORMATS:
        raise SettingsError(f"--to {to}{near_miss(to, FORMATS)}: it is one of {', '.join(FORMATS)}")
    if not source.exists():
        raise OutcomesError(f"{source} does not exist: give an outcomes file, or a folder of runs")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(f"--out {out} is there, and not an empty folder: choose another, or empty it")
    if to != "every-eval-ever" and publisher.organization:
        raise SettingsError(f"--organization is for every-eval-ever: leave it out for {to}")
    with written_together(out) as draft:
        if source.is_dir():
            return FORMATS[to].of_runs(source, draft, publisher)
        return FORMATS[to].of_file(LoggedFile(source), draft, publisher)
