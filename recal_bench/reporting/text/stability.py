"""Stability reports as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from recal_bench.reporting.figures.names import labels, stability_title
from recal_bench.reporting.figures.stability import Bounds, StabilityReport, StabilityRow
from recal_bench.reporting.text.columns import UNKNOWN
from recal_bench.reporting.text.layout import SHOWN_BY_FORMATS, filled, markdown_table, terminal_table
from recal_bench.reporting.text.rows import as_csv, as_json
from recal_bench.reporting.text.tables import in_markdown
from recal_bench.wording import harmless, place_of

# By header: when the terminal leaves the column out (see `layout.terminal_table`), and its cells.
_Columns = dict[str, tuple[int, Callable[[StabilityRow], str]]]


def render_reports(reports: Sequence[StabilityReport], format: str) -> str:
    """All reports as `table`, `markdown`, `csv` or `json`; the last two are one list of rows."""
    rows = [row for report in reports for row in report.rows]
    if format == "json":
        return json.dumps([as_json(row) for row in rows], indent=1, allow_nan=False)
    if format == "csv":
        return as_csv(rows)
    return "\n\n".join("\n\n".join(blocks(report, format == "markdown")) for report in reports)


def blocks(report: StabilityReport, markdown: bool) -> list[str]:
    """Title, figures, figures against the baseline, notes."""
    parts = [f"### {stability_title(report, markdown)}" if markdown else filled(stability_title(report))]
    if report.rows:
        parts += ["Where it ended", _table(report, _results(report), markdown)]
    if any(cell(row) != UNKNOWN for row in report.rows for _, cell in _COURSE.values()):
        parts += ["On the way", _table(report, _COURSE, markdown)]
    if any(row.vs_baseline for row in report.rows):
        parts += [
            f"Against {harmless(report.baseline or '', place_of(markdown))}",
            _table(report, _VERSUS, markdown),
        ]
    notes = [f"Note: {note}." for note in report.notes]
    return parts + (list(map(in_markdown, notes)) if markdown else list(map(filled, notes)))


def _results(report: StabilityReport) -> _Columns:
    target = "" if report.target is None else f"{report.target:.3f}"
    return {
        "seeds": (5, lambda row: str(row.n_seeds)),
        # Elsewhere `compare` has it, with its interval; of a log it is the one figure that every seed has.
        **({"test, estimated": (1, lambda row: _number(row.test_mean, ".3f"))} if report.data.logged else {}),
        "seed SD [95%]": (0, lambda row: _with_bounds(row.seed_sd, row.seed_sd_ci, ".4f")),
        "last": (2, lambda row: _number(row.final_utility, ".3f")),
        "area": (3, lambda row: _number(row.area_under_curve, ".3f")),
        f"steps to {target}": (4, _steps),
        "collapsed": (0, lambda row: _of(row.collapsed, row)),
        "no gain": (1, lambda row: _of(row.never_gained, row)),
        "kept step": (7, lambda row: _number(row.kept_step, ".0f")),
        "gain over prior": (6, lambda row: _number(row.gain_over_prior, "+.4f")),
    }


_COURSE: _Columns = {
    "IQR": (5, lambda row: _number(row.detrended_iqr, ".4f")),
    "drawdown": (0, lambda row: _number(row.max_drawdown, ".3f")),
    "gradient p99/p50": (1, lambda row: _number(row.gradient_tail, ".3g")),
    "spikes": (2, lambda row: _number(row.gradient_spikes, ".1f")),
    "entropy ratio": (3, lambda row: _number(row.entropy_ratio, ".2f")),
    "flat groups": (4, lambda row: _number(row.groups_without_spread, ".0f", 100, "%")),
    "top arm": (6, lambda row: _number(row.top_arm_share, ".0f", 100, "%")),
}


def _versus(name: str, spec: str) -> Callable[[StabilityRow], str]:
    def cell(row: StabilityRow) -> str:
        versus = row.vs_baseline
        if versus is None:
            return "baseline"
        return _with_bounds(getattr(versus, name), getattr(versus, f"{name}_ci"), spec)

    return cell


_VERSUS: _Columns = {
    "seed SD, ratio [95%]": (0, _versus("sd_ratio", ".2f")),
    "steps, ratio [95%]": (2, _versus("steps_ratio", ".2f")),
    "area, difference [95%]": (3, _versus("area_difference", "+.4f")),
    "collapsed, difference [95%]": (1, _versus("collapse_difference", "+.2f")),
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
    cells = {header: [cell(row) for row in report.rows] for header, (_, cell) in columns.items()}
    known = [header for header in columns if any(cell not in (UNKNOWN, "baseline") for cell in cells[header])]
    headers = ["router", *known]
    names = labels(report.rows, place_of(markdown))
    lines = list(zip(names, *(cells[header] for header in known), strict=True))
    if markdown:
        return markdown_table(headers, lines)
    ranks = [0, *(columns[header][0] for header in known)]
    return terminal_table(headers, lines, ranks, shown_by=SHOWN_BY_FORMATS)
