"""The stability reports of a folder of runs, written with their curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from recal_bench.errors import RunError
from recal_bench.folders import written_whole
from recal_bench.reporting.figures.names import labels, slugs, stability_title
from recal_bench.reporting.figures.stability import StabilityReport
from recal_bench.reporting.pictures.drawing import svgs_of
from recal_bench.reporting.pictures.training import training_curves
from recal_bench.reporting.text.rows import as_json
from recal_bench.reporting.text.stability import blocks
from recal_bench.wording import harmless


def write_stability(
    reports: Sequence[StabilityReport], out: Path, command: str
) -> tuple[list[Path], dict[int, list[Path]]]:
    """Write stability.md, stability.json and each report's training curves; nothing where no report has rows.

    Returns all paths, and the SVGs of each report that has some, by the report's index. The same runs give the same
    bytes. Raises RunError where `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file: --out takes a folder")
    if not any(report.rows for report in reports):
        return [], {}
    out.mkdir(parents=True, exist_ok=True)
    head = f"Written by {harmless(command, 'code')}; do not edit. docs/stability.md defines every column."
    sections, pictures, drawn = ["# Stability of training", head], list[Path](), dict[int, list[Path]]()
    for index, (report, slug) in enumerate(zip(reports, slugs([each.data for each in reports]), strict=True)):
        named = list(zip(labels(report.rows), report.curves, strict=True))
        paths = training_curves(named, stability_title(report), out / f"{slug}-training")
        sections += blocks(report, markdown=True)
        if paths:
            drawn[index] = svgs_of(paths)
            simulated = " (simulated)" if report.data.simulated else ""
            sections += [f"![Training curves{simulated}]({path.name})" for path in drawn[index]]
        pictures += paths
    made = [
        {
            "data": report.data.model_dump(mode="json"),
            "baseline": report.baseline,
            "target_utility": report.target,
            "notes": list(report.notes),
            "rows": [as_json(row) for row in report.rows],
        }
        for report in reports
    ]
    texts = {
        "stability.md": "\n\n".join(sections),
        "stability.json": json.dumps({"command": command, "reports": made}, indent=1, allow_nan=False),
    }
    for name, text in texts.items():
        with written_whole(out / name) as draft:
            draft.write_text(text + "\n", encoding="utf-8", newline="\n")
    return [*(out / name for name in texts), *pictures], drawn
