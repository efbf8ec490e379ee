"""The run records of a folder as text: what stands in tables, and what became of the rest."""

from __future__ import annotations

from pathlib import Path

from recal_bench.encoders.shared import STORE
from recal_bench.experiments.pruning import size_of, unfinished
from recal_bench.experiments.records import Found
from recal_bench.experiments.standing import Standing, Superseded
from recal_bench.reporting.text.layout import filled, terminal_table
from recal_bench.wording import counted, show

_HEADERS = ("record", "outcomes", "alpha", "started (UTC)", "size", "in tables")
_RANKS = (0, 1, 3, 2, 4, 0)
"""When the terminal leaves out a column (see `layout.terminal_table`)."""


def records_text(folder: Path, found: Found, state: Standing) -> str:
    """One line for each record, and what else is in the folder."""
    why = {each.run.folder: _why(each) for each in state.superseded}
    lines = []
    for run in found.runs:
        data = run.record.configuration.data
        lines.append(
            [
                run.folder.name,
                f"{show(data.name, 20)} ({data.hash[:6]})",
                f"{data.alpha:g}",
                run.record.started[:16].replace("T", " "),
                _bytes(size_of(run.folder)),
                why.get(run.folder, "yes"),
            ]
        )
    parts = [terminal_table(_HEADERS, lines, _RANKS, left=(0, 1, 5))]
    notes = [f"{counted(len(found.runs), 'record')}, {len(state.runs):,} of them in tables"]
    if (folder / STORE).is_dir():
        notes.append(f"shared encoders: {_bytes(size_of(folder / STORE))} in {folder / STORE}")
    if state.superseded:
        notes.append(f"remove the {len(state.superseded):,} others with `recal-bench runs {folder} --prune`")
    notes += [f"unfinished: {work.name} (the command that began it goes on with it)" for work in unfinished(folder)]
    return "\n\n".join([*parts, "\n".join(map(filled, notes))])


def _why(each: Superseded) -> str:
    by = each.by.folder.name
    return f"no: the same result as {by}" if each.same_result else f"no: {by} is newer ({each.differs})"


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.0f} kB"
