"""What is exported: an outcomes file as checked rows, or the runs of a folder that stand in tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from recal_bench.errors import RunError
from recal_bench.experiments.records import Run, find_runs
from recal_bench.experiments.standing import standing
from recal_bench.folders import sha256
from recal_bench.importers import Options
from recal_bench.importers.long import rows_of_file
from recal_bench.importers.rows import Row
from recal_bench.outcomes import Outcomes
from recal_bench.outcomes.files import read_outcomes
from recal_bench.outcomes.schema import WITHOUT
from recal_bench.outcomes.writer import read_metadata
from recal_bench.table_files import stem
from recal_bench.wording import counted


@dataclass(frozen=True)
class Publisher:
    """Who publishes, as far as the user says it. `queries`: the texts of queries and replies are published too."""

    organization: str | None = None
    relationship: str = "other"
    queries: bool = True


@dataclass(frozen=True)
class Exported:
    """What an export wrote, in a few lines, and what its reader should do or know."""

    summary: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())


class LoggedFile:
    """An outcomes file that `validate` accepts. Raises OutcomesError where it does not, with the first problem."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: Outcomes = read_outcomes(path)
        self.metadata: dict[str, Any] = read_metadata(path)
        self.name = stem(path)

    @cached_property
    def sha256(self) -> str:
        return sha256(self.path)

    def rows(self) -> Iterator[Row]:
        """The rows with a score, in the order of the file; strategy and task as `run` takes them."""
        options = Options(task=WITHOUT["task"])
        for row in rows_of_file(self.path, {}, {}, options, [], {}):
            yield row if row.strategy else row._replace(strategy=WITHOUT["strategy"])

    def origin(self) -> dict[str, str]:
        """Where the outcomes come from, as far as the file says it: names to texts."""
        told = {"outcomes_sha256": self.sha256, "outcomes_hash": self.outcomes.data_hash}
        if self.metadata.get("simulated"):
            told["simulated"] = "true"
        for name in ("made_by", "pool", "price_book"):
            if name in self.metadata:
                told[name] = str(self.metadata[name])
        imported = self.metadata.get("import", {})
        if imported:
            files = ", ".join(f"{each['name']} ({each['sha256']})" for each in imported.get("files", []))
            told |= {"imported_from": str(imported.get("format")), "imported_files": files}
        return told


def runs_of(folder: Path) -> tuple[list[Run], list[str]]:
    """The routers' runs of a folder that stand in tables, and notes on what is left out.

    References are left out, since no router can be them, and runs on logs of single choices, whose figures are
    estimates. Raises RunError where none is left.
    """
    found = find_runs(folder)
    stands = standing(found.runs).runs
    runs = [run for run in stands if not run.record.reference and not run.logged]
    left_out = Counter(
        "on a log of single choices, whose figures are estimates" if run.logged else "of references"
        for run in stands
        if run.record.reference or run.logged
    )
    notes = [f"{counted(number, 'run')} {why}: left out" for why, number in sorted(left_out.items())]
    if not runs:
        raise RunError(f"{folder} holds no run of a router that could be exported ({'; '.join(notes)})")
    return runs, [*found.left_out, *notes]
