"""Constraints as a table: what was asked, what validation promised, and whether it held."""

from __future__ import annotations

from recal_bench.experiments.points import BUDGET
from recal_bench.reporting.figures.compare import Table
from recal_bench.reporting.figures.constraints import ConstraintFigures
from recal_bench.reporting.figures.names import labels
from recal_bench.reporting.text.columns import number, with_interval
from recal_bench.reporting.text.layout import filled, markdown_table, terminal_table
from recal_bench.wording import harmless, place_of

_HEADERS = ("router", "target", "on validation", "on SPLIT [95%]", "held", "alpha")
_HOW = (
    "The alpha of these rows is chosen on validation; utility is at the alpha of the table. Held: yes where the whole "
    "interval keeps to the target, no where none of it does"
)


def constraint_blocks(table: Table, split: str | None, markdown: bool) -> list[str]:
    """What became of the constraints on one split (None: test); nothing where no row has one."""
    place = place_of(markdown)
    pairs = zip(labels(table.rows, place), table.rows, strict=True)
    found = [(name, (row if split is None else row.splits[split]).constraint) for name, row in pairs]
    lines = [[name, *_cells(figures)] for name, figures in found if figures is not None]
    if not lines:
        return []
    headers = [each.replace("SPLIT", harmless(split or "test", place)) for each in _HEADERS]
    if markdown:
        return ["Targets", markdown_table(headers, lines), f"{_HOW}."]
    return ["Targets", terminal_table(headers, lines), filled(f"{_HOW}.")]


def _cells(figures: ConstraintFigures) -> list[str]:
    if figures.kind == BUDGET:
        target = f"<= {figures.target:.4g} USD/1k"
        reached = [number(figures.on_validation, "#.4g"), with_interval(figures.reached, figures.reached_ci, "#.4g")]
    else:
        target = f">= {100 * figures.target:.4g} acc %"
        reached = [
            number(figures.on_validation, ".2f", 100),
            with_interval(figures.reached, figures.reached_ci, ".2f", 100),
        ]
    return [target, *reached, figures.held, f"{figures.alpha:.3g}"]
