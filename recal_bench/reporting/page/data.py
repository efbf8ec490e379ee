"""From tables, stability reports and runs to one JSON document: all that the page shows but the query lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recal_bench.evaluation.frontier import upper_hull
from recal_bench.experiments.records import Run
from recal_bench.reporting.figures.compare import TEST, Comparison, Table
from recal_bench.reporting.figures.families import FAMILIES, family_of
from recal_bench.reporting.figures.frontier import frontier_of, points_of, seed_curves
from recal_bench.reporting.figures.logged import LoggedRow, LoggedTable
from recal_bench.reporting.figures.names import labels, stability_title, title
from recal_bench.reporting.figures.stability import StabilityReport
from recal_bench.reporting.page.columns import LOGGED, REPLAYED, STABILITY, PageColumn, cell, filled
from recal_bench.reporting.page.training import curves_by_name
from recal_bench.wording import harmless

_MOST_POINTS = 120


def document(
    made: Sequence[tuple[Table | LoggedTable, Sequence[Run]]], reports: Sequence[StabilityReport], command: str
) -> dict[str, Any]:
    """What `index.html` embeds: every table with the runs behind it, plain JSON values whose texts are harmless.

    Timings are not in it, so that the same results give the same page.
    """
    tables = [_table(table, runs, [report for report in reports if report.rows]) for table, runs in made]
    used = {row["family"] for table in tables for row in table["rows"]}
    return {"command": command, "families": [family for family in FAMILIES if family in used], "tables": tables}


def in_html(document: Mapping[str, Any]) -> str:
    """A document as JSON that may stand inside a script element, whatever its texts hold."""
    text = json.dumps(cleaned(document), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def cleaned(value: Any) -> Any:
    """The same with every text harmless: control and invisible characters are escapes; line breaks stay."""
    if isinstance(value, str):
        return value if value.isprintable() else "\n".join(map(harmless, value.split("\n")))
    if isinstance(value, Mapping):
        return {cleaned(str(key)): cleaned(each) for key, each in value.items()}
    return [cleaned(each) for each in value] if isinstance(value, list | tuple) else value


def _table(table: Table | LoggedTable, runs: Sequence[Run], reports: Sequence[StabilityReport]) -> dict[str, Any]:
    there = {run.record.configuration.data.identity for run in runs}
    own = [report for report in reports if report.data.identity in there]
    rows = [(row, json.loads(row.model_dump_json())) for row in table.rows]
    by_split = {TEST: [values for _, values in rows]}
    for split in sorted({split for _, values in rows for split in values["splits"]}):
        by_split[split] = [values["splits"][split] for _, values in rows]
    known = LOGGED if isinstance(table, LoggedTable) else REPLAYED
    columns = filled(known, [values for every in by_split.values() for values in every])
    if any(column.path == "expected_utility" for column in columns):
        # The realised utility is then the lesser figure.
        columns = [column._replace(minor=column.minor or column.path == "utility") for column in columns]
    behind: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.record.configuration.seed):
        configuration = run.record.configuration
        behind.setdefault((configuration.router, configuration.settings_hash), []).append(run)
    made = [
        {
            **_identity(row, label, behind.get((row.router, row.settings_hash), [])),
            "figures": {
                split: [cell(column, {**values, **every[index]}) for column in columns]
                for split, every in by_split.items()
            },
            "tied": {split: every[index].get("tie_group") is not None for split, every in by_split.items()},
            "point": {split: _point(every[index]) for split, every in by_split.items()},
            "tasks": [values.get("per_task", {}).get(task) for task in _tasks(table)],
        }
        for index, ((row, values), label) in enumerate(zip(rows, labels(table.rows), strict=True))
    ]
    places = {(row.router, row.settings_hash): index for index, row in enumerate(table.rows)}
    return {
        "title": title(table),
        "simulated": table.data.simulated,
        "baseline": table.baseline,
        "notes": list(table.notes),
        "facts": _facts(table, runs),
        "splits": list(by_split),
        "columns": [_column(column, table) for column in columns],
        "tasks": _tasks(table),
        "rows": made,
        **_frontiers(table, behind),
        "curves": curves_by_name(own, places),
        "stability": [_stability(report) for report in own],
        "queries": [],
    }


def _identity(row: Comparison | LoggedRow, label: str, runs: Sequence[Run]) -> dict[str, Any]:
    return {
        "label": label,
        "router": row.router,
        "family": family_of(row.router, row.reference, row.external),
        "reference": row.reference,
        "baseline": row.is_baseline,
        "settings": {name: json.dumps(value, ensure_ascii=False) for name, value in row.settings.items()},
        "about": {
            "settings hash": row.settings_hash,
            "tuned on validation": row.tuned or "no",
            "encoder": row.encoder or "none",
            "seeds": ", ".join(map(str, sorted({run.record.configuration.seed for run in runs}))) or "none",
            "code": ", ".join(sorted({run.record.code for run in runs})),
        },
        "command": row.command,
    }


def _tasks(table: Table | LoggedTable) -> list[str]:
    return list(table.rows[0].per_task) if isinstance(table, Table) else []


def _point(figures: Mapping[str, Any]) -> list[float] | None:
    """USD per 1,000 queries, the router's own included, and accuracy; null where one is unknown."""
    cost, own, accuracy = (
        figures.get(name) for name in ("cost_usd_per_1k", "router_cost_usd_per_1k", "accuracy_macro")
    )
    if accuracy is None and isinstance(figures.get("accuracy"), Mapping):
        cost, accuracy = (found and found["value"] for found in (cost, figures["accuracy"]))
    if "router_cost_usd_per_1k" in figures and own is None:
        return None
    return None if cost is None or accuracy is None else [cost + (own or 0.0), accuracy]


