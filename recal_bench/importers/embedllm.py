"""EmbedLLM (arXiv 2410.02223): `train.csv`, `val.csv`, `test.csv`, a row for each question x model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from recal_bench.errors import OutcomesError
from recal_bench.importers.files import find_files, records, split_of_name
from recal_bench.importers.options import Format, Options
from recal_bench.importers.rows import Row
from recal_bench.importers.tables import require
from recal_bench.importers.values import missing, score, text
from recal_bench.table_files import IN_FOLDERS
from recal_bench.wording import counted, some_of

_NEEDED = ("prompt_id", "prompt", "model_name", "label")
_ORDERS = ("model_order", "question_order")
"""Lists that lie beside the tables."""


def find(sources: Sequence[Path], notes: list[str]) -> list[Path]:
    found = find_files(sources, IN_FOLDERS)
    kept = [path for path in found if path in sources or not path.name.startswith(_ORDERS)]
    if len(kept) < len(found):
        notes.append(f"left out: {some_of([path.name for path in found if path not in kept], 5)}")
    if not kept:
        raise OutcomesError(
            f"{found[0]} is a list of names, not a table of EmbedLLM: give train.csv, val.csv, test.csv"
        )
    return kept


def read(paths: Sequence[Path], options: Options, notes: list[str]) -> Iterator[Row]:
    splits = {path: split_of_name(path) for path in paths}
    named = len(paths) > 1 and "" not in splits.values()
    if named:
        notes.append("split: taken from the names of the files")
    draws: Counter[tuple[str, str, str, str]] = Counter()
    n_lost = 0
    for path in paths:
        for where, record in records(path, options.unsafe_pickle):
            require(path, list(record), _NEEDED, "is it one of EmbedLLM's tables?")
            found = score(record["label"], where, "label")
            if found is None:
                n_lost += 1
                continue
            category = record.get("category")
            if options.task is not None and not missing(category):
                raise OutcomesError(f"{where} has a category: leave --task out")
            task = options.task or ("embedllm" if missing(category) else text(category, where, "category"))
            query = text(record["prompt_id"], where, "prompt_id")
            model = text(record["model_name"], where, "model_name")
            draw = (splits[path] if named else "", task, query, model)
            yield Row(
                where=where,
                task=task,
                query_id=query,
                prompt=text(record["prompt"], where, "prompt"),
                model=model,
                score=found,
                split=splits[path] if named else None,
                sample=draws[draw],
            )
            draws[draw] += 1
    if n_lost:
        notes.append(f"{counted(n_lost, 'row')} without a label: taken as missing outcomes")
    n_again = sum(count > 1 for count in draws.values())
    if n_again:
        notes.append(f"{counted(n_again, 'outcome')} given several times: kept as repeated draws, which are averaged")


EMBEDLLM = Format("EmbedLLM's tables (CSV): a row for each question and model", ("task", "unsafe_pickle"), find, read)
