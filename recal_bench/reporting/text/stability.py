"""Stability reports as text, and as a folder with their curves."""

from __future__ import annotations

import csv
import io
import json
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from recal_bench.errors import RunError
from recal_bench.experiments.records import Data
from recal_bench.reporting.figures.stability import Bounds, StabilityReport, StabilityRow
from recal_bench.reporting.pictures.training import training_curves
from recal_bench.reporting.text.columns import UNKNOWN
from recal_bench.reporting.text.tables import WIDTH, labels

_Columns = dict[str, Callable[[StabilityRow], str]]


def render_reports(reports: Sequence[StabilityReport], format: str) -> str:
    """All reports as `table`, `markdown`, `csv` or `json`; the last two are one list of rows."""
    rows = [row for report in reports for row in report.rows]
    if format == "json":
        return json.dumps([_as_json(row) for row in rows], indent=1, allow_nan=False)
    if format == "csv":
        return _as_csv(rows)
    return "\n\n".join("\n\n".join(blocks(report, format == "markdown")) for report in reports)


def blocks(report: StabilityReport, markdown: bool) -> list[str]:
    """Title, figures, figures against the baseline, notes."""
    parts = [("### " if markdown else "") + heading(report, markdown)]
    if report.rows:
        parts += ["Where it ended", _table(report, _results(report), markdown)]
        parts += ["On the way", _table(report, _COURSE, markdown)]
    if any(row.vs_baseline for row in report.rows):
        parts += [f"Against {report.baseline}", _table(report, _VERSUS, markdown)]
    notes = [f"Note: {note}." for note in report.notes]
    return parts + (notes if markdown else [textwrap.fill(note, WIDTH) for note in notes])


def heading(report: StabilityReport, markdown: bool = False) -> str:
    """Which outcomes a report is about, and that they are simulated where they are."""
    data = report.data
    simulated = (", **simulated**" if markdown else ", simulated") if data.simulated else ""
    return f"Stability of training on {data.name} ({data.hash[:12]}){simulated}: alpha {data.alpha:g}"


def names_of(rows: Sequence[StabilityRow]) -> list[str]:
    """A short name for every row."""
    return labels(rows)  # type: ignore[arg-type]


