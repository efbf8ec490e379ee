"""All that a folder of runs tells: tables of what was replayed, and of what a log lets one estimate."""

from __future__ import annotations

from collections.abc import Sequence

from recal_bench.defaults import BASELINE
from recal_bench.experiments.records import Run
from recal_bench.reporting.figures.compare import Identity, Table
from recal_bench.reporting.figures.learning import learning
from recal_bench.reporting.figures.logged import LoggedTable, logged_tables
from recal_bench.reporting.figures.worlds import tables
from recal_bench.reporting.text import logged as logged_text
from recal_bench.reporting.text.learning import as_table
from recal_bench.reporting.text.tables import render, render_rows


def report(runs: Sequence[Run], format: str, baseline: str = BASELINE, aggregate: str = "mean") -> str:
    """All tables in one of `tables.FORMATS`."""
    return render_all(tables(runs, baseline, aggregate), format, logged_tables(runs, baseline))


def render_all(made: Sequence[Table], format: str, logged: Sequence[LoggedTable] = ()) -> str:
    """All tables in one format. CSV and JSON are one list of rows; a row names its outcomes."""
    if format in ("csv", "json"):
        return render_rows(rows_of(made, logged), format)
    texts = [render(table, format) for table in made]
    return "\n\n".join([*texts, *(logged_text.render(table, format == "markdown") for table in logged)])


def rows_of(made: Sequence[Table], logged: Sequence[LoggedTable]) -> list[Identity]:
    """The rows of all tables, one table after the other."""
    return [*(row for table in made for row in table.rows), *(row for table in logged for row in table.rows)]


def overview(runs: Sequence[Run]) -> str:
    """The tables for the terminal; curves instead, where the runs differ in how much of train they learnt from."""
    made = tables(runs)
    curves = learning(made)
    return "\n\n".join(map(as_table, curves)) if curves else render_all(made, "table", logged_tables(runs, BASELINE))
