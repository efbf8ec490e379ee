"""A leaderboard: a folder with tables, pictures, a page, and what every row was made with."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recal_bench.defaults import BASELINE, COST_FLOOR, STANDARD_REFERENCES, STANDARD_ROUTERS
from recal_bench.errors import RunError
from recal_bench.experiments.records import Run
from recal_bench.experiments.standing import standing
from recal_bench.folders import naming, written_together
from recal_bench.reporting.figures.compare import Comparison, Table, tables
from recal_bench.reporting.figures.entries import same_data
from recal_bench.reporting.figures.learning import learning
from recal_bench.reporting.figures.logged import LoggedRow, LoggedTable, logged_tables
from recal_bench.reporting.figures.names import labels, slugs
from recal_bench.reporting.figures.stability import stability
from recal_bench.reporting.figures.training_logs import has_log
from recal_bench.reporting.figures.worlds import pooled
from recal_bench.reporting.page.write import INDEX, QUERIES, write_page
from recal_bench.reporting.pictures.cost_quality import cost_quality
from recal_bench.reporting.pictures.differences import differences
from recal_bench.reporting.pictures.drawing import svgs_of
from recal_bench.reporting.pictures.frontier import frontiers
from recal_bench.reporting.pictures.learning import draw
from recal_bench.reporting.stability import write_stability
from recal_bench.reporting.text import logged as logged_text
from recal_bench.reporting.text.columns import LATENCY
from recal_bench.reporting.text.learning import as_table
from recal_bench.reporting.text.report import rows_of
from recal_bench.reporting.text.rows import as_csv, as_json
from recal_bench.reporting.text.tables import blocks
from recal_bench.wording import harmless

_READING = """\
Utility is `score - alpha * cost / cost_ref`, where cost_ref is the mean train cost of the most expensive arm. Every
figure is the mean of the task means unless it says micro. Brackets hold 95% intervals: they cover the luck of whole
training seeds and that of the queries within each task; the tasks are fixed. Differences to the baseline are paired by
query. `p` is adjusted over the routers of the table (Holm). MDE is the smallest true difference to the baseline that
these seeds and queries detect with 80% power. P(utility > ...) is the probability that a seed of the router beats a
seed of the baseline, averaged over tasks.
AIQ, QNC and deferral AUC summarise a router over all prices of cost: its mean accuracy over the arms' range of costs,
the share of the most accurate arm's cost at which it is as accurate as that arm, and the area under its curve of
accuracy against cost.
References are not routers: they know the task, the outcomes or the truth.
All figures were measured by the commands below; none is quoted. Fit seconds and routing latency differ between machines
and are only in `leaderboard.csv` and `leaderboard.json`. docs/metrics.md defines every column."""

_ROUTER_WORDS = re.compile(
    r"""\s--(?:(?:router|decisions|endpoint|set|tuned|seeds)(?:\s+|=)(?:'[^']*'|"[^"]*"|\S)+|fresh\b)"""
)


def write_leaderboard(
    runs: Sequence[Run], out: Path, command: str, baseline: str = BASELINE, queries: bool = True
) -> list[Path]:
    """Write README.md, leaderboard.csv, leaderboard.json, the pictures and the page, all or none; return their paths.

    `queries`: the page lists the queries, with their prompts. The same runs give the same bytes. Runs repeated with the
    same code, packages and device give the same README.md, page and pictures, but not the same timings (CSV, JSON).
    Raises RunError where a row that every leaderboard needs is missing, with the command that adds it.
    """
    replayed, logged = [run for run in runs if not run.logged], [run for run in runs if run.logged]
    groups, logs = ([standing(each).runs for each in same_data(these)] for these in (replayed, logged))
    for group in groups:
        _require_rows(group)
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file: --out takes a folder")
    with written_together(out) as draft:
        paths = _write(replayed, logged, groups, logs, draft, command, baseline, queries)
    names = {path.name for path in paths}
    for path in out.glob(f"*{QUERIES}"):
        if path.name not in names:
            path.unlink()  # prompts of an earlier board must not stay beside one that is to hold none
    return [out / path.name for path in paths]


def _write(
    replayed: Sequence[Run],
    logged: Sequence[Run],
    groups: Sequence[list[Run]],
    logs: Sequence[list[Run]],
    out: Path,
    command: str,
    baseline: str,
    queries: bool,
) -> list[Path]:
    joined, estimated = pooled(tables(replayed, baseline)), logged_tables(logged, baseline)
    made = [each.table for each in joined]
    groups = [[run for member in each.members for run in groups[member]] for each in joined]
    reports = stability(replayed) if any(map(has_log, replayed)) else []
    stability_paths, curves = write_stability(reports, out, command)
    sections, pictures = [], list[Path]()
    for index, slug in enumerate(slugs([table.data for table in made])):
        table, group = made[index], groups[index]
        shown = []
        for drawn, what in (
            (differences(table, out / f"{slug}-differences"), f"Differences to {table.baseline} on test"),
            (cost_quality(table, group, out / f"{slug}-cost-quality"), "Cost against accuracy on test"),
            (frontiers(table, group, out / f"{slug}-frontier"), "Accuracy at every price of cost, on test"),
        ):
            pictures += drawn
            shown += _shown(drawn, f"{what}{_simulated(table)}")
        for member in joined[index].members:
            shown += _shown(curves.get(member, []), f"Training curves{_simulated(table)}")
        if any(member in curves for member in joined[index].members):
            shown.append("How stable the training of the routers was: [stability.md](stability.md).")
        head, *figures = blocks(table, markdown=True, but=(LATENCY,))
        sections.append(
            "\n\n".join([head, *shown[:1], *figures, *shown[1:], _commands(table), _provenance(table, group)])
        )
    for index, found in enumerate(learning(made)):
        drawn = draw(found, out / f"learning-{index + 1}")
        pictures += drawn
        sections.append("\n\n".join([as_table(found, markdown=True), *_shown(drawn, "Learning curves")]))
    for log_table, group in zip(estimated, logs, strict=True):
        parts = [logged_text.render(log_table, markdown=True), _commands(log_table), _provenance(log_table, group)]
        sections.append("\n\n".join(parts))
    made_by = f"Written by {harmless(command, 'code')}; do not edit. [The same as a page]({INDEX})."
    texts = {
        "README.md": "\n\n".join(["# Leaderboard", made_by, _READING, *sections]),
        "leaderboard.csv": as_csv(rows_of(made, estimated)),
        "leaderboard.json": json.dumps(
            _as_json([*made, *estimated], [*groups, *logs], command), indent=1, allow_nan=False
        ),
    }
    for name, text in texts.items():
        with naming(out / name):
            (out / name).write_text(text + "\n", encoding="utf-8", newline="\n")
    every: list[Table | LoggedTable] = [*made, *estimated]
    page = write_page(list(zip(every, [*groups, *logs], strict=True)), reports, out, command, queries)
    return [*(out / name for name in texts), *pictures, *stability_paths, *page]