def write_stability(reports: Sequence[StabilityReport], out: Path, command: str) -> tuple[list[Path], dict[int, Path]]:
    """Write stability.md, stability.json and each report's training curves; nothing where no report has rows.

    Returns all paths, and the SVG of each report that has one, by the report's index. The same runs give the same
    bytes. Raises RunError where `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file: --out takes a folder")
    if not any(report.rows for report in reports):
        return [], {}
    out.mkdir(parents=True, exist_ok=True)
    head = f"Written by `{command}`; do not edit. docs/stability.md defines every column."
    sections, pictures, drawn = ["# Stability of training", head], list[Path](), dict[int, Path]()
    for index, (report, slug) in enumerate(zip(reports, slugs([each.data for each in reports]), strict=True)):
        named = list(zip(names_of(report.rows), report.curves, strict=True))
        paths = training_curves(named, heading(report), out / f"{slug}-training")
        sections += blocks(report, markdown=True)
        if paths:
            sections.append(f"![Training curves{' (simulated)' if report.data.simulated else ''}]({paths[0].name})")
            drawn[index] = paths[0]
        pictures += paths
    made = [
        {
            "data": report.data.model_dump(mode="json"),
            "baseline": report.baseline,
            "target_utility": report.target,
            "notes": list(report.notes),
            "rows": [_as_json(row) for row in report.rows],
        }
        for report in reports
    ]
    texts = {
        "stability.md": "\n\n".join(sections),
        "stability.json": json.dumps({"command": command, "reports": made}, indent=1, allow_nan=False),
    }
    for name, text in texts.items():
        (out / name).write_text(text + "\n", encoding="utf-8", newline="\n")
    return [*(out / name for name in texts), *pictures], drawn


def slugs(datas: Sequence[Data]) -> list[str]:
    """A file name for each set of outcomes: its own name, numbered where several share it."""
    made: list[str] = []
    for data in datas:
        slug = re.sub(r"[^A-Za-z0-9]+", "-", Path(data.name).stem).strip("-").lower() or "outcomes"
        count = 2
        unique = slug
        while unique in made:
            unique = f"{slug}-{count}"
            count += 1
        made.append(unique)
    return made


def _results(report: StabilityReport) -> _Columns:
    target = "" if report.target is None else f"{report.target:.3f}"
    return {
        "seeds": lambda row: str(row.n_seeds),
        "seed SD [95%]": lambda row: _with_bounds(row.seed_sd, row.seed_sd_ci, ".4f"),
        "last": lambda row: _number(row.final_utility, ".3f"),
        "area": lambda row: _number(row.area_under_curve, ".3f"),
        f"steps to {target}": _steps,
        "collapsed": lambda row: _of(row.collapsed, row),
        "no gain": lambda row: _of(row.never_gained, row),
    }


_COURSE: _Columns = {
    "IQR": lambda row: _number(row.detrended_iqr, ".4f"),
    "drawdown": lambda row: _number(row.max_drawdown, ".3f"),
    "gradient p99/p50": lambda row: _number(row.gradient_tail, ".3g"),
    "spikes": lambda row: _number(row.gradient_spikes, ".1f"),
    "entropy ratio": lambda row: _number(row.entropy_ratio, ".2f"),
    "flat groups": lambda row: _number(row.groups_without_spread, ".0f", 100, "%"),
    "top arm": lambda row: _number(row.top_arm_share, ".0f", 100, "%"),
}


def _versus(name: str, spec: str) -> Callable[[StabilityRow], str]:
    def cell(row: StabilityRow) -> str:
        versus = row.vs_baseline
        if versus is None:
            return "baseline"
        return _with_bounds(getattr(versus, name), getattr(versus, f"{name}_ci"), spec)

    return cell


_VERSUS: _Columns = {
    "seed SD, ratio [95%]": _versus("sd_ratio", ".2f"),
    "steps, ratio [95%]": _versus("steps_ratio", ".2f"),
    "area, difference [95%]": _versus("area_difference", "+.4f"),
    "collapsed, difference [95%]": _versus("collapse_difference", "+.2f"),
}


def _number(value: float | None, spec: str, scale: float = 1, suffix: str = "") -> str:
    return UNKNOWN if value is None else format(value * scale, spec) + suffix


def _with_bounds(value: float | None, bounds: Bounds | None, spec: str) -> str:
    shown = _number(value, spec)
    if bounds is None:
        return shown
    # Of steps that are never made there is a side of the interval, but no number.
    shown = "never" if value is None else shown
    low, high = ("inf" if bound is None else format(bound, spec) for bound in bounds)
    return f"{shown} [{low}, {high}]"


def _of(count: int | None, row: StabilityRow) -> str:
    return UNKNOWN if count is None else f"{count}/{row.n_seeds}"


def _steps(row: StabilityRow) -> str:
    if row.seeds_at_target is None:
        return UNKNOWN
    return "never" if row.steps_to_target is None else f"{row.steps_to_target:.0f}"


def _table(report: StabilityReport, columns: _Columns, markdown: bool) -> str:
    """The columns that are known for any row."""
    cells = {header: [cell(row) for row in report.rows] for header, cell in columns.items()}
    shown = {
        header: lines for header, lines in cells.items() if any(line not in (UNKNOWN, "baseline") for line in lines)
    }
    head = ["router", *shown]
    body = [list(line) for line in zip(names_of(report.rows), *shown.values(), strict=True)]
    align = ("left", *["right"] * len(shown))
    if markdown:
        return tabulate(body, head, "pipe", disable_numparse=True, colalign=align)
    # tabulate's own headers would make every column two wider than it need be.
    rule = ["-" * max(len(line[index]) for line in [head, *body]) for index in range(len(head))]
    return tabulate([head, rule, *body], tablefmt="plain", disable_numparse=True, colalign=align)


def _as_json(row: StabilityRow) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(row.model_dump_json())
    return values


def _as_csv(rows: Sequence[StabilityRow]) -> str:
    """All rows under one header; nested figures have dotted names, what is unknown is empty."""
    flat = []
    for row in rows:
        values = _as_json(row)
        values["settings"] = json.dumps(values["settings"], sort_keys=True)
        versus = values.pop("vs_baseline") or {}
        values |= {f"vs_baseline.{name}": value for name, value in versus.items()}
        flat.append({name: cell for pair in values.items() for name, cell in _cells(*pair)})
    text = io.StringIO()
    names = list(dict.fromkeys(name for line in flat for name in line))
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue().rstrip("\n")


def _cells(name: str, value: Any) -> list[tuple[str, Any]]:
    if not name.endswith("_ci"):
        return [(name, value)]
    low, high = value or (None, None)
    return [(f"{name}.low", low), (f"{name}.high", high)]
