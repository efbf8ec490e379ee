"""A data set as the Hugging Face hub takes it: parquet files, and a card (README.md with YAML front matter)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from recal_bench.errors import OutcomesError
from recal_bench.exporters.sources import Exported, LoggedFile, Publisher, runs_of
from recal_bench.folders import sha256, slug
from recal_bench.importers.rows import Row, RowBlocks
from recal_bench.outcomes.schema import FIELDS
from recal_bench.outcomes.writer import write_outcomes
from recal_bench.provenance import code_version
from recal_bench.reporting.figures.entries import decisions_of
from recal_bench.wording import counted, harmless, tallied

_LICENSE = "# license: say here under which license you publish this, e.g. license: cc-by-4.0"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_TEXTS = ("response", "gold")
_MAKERS = ("import", "made_by")
"""What says of a file that a command may write it anew."""
_BEFORE = (
    "the license: the card states none, and the models' terms and the questions' licenses bind you",
    "that prompts and replies hold nothing personal or secret",
)


def dataset_of_file(file: LoggedFile, out: Path, publisher: Publisher) -> Exported:
    """One parquet file for each split of an outcomes file (in long form), and the card.

    Without `publisher.queries` the replies and gold answers are left out; prompts stay, since a router needs them.
    """
    used: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    for row in file.rows():
        splits[row.split or ""] += 1
        used.update(name for name, value in row._asdict().items() if value is not None)
    if not publisher.queries:
        used -= Counter({name: used[name] for name in _TEXTS})
    (out / "data").mkdir()
    names: dict[str, str] = {}
    for split in sorted(splits):
        name = f"data/{slug(split) or 'outcomes'}.parquet"
        if name in names:
            raise OutcomesError(f"{file.path}: the splits {names[name]} and {split} would share a file: rename one")
        names[name] = split
        kept = {key: value for key, value in file.metadata.items() if key not in _MAKERS}
        told = {"export": {**file.origin(), "version": code_version()}}
        write_outcomes(_blocks(file, split, used), out / name, kept | told)
    files = {name: sha256(out / name) for name in names}
    configs = [{"split": slug(split).replace("-", "_") or "train", "path": name} for name, split in names.items()]
    tags = ["llm-routing", "recal-bench", *(["simulated"] if file.outcomes.simulated else [])]
    columns = [each for each in FIELDS if used[each.name]]
    front: dict[str, Any] = {"pretty_name": file.name, "tags": tags, "size_categories": [_size(sum(splits.values()))]}
    front["configs"] = [{"config_name": "default", "data_files": configs}]
    tasks = tallied(file.outcomes.task_Q.tolist(), "query")
    arms = ", ".join(harmless(str(arm), "code") for arm in file.outcomes.arms)
    lines = [
        _simulated_line(file.outcomes.simulated),
        "What each arm (a model with a strategy) scored and cost on each query: one row for each query and arm, in the "
        "form of an outcomes file of recal-bench.",
        "",
        f"- Rows: {sum(splits.values()):,}; queries: {len(file.outcomes):,}; arms: {len(file.outcomes.arms):,}",
        f"- Tasks: {harmless(tasks, 'markdown')}",
        f"- Arms: {arms}",
        "",
        "| column | holds |",
        "|---|---|",
        *(f"| `{each.name}` | {each.meaning} |" for each in columns),
        "",
        *_provenance(file.origin(), files),
        *_use(next(iter(names))),
    ]
    _card(out, file.name, front, lines)
    return Exported(
        (f"{counted(sum(splits.values()), 'row')} in {counted(len(names), 'file')}, and README.md",), _told()
    )


def _blocks(file: LoggedFile, split: str, used: Mapping[str, int]) -> Iterator[dict[str, list[Any]]]:
    rows: Iterator[Row] = (row for row in file.rows() if (row.split or "") == split)
    for block in RowBlocks("", further=True).blocks(rows):
        yield {name: values for name, values in block.items() if used.get(name)}


def dataset_of_runs(folder: Path, out: Path, publisher: Publisher) -> Exported:
    """The decisions of all runs that stand in tables, the runs themselves, and the card."""
    import pandas as pd

    runs, notes = runs_of(folder)
    rows, frames = [], []
    for number, run in enumerate(runs):
        configuration = run.record.configuration
        rows.append(
            {
                "run": number,
                "router": configuration.router,
                "settings": json.dumps(configuration.settings, sort_keys=True),
                "seed": configuration.seed,
                "outcomes": configuration.data.name,
                "outcomes_hash": configuration.data.hash,
                "simulated": configuration.data.simulated,
                "alpha": configuration.data.alpha,
                "arms": json.dumps(configuration.data.arms),
                "started": run.record.started,
                "code": run.record.code,
                "command": run.record.command,
            }
        )
        frames.append(decisions_of(run).assign(run=number))
    (out / "data").mkdir()
    tables = {"data/runs.parquet": pd.DataFrame(rows), "data/decisions.parquet": pd.concat(frames, ignore_index=True)}
    for name, table in tables.items():
        table.to_parquet(out / name, index=False)
    files = {name: sha256(out / name) for name in tables}
    simulated = all(row["simulated"] for row in rows)
    name = f"Decisions of {counted(len({row['router'] for row in rows}), 'router')}"
    front: dict[str, Any] = {
        "pretty_name": name,
        "tags": ["llm-routing", "recal-bench", *(["simulated"] if simulated else [])],
        "size_categories": [_size(len(tables["data/decisions.parquet"]))],
        "configs": [
            {"config_name": Path(each).stem, "data_files": [{"split": "train", "path": each}]} for each in tables
        ],
    }
    routers = ", ".join(f"`{each}`" for each in sorted({harmless(str(row["router"]), "markdown") for row in rows}))
    lines = [
        _simulated_line(simulated),
        "Which arm each router chose for each query, and what that scored and cost. `decisions` has a row for each run "
        "and query; `run` numbers the rows of `runs`, which says how each was made. No prompts are in it.",
        "",
        f"- Runs: {len(runs):,}; decisions: {len(tables['data/decisions.parquet']):,}",
        f"- Routers: {routers}",
        "",
        *_provenance({"outcomes_hash": ", ".join(sorted({str(row["outcomes_hash"]) for row in rows}))}, files),
    ]
    _card(out, name, front, lines)
    summary = (
        f"{counted(len(runs), 'run')}, {counted(len(tables['data/decisions.parquet']), 'decision')}, and README.md"
    )
    return Exported((summary,), (*notes, *_told()[:1]))


def _card(out: Path, title: str, front: Mapping[str, Any], lines: Sequence[str]) -> None:
    """README.md. What others wrote is quoted by YAML, or made harmless for markdown."""
    header = yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True)
    body = "\n".join(lines).strip()
    text = f"---\n{_LICENSE}\n{header}---\n\n# {harmless(title, 'markdown')}\n\n{body}\n"
    (out / "README.md").write_text(text, encoding="utf-8", newline="\n")


def _simulated_line(simulated: bool) -> str:
    return "**Simulated**: no real model answered.\n" if simulated else ""


def _provenance(origin: Mapping[str, str], files: Mapping[str, str]) -> list[str]:
    return [
        "## Where it comes from",
        "",
        *(f"- {name}: {harmless(value, 'markdown')}" for name, value in origin.items()),
        f"- exported by recal-bench {code_version()}",
        "",
        "| file | SHA-256 |",
        "|---|---|",
        *(f"| `{name}` | `{digest}` |" for name, digest in files.items()),
        "",
    ]


def _use(name: str) -> list[str]:
    return [
        "## Use",
        "",
        "```bash",
        f"recal-bench validate {name}",
        "```",
        "",
        "Several splits are read as one file: `pandas.concat` them, or any tool that joins parquet files.",
    ]


def _size(rows: int) -> str:
    return next((name for most, name in _SIZES if rows < most), "1M<n<10M" if rows < 10_000_000 else "n>10M")


def _told() -> tuple[str, ...]:
    return tuple(f"before you publish it, check {each}" for each in _BEFORE)