def _frontiers(table: Table | LoggedTable, behind: Mapping[tuple[str, str], Sequence[Run]]) -> dict[str, Any]:
    """By row the curve of a router that was swept, on test; the single arms there, and what they reach mixed."""
    curves: dict[str, list[list[float]]] = {}
    arms: dict[str, list[float]] = {}
    hull: list[list[float]] = []
    for index, row in enumerate(table.rows):
        of_row = behind.get((row.router, row.settings_hash), [])
        swept = [each for run in of_row if (each := frontier_of(run, TEST)) is not None]
        if not swept:
            continue
        cost_X, accuracy_SX = seed_curves(swept)
        kept = np.unique(np.linspace(0, len(cost_X) - 1, min(len(cost_X), _MOST_POINTS)).round().astype(int))
        curves[str(index)] = [
            [float(f"{cost:.5g}"), float(f"{accuracy:.5g}")]
            for cost, accuracy in zip(cost_X[kept], accuracy_SX.mean(axis=0)[kept], strict=True)
        ]
        if not arms:
            # Of several worlds the mean; else the same in every run.
            points = [tuple(point) for point in np.mean([points_of(each.arms) for each in swept], axis=0).tolist()]
            arms = {arm: list(point) for arm, point in zip(table.data.arms, points, strict=False)}
            hull = [list(point) for point in upper_hull(points)]
    return {"frontiers": curves, "arms": arms, "hull": hull}


def _stability(report: StabilityReport) -> dict[str, Any]:
    rows = [json.loads(row.model_dump_json()) for row in report.rows]
    columns = filled(STABILITY, rows)
    return {
        "title": stability_title(report),
        "notes": list(report.notes),
        "columns": [
            {"label": column.label.replace("BASELINE", report.baseline or "baseline"), "form": column.form}
            for column in columns
        ],
        "rows": [
            {"label": label, "figures": [cell(column, row) for column in columns]}
            for label, row in zip(labels(report.rows), rows, strict=True)
        ],
    }


def _column(column: PageColumn, table: Table | LoggedTable) -> dict[str, Any]:
    found = [getattr(row, "vs_baseline", None) or getattr(row, "accuracy_vs_baseline", None) for row in table.rows]
    metrics = [each.metric for each in found if each is not None] or [getattr(table.rows[0], "metric", "utility")]
    label = column.label.replace("METRIC", metrics[0]).replace("BASELINE", table.baseline)
    return {"label": label, "form": column.form, "minor": column.minor}


def _facts(table: Table | LoggedTable, runs: Sequence[Run]) -> dict[str, str]:
    data = table.data
    records = [run.record for run in runs]
    packages = sorted({f"{name} {version}" for record in records for name, version in record.packages.items()})
    return {
        "outcomes": f"{data.name}, hash {data.hash}{', simulated' if data.simulated else ''}",
        "queries": ", ".join(f"{split} {count:,}" for split, count in sorted(data.n_queries.items())),
        "arms": f"{len(data.arms)}: {', '.join(data.arms)}",
        "missing outcomes": data.missing,
        "alpha": f"{data.alpha:g}",
        "cost_ref": "none" if data.cost_ref is None else f"{data.cost_ref:.6g} USD",
        "recal-bench": "; ".join(sorted({record.code for record in records})),
        "packages": ", ".join(packages),
        "devices": "; ".join(sorted({record.device_name for record in records})),
    }
