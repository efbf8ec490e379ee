"""Tables of a log of single choices as text: for the terminal and in markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from tabulate import tabulate

from recal_bench.reporting.columns import UNKNOWN, number
from recal_bench.reporting.logged import Estimate, LoggedFigures, LoggedTable
from recal_bench.reporting.tables import WIDTH, labels


def render(table: LoggedTable, markdown: bool) -> str:
    """Title, the estimates on test and on other evaluated splits, the refusals, notes."""
    data = table.data
    title = (
        f"{data.name} ({data.hash[:12]}){', **simulated**' if markdown and data.simulated else ''}"
        f"{', simulated' if data.simulated and not markdown else ''}: a log of single choices, alpha {data.alpha:g}, "
        f"{table.rows[0].n_queries:,} test queries of {len(table.tasks)} task{'s' if len(table.tasks) != 1 else ''}"
    )
    if data.train_fraction != 1:
        title += f", {data.train_fraction:g} of train ({data.n_queries['train']:,} queries)"
    names = labels(table.rows)
    parts = [f"{'### ' if markdown else ''}{title}", _grid(table, names, table.rows, markdown)]
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
                _p(each.against_logged_p_adjusted),
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
    if found is None:
        return UNKNOWN
    shown = number(found.value, spec, scale)
    if short or found.ci is None:
        return shown
    low, high = (f"{end * scale:{spec}}" for end in found.ci)
    return f"{shown} [{low}, {high}]"


def _p(value: float | None) -> str:
    return UNKNOWN if value is None else "<.001" if value < 0.001 else f"{value:.3f}"
