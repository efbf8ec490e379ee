"""SPROUT (CARROT, arXiv 2502.03261): a row for each prompt, and for each model one cell with score and token counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recal_bench.errors import OutcomesError
from recal_bench.importers.files import SourceRow, find_files, records, split_of_name
from recal_bench.importers.options import Format, Options
from recal_bench.importers.rows import Row
from recal_bench.importers.tables import require
from recal_bench.importers.values import Place, count, gold, identity, missing, prose, score, text
from recal_bench.table_files import IN_FOLDERS
from recal_bench.wording import counted, show

_QUERY = ("key", "dataset", "dataset_level", "dataset_idx", "prompt", "golden_answer")


def find(sources: Sequence[Path], notes: list[str]) -> list[Path]:
    return find_files(sources, IN_FOLDERS)


def read(paths: Sequence[Path], options: Options, notes: list[str]) -> Iterator[Row]:
    splits = {path: split_of_name(path) for path in paths}
    named = len(paths) > 1 and "" not in splits.values()
    if named:
        notes.append("split: taken from the names of the files")
    n_lost = 0
    for path in paths:
        n_cells = 0
        for where, record in records(path, options.unsafe_pickle):
            require(path, list(record), ("prompt", "dataset"), "is it SPROUT's table?")
            for model, cell in record.items():
                if model in _QUERY or not isinstance(cell, dict):
                    continue
                n_cells += 1
                row = _row(where, record, model, cell, splits[path] if named else None)
                n_lost += row is None
                if row is not None:
                    yield row
        if not n_cells:
            raise OutcomesError(
                f"{path} has no column of a model: beside prompt and dataset SPROUT's table has one for each, whose "
                "cells hold score, num_input_tokens and num_output_tokens"
            )
    if n_lost:
        notes.append(f"{counted(n_lost, 'cell')} without a score: taken as missing outcomes")
    notes.append("costs are not in SPROUT: --unknown-cost estimate --prices POOL makes them of the token counts")


def _row(where: Place, record: SourceRow, model: str, cell: dict[str, Any], split: str | None) -> Row | None:
    what = f"{show(model, 40)}:"
    found = score(cell.get("score"), where, f"{what} score")
    if found is None:
        return None
    prompt = text(record["prompt"], where, "prompt")
    key = record.get("key")
    return Row(
        where=where,
        task=text(record["dataset"], where, "dataset"),
        query_id=identity(prompt) if missing(key) else text(key, where, "key"),
        prompt=prompt,
        model=model,
        score=found,
        gold=gold(record.get("golden_answer")),
        prompt_tokens=count(cell.get("num_input_tokens"), where, f"{what} num_input_tokens"),
        completion_tokens=count(cell.get("num_output_tokens"), where, f"{what} num_output_tokens"),
        response=prose(cell.get("response")),
        split=split,
    )


SPROUT = Format("SPROUT's table (parquet): for each model a cell with score and tokens", ("unsafe_pickle",), find, read)
