"""Tables of a log of single choices as text: for the terminal and in markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from tabulate import tabulate

from recal_bench.reporting.figures.logged import Estimate, LoggedFigures, LoggedTable
from recal_bench.reporting.text.columns import UNKNOWN, p_value, with_interval
from recal_bench.reporting.text.tables import WIDTH, labels, title


def render(table: LoggedTable, markdown: bool) -> str:
    """Title, the estimates on test and on other evaluated splits, the refusals, notes."""
    names = labels(table.rows)
    parts = [("### " if markdown else "") + title(table, markdown), _grid(table, names, table.rows, markdown)]
    for split in sorted({split for row in table.rows for split in row.splits}):
        parts += [f"Split {split}", _grid(table, names, [row.splits[split] for row in table.rows], markdown)]
    for name, row in zip(names, table.rows, strict=True):
        parts += [f"No estimate for {name}: {row.refusal}."] if row.refusal else []
    parts += [f"Note: {note}." for note in table.notes]
    return "\n\n".join(parts if markdown else map(_filled, parts))


def _filled(part: str) -> str:
    return part if "\n" in part else textwrap.fill(part, WIDTH)


def _grid(table: LoggedTable, names: Sequence[str], figures: Sequence[LoggedFigures], markdown: bool) -> str:
    accuracy = figures[0].metric == "accuracy"
    spec, scale = (".1f", 100.0) if accuracy else (".3f", 1.0)
    heads = ["router", f"{figures[0].metric} (SNIPS)", "DR", "IPS", "against logged", "p"]
    heads += [f"against {table.baseline}", "acc %", "USD/1k", "effective queries", "matched"]
    lines = []
    for name, row, each in zip(names, table.rows, figures, strict=True):
        is_baseline = table.baseline in (row.router, f"{row.router}@{row.settings_hash}")
        lines.append(
            [
                f"*{name}* (reference)" if markdown and row.reference else name,
                _cell(each.snips, spec, scale),
                _cell(each.dr, spec, scale, short=not markdown),
                _cell(each.ips, spec, scale, short=not markdown),
                _cell(each.against_logged, "+" + spec, scale),
                p_value(each.against_logged_p_adjusted),
                "baseline" if is_baseline else _cell(each.against_baseline, "+" + spec, scale),
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
    if not markdown:
        kept = [column for column in kept if heads[column] not in ("IPS", f"against {table.baseline}")]
        heads = [head.replace("effective queries", "eff. n") for head in heads]
    align = ("left", *["right"] * (len(kept) - 1))
    head, *body = ([line[column].replace("|", "\\|") for column in kept] for line in [heads, *lines])
    style = "pipe" if markdown else "simple"
    return tabulate(body, head, style, disable_numparse=True, colalign=align)


def _cell(found: Estimate | None, spec: str, scale: float = 1.0, short: bool = False) -> str:
    return UNKNOWN if found is None else with_interval(found.value, None if short else found.ci, spec, scale)
