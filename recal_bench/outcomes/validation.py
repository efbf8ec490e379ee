"""Can an outcomes file be used? What `recal-bench validate` says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from recal_bench.errors import RecalBenchError
from recal_bench.outcomes.files import FileReport, check_file
from recal_bench.outcomes.reading import WHOLE_RANGE, Reading
from recal_bench.outcomes.splits import prepare
from recal_bench.outcomes.unknown_costs import small


def validate(
    path: str | Path, *, score_range: tuple[float, float] = WHOLE_RANGE, zero_cost: str | None = None
) -> FileReport:
    """Whether an outcomes file can be used: all problems at once, what is worth knowing, and the outcomes.

    `score_range` and `zero_cost` are those of `load_outcomes`. Of a file with problems `outcomes` is None. Raises
    nothing, whatever the file.
    """
    report = check_file(Path(path), reading=Reading(score_range, zero_cost))
    if report.outcomes is None:
        return report
    try:
        split, options = prepare(report.outcomes), list[str]()
    except RecalBenchError:
        try:
            split, options = prepare(report.outcomes, missing="restrict"), ["--missing", "restrict"]
        except RecalBenchError as error:
            return replace(report, problems=(str(error),), outcomes=None)
    parts = split.parts.values()
    known = sum(int((part.observed_QA & ~np.isnan(part.cost_QA)).sum()) for part in parts)
    unknown = sum(int(part.observed_QA.sum()) for part in parts) - known
    options += ["--unknown-cost", "estimate"] if small(unknown, known) else []
    notes = tuple(dict.fromkeys((*report.notes, *split.notes)))
    return replace(report, notes=notes, options=tuple(options))
