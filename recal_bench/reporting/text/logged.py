"""Tables of a log of single choices as text: for the terminal and in markdown."""

from __future__ import annotations

from collections.abc import Sequence

from recal_bench.reporting.figures.logged import Estimate, LoggedFigures, LoggedTable
from recal_bench.reporting.figures.names import labels, title
from recal_bench.reporting.text.columns import UNKNOWN, p_value, with_interval
from recal_bench.reporting.text.layout import SHOWN_BY_FORMATS, filled, markdown_table, terminal_table
from recal_bench.reporting.text.tables import in_markdown
from recal_bench.wording import harmless, place_of

# When the terminal leaves out a column, by its place among all of them (see `layout.terminal_table`).
_RANKS = (0, 0, 3, 6, 0, 1, 7, 2, 4, 5, 8)


def render(table: LoggedTable, markdown: bool) -> str:
    """Title, the estimates on test and on other evaluated splits, the refusals, notes."""
    place = place_of(markdown)
    names = labels(table.rows, place)
    parts = [("### " if markdown else "") + title(table, markdown), _grid(table, names, table.rows, markdown)]
    for split in sorted({split for row in table.rows for split in row.splits}):
        parts += [
            f"Split {harmless(split, place)}",
            _grid(table, names, [row.splits[split] for row in table.rows], markdown),
        ]
    for name, row in zip(names, table.rows, strict=True):
        parts += [f"No estimate for {name}: {harmless(row.refusal, place)}."] if row.refusal else []
    notes = [f"Note: {note}." for note in table.notes]
    parts += map(in_markdown, notes) if markdown else notes
    return "\n\n".join(parts if markdown else [part if "\n" in part else filled(part) for part in parts])


def _grid(table: LoggedTable, names: Sequence[str], figures: Sequence[LoggedFigures], markdown: bool) -> str:
    accuracy = figures[0].metric == "accuracy"
    spec, scale = (".1f", 100.0) if accuracy else (".3f", 1.0)
    micro = ", micro" if figures[0].mean == "micro" else ""
    heads = ["router", f"{figures[0].metric} (SNIPS{micro})", "DR", "IPS", "against logged", "p"]
    heads += [f"against {harmless(table.baseline, place_of(markdown))}", "acc %", "USD/1k"]
    heads += ["effective queries", "matched"]
    lines = []
    for name, row, each in zip(names, table.rows, figures, strict=True):
        lines.append(
            [
                f"*{name}* (reference)" if markdown and row.reference else name,
                _cell(each.snips, spec, scale),
                _cell(each.dr, spec, scale, short=not markdown),
                _cell(each.ips, spec, scale, short=not markdown),
                _cell(each.against_logged, "+" + spec, scale),
                p_value(each.against_logged_p_adjusted),
                "baseline" if row.is_baseline else _cell(each.against_baseline, "+" + spec, scale),
                _cell(each.accuracy, ".1f", 100, short=True),
                _cell(each.cost_usd_per_1k, "#.4g", short=True),
                f"{each.effective_queries:,.0f}",
                f"{100 * each.matched:.0f}%",
            ]
        )
    kept = [
        column
        for column in range(len(heads))
        if any(line[column] != UNKNOWN for line in lines) and not (accuracy and heads[column] == "acc %")
    ]
    headers, *body = ([line[column] for column in kept] for line in [heads, *lines])
    if markdown:
        return markdown_table(headers, body)
    n_references = sum(row.reference for row in table.rows)
    ranks = [_RANKS[column] for column in kept]
    return terminal_table(headers, body, ranks, n_references, shown_by=SHOWN_BY_FORMATS)


def _cell(found: Estimate | None, spec: str, scale: float = 1.0, short: bool = False) -> str:
    return UNKNOWN if found is None else with_interval(found.value, None if short else found.ci, spec, scale)
