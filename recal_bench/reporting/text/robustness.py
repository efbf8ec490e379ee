"""How steady routers are when queries are asked in other words, as text."""

from __future__ import annotations

from collections.abc import Sequence

from recal_bench.reporting.figures.names import labels
from recal_bench.reporting.figures.robustness import RobustnessTable
from recal_bench.reporting.text.columns import with_interval
from recal_bench.reporting.text.layout import markdown_table, terminal_table
from recal_bench.reporting.text.tables import put_together, render_rows
from recal_bench.wording import harmless, place_of

_HEADERS = ("router", "flips % [95%]", "utility lost [95%]", "queries", "paraphrases", "seeds")
_READING = (
    "flips: how often another arm is chosen for a paraphrase than for the query; utility lost: what that costs, on the "
    "query's own outcomes"
)


def robustness_text(tables: Sequence[RobustnessTable], format: str) -> str:
    """All tables as `table`, `markdown`, `csv` or `json`; the last two are one list of rows."""
    rows = [row for table in tables for row in table.rows]
    if format in ("csv", "json"):
        return render_rows(rows, format)
    return "\n\n".join(_shown(table, format == "markdown") for table in tables)


def _shown(table: RobustnessTable, markdown: bool) -> str:
    place, data = place_of(markdown), table.data
    simulated = ", simulated" if data.simulated else ""
    title = f"{harmless(data.name, place)} ({data.hash[:12]}): alpha {data.alpha:g}, paraphrases of test{simulated}"
    lines = [
        [
            name,
            with_interval(row.flip_rate, row.flip_rate_ci, ".1f", 100),
            with_interval(row.utility_lost, row.utility_lost_ci, "+.3f"),
            f"{row.n_queries:,}",
            f"{row.n_paraphrases:,}",
            str(row.n_seeds),
        ]
        for name, row in zip(labels(table.rows, place), table.rows, strict=True)
    ]
    body = markdown_table(_HEADERS, lines) if markdown else terminal_table(_HEADERS, lines)
    return put_together(title, body, (_READING, *table.notes), markdown)
