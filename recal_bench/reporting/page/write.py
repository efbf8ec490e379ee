"""Writes the page: `index.html`, and the query lists in files beside it that it loads when asked."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from recal_bench.experiments.records import Run
from recal_bench.experiments.standing import standing
from recal_bench.folders import naming
from recal_bench.reporting.figures.compare import Table, tables
from recal_bench.reporting.figures.entries import same_data
from recal_bench.reporting.figures.logged import LoggedTable, logged_tables
from recal_bench.reporting.figures.names import slugs
from recal_bench.reporting.figures.stability import StabilityReport, stability
from recal_bench.reporting.figures.training_logs import has_log
from recal_bench.reporting.figures.worlds import pooled
from recal_bench.reporting.page.data import cleaned, document, in_html
from recal_bench.reporting.page.queries import query_lists

INDEX = "index.html"
QUERIES = "-queries.js"


def write_page(
    made: Sequence[tuple[Table | LoggedTable, Sequence[Run]]],
    reports: Sequence[StabilityReport],
    out: Path,
    command: str,
    queries: bool = True,
) -> list[Path]:
    """Write the page of tables, each with the runs behind it, into a folder; return the paths.

    Query lists hold the prompts of the outcomes and what every arm scored: `queries` says whether they are written.
    """
    shown, lists = document(made, reports, command), list[Path]()
    for (_, runs), table, slug in zip(made, shown["tables"], slugs([table.data for table, _ in made]), strict=True):
        for number, found in enumerate(query_lists(runs) if queries else [], 1):
            path = out / f"{slug}{f'-{number}' if number > 1 else ''}{QUERIES}"
            text = json.dumps(cleaned(found), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            _write(path, f"recalQueries({json.dumps(text)});\n")
            table["queries"].append({"file": path.name, "name": found["name"], "count": len(found["id"])})
            lists.append(path)
    _write(out / INDEX, _page(in_html(shown)))
    return [out / INDEX, *lists]


def view_page(runs: Sequence[Run], out: Path, command: str, baseline: str) -> None:
    """Write the page of runs, whatever they are: unlike a leaderboard it needs no row but the baseline's."""
    replayed, logged = [run for run in runs if not run.logged], [run for run in runs if run.logged]
    groups, logs = ([standing(each).runs for each in same_data(these)] for these in (replayed, logged))
    made: list[tuple[Table | LoggedTable, Sequence[Run]]] = [
        (each.table, [run for member in each.members for run in groups[member]])
        for each in pooled(tables(replayed, baseline))
    ]
    made += zip(logged_tables(logged, baseline), logs, strict=True)
    reports = stability(replayed) if any(map(has_log, replayed)) else []
    write_page(made, reports, out, command)


def _page(data: str) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    parts = files(__package__)
    style, script = (parts.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(
        parts.joinpath("page.html.j2").read_text(encoding="utf-8")
    )
    return template.render(
        data=Markup(data),
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _hash(text: str) -> str:
    """What a content security policy calls an inline element by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _write(path: Path, text: str) -> None:
    with naming(path):
        path.write_text(text, encoding="utf-8", newline="\n")
