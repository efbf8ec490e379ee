"""What a folder of runs no longer needs, and its removal."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from recal_bench.encoders.shared import unused_encoders
from recal_bench.experiments.standing import Superseded
from recal_bench.experiments.work import locked


def prune(folder: Path, superseded: Sequence[Superseded]) -> list[Path]:
    """Remove superseded records, and then the shared encoders that no run refers to; returns what was removed."""
    removed = []
    for each in superseded:
        with locked(each.run.folder):
            shutil.rmtree(each.run.folder)
        removed.append(each.run.folder)
    for path in unused_encoders(folder):
        path.unlink()
        removed.append(path)
    return removed


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def unfinished(folder: Path) -> list[Path]:
    """The hidden folders in which runs are worked on, or that a killed process left."""
    return [path for path in sorted(folder.glob(".*-s*")) if path.is_dir()]