def _require_rows(group: list[Run]) -> None:
    data = group[0].record.configuration.data
    there = {run.record.configuration.router for run in group}
    routers = [name for name in STANDARD_ROUTERS if name != COST_FLOOR or data.cost_ref is not None]
    absent = [name for name in [*routers, *STANDARD_REFERENCES] if name not in there]
    if not absent:
        return
    # References come with every run.
    wanted = [name for name in routers if name in absent] or [BASELINE]
    source = next((run for run in group if not run.record.reference), group[0])
    base = _ROUTER_WORDS.sub("", source.record.command)
    command = " ".join([base, *(f"--router {name}" for name in wanted), f"--runs {source.folder.parent}"])
    raise RunError(
        f"the leaderboard of {data.name} (alpha {data.alpha:g}) lacks {', '.join(absent)}: add them with `{command}`"
    )


def _shown(drawn: Sequence[Path], what: str) -> list[str]:
    """The first of some pictures, and where there are more of them links to the others."""
    first, *others = [path.name for path in svgs_of(drawn)] or [""]
    more = ", ".join(f"[{number}]({name})" for number, name in enumerate(others, 2))
    shown = [f"![{harmless(what, 'markdown')}]({first})"] if first else []
    return [*shown, f"More routers: {more}."] if others else shown


def _simulated(table: Table) -> str:
    return " (simulated)" if table.data.simulated else ""


def _commands(table: Table | LoggedTable) -> str:
    lines = ["Commands:", ""]
    rows: Sequence[Comparison | LoggedRow] = table.rows
    for row, name in zip(rows, labels(rows, "markdown"), strict=True):
        tuned = f" (tuned on validation: {harmless(row.tuned, 'markdown')})" if row.tuned else ""
        lines += [f"- {name}{tuned}: {harmless(row.command, 'code')}"] if row.command else []
    return "\n".join(lines)


def _facts(group: Sequence[Run]) -> dict[str, list[str]]:
    records = [run.record for run in group]
    packages = {f"{name} {version}" for record in records for name, version in record.packages.items()}
    seeds = {
        (record.configuration.router, record.configuration.seed)
        for record in records
        if not record.deterministic and not record.reference
    }
    by_router = {router: sorted(seed for name, seed in seeds if name == router) for router, _ in seeds}
    return {
        "code": sorted({record.code for record in records}),
        "packages": sorted(packages),
        "devices": sorted({record.device_name for record in records}),
        "seeds": [f"{router} {', '.join(map(str, by_router[router]))}" for router in sorted(by_router)],
    }


def _provenance(table: Table | LoggedTable, group: Sequence[Run]) -> str:
    data = table.data
    facts = {name: [harmless(each, "markdown") for each in values] for name, values in _facts(group).items()}
    queries = ", ".join(f"{harmless(split, 'markdown')} {count:,}" for split, count in sorted(data.n_queries.items()))
    cost_ref = "none" if data.cost_ref is None else f"{data.cost_ref:.6g} USD"
    simulated = ", **simulated**" if data.simulated else ""
    lines = [
        f"- outcomes: {harmless(data.name, 'markdown')}, hash `{data.hash}`{simulated}",
        f"- tasks: {', '.join(harmless(task, 'markdown') for task in data.tasks)}",
        f"- queries: {queries}; {len(data.arms)} arms; missing outcomes: {data.missing}",
        f"- alpha {data.alpha:g}, cost_ref {cost_ref}, baseline {harmless(table.baseline, 'markdown')}",
        f"- seeds: {'; '.join(facts['seeds']) or 'none needed'} (routers not named decide the same for every seed)",
        f"- recal-bench {'; '.join(facts['code'])}, {', '.join(facts['packages'])}",
        f"- {'; '.join(facts['devices'])}",
    ]
    return "\n".join(["Made with:", "", *lines])


def _as_json(made: Sequence[Table | LoggedTable], groups: Sequence[Sequence[Run]], command: str) -> dict[str, Any]:
    return {
        "command": command,
        "tables": [
            {
                "data": table.data.model_dump(mode="json"),
                "baseline": table.baseline,
                "notes": list(table.notes),
                **_facts(group),
                "rows": [as_json(row) for row in table.rows],
            }
            for table, group in zip(made, groups, strict=True)
        ],
    }
