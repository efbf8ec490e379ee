"""Does routing pay, as text."""

from __future__ import annotations

from collections.abc import Sequence

from recal_bench.reporting.figures.names import labels
from recal_bench.reporting.figures.payback import PaybackRow, PaybackTable
from recal_bench.reporting.text.columns import UNKNOWN, number, with_interval
from recal_bench.reporting.text.layout import markdown_table, terminal_table
from recal_bench.reporting.text.tables import put_together, render_rows
from recal_bench.wording import harmless, place_of

_NEVER = "never"


def payback_text(tables: Sequence[PaybackTable], format: str) -> str:
    """All tables as `table`, `markdown`, `csv` or `json`; the last two are one list of rows."""
    rows = [row for table in tables for row in table.rows]
    if format in ("csv", "json"):
        return render_rows(rows, format)
    return "\n\n".join(_shown(table, format == "markdown") for table in tables)


def _shown(table: PaybackTable, markdown: bool) -> str:
    place, data, first = place_of(markdown), table.data, table.rows[0]
    baseline = harmless(table.baseline, place)
    simulated = ", simulated" if data.simulated else ""
    title = (
        f"{harmless(data.name, place)} ({data.hash[:12]}){simulated}: the labels of {data.n_queries['train']:,} train "
        f"queries cost {first.label_cost_usd:.4g} USD, {baseline} {first.baseline_usd_per_1k:.4g} USD per 1,000 queries"
    )
    headers = ["router", "acc points [95%]", "saved USD/1k [95%]", "break-even, queries [95%]"]
    headers += [] if first.worth_usd_per_1k is None else ["break-even at equal utility [95%]"]
    headers += [] if first.horizon is None else [f"cost ratio at {first.horizon:,} [95%]"]
    names = labels(table.rows, place)
    lines = [[name, *_cells(row)] for name, row in zip(names, table.rows, strict=True)]
    body = markdown_table(headers, lines) if markdown else terminal_table(headers, lines)
    return put_together(title, body, (*_reading(table), *table.notes), markdown)


def _cells(row: PaybackRow) -> list[str]:
    cells = [
        with_interval(row.accuracy_difference, row.accuracy_difference_ci, "+.2f", 100),
        with_interval(row.saved_usd_per_1k, row.saved_usd_per_1k_ci, "+.4g"),
        _queries(row.break_even, row.break_even_ci),
    ]
    if row.worth_usd_per_1k is not None:
        cells.append(_queries(row.worth_break_even, row.worth_break_even_ci))
    if row.horizon is not None:
        cells.append(_ratio(row))
    return cells


def _queries(value: int | None, ci: tuple[int | None, int | None] | None) -> str:
    shown = [_NEVER if each is None else f"{each:,}" for each in (value, *(ci or ()))]
    return shown[0] if ci is None or set(shown) == {_NEVER} else f"{shown[0]} [{shown[1]}, {shown[2]}]"


def _ratio(row: PaybackRow) -> str:
    if row.cost_ratio is None:
        return UNKNOWN
    ends = row.cost_ratio_ci
    shown = number(row.cost_ratio, ".3f")
    if ends is None:
        return shown
    low, high = ("no bound" if end is None else f"{end:.3f}" for end in ends)
    return f"{shown} [{low}, {high}]"


def _reading(table: PaybackTable) -> list[str]:
    notes = [
        f"saved is the cost of {table.baseline} less that of the router and its own, on test; break-even is the number "
        "of queries after which it has paid for the labels of train, whatever the difference in accuracy"
    ]
    if table.usd_per_point is not None:
        notes.append(
            "at equal utility a point of accuracy counts as much as it is worth at alpha "
            f"{table.data.alpha:g}: {table.usd_per_point:.4g} USD per 1,000 queries"
        )
    if table.rows[0].horizon is not None:
        notes.append(
            f"cost ratio: the labels and {table.rows[0].horizon:,} queries with the router, divided by the cost of "
            f"these queries with {table.baseline}; accuracy is not counted"
        )
    return notes
