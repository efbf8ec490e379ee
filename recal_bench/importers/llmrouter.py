"""LLMRouter (ulab-uiuc): its routing data, and xRouteBench, which has the same fields. A row for each query x model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from recal_bench.errors import OutcomesError
from recal_bench.importers.files import SourceRow, find_files, records, split_of_name
from recal_bench.importers.options import Format, Options
from recal_bench.importers.rows import Row
from recal_bench.importers.tables import require
from recal_bench.importers.values import (
    SCALE_HINT,
    Place,
    amount,
    cost_of_tokens,
    count,
    gold,
    identity,
    missing,
    prose,
    score,
    text,
)
from recal_bench.table_files import IN_FOLDERS
from recal_bench.wording import counted

_NEEDED = ("query", "model_name", "performance")
_ERRORS = ("ERROR:", "API Error:")


def find(sources: Sequence[Path], notes: list[str]) -> list[Path]:
    return find_files(sources, IN_FOLDERS)


def read(paths: Sequence[Path], options: Options, notes: list[str]) -> Iterator[Row]:
    splits = {path: split_of_name(path) for path in paths}
    from_name = {"train", "test"} <= set(splits.values()) and "" not in splits.values()
    if from_name:
        notes.append("split: taken from the names of the files, where a row names none")
    lost: Counter[str] = Counter()
    for path in paths:
        for where, record in records(path, options.unsafe_pickle):
            row = _row(where, record, options, (splits[path] or None) if from_name else None, lost)
            if row is not None:
                yield row
    if lost["failed"]:
        notes.append(
            f"{counted(lost['failed'], 'failed call')} (no tokens, an error as the response): missing outcomes"
        )
    if lost["unscored"]:
        notes.append(f"{counted(lost['unscored'], 'row')} without performance: taken as missing outcomes")


def _row(where: Place, record: SourceRow, options: Options, split: str | None, lost: Counter[str]) -> Row | None:
    task = options.task
    require(where.path, list(record), _NEEDED, f"a row has these ({where} lacks it); is it LLMRouter's routing data?")
    tokens = [count(record.get(name), where, name) for name in ("input_tokens", "output_tokens", "token_num")]
    response = record.get("response")
    if isinstance(response, str) and response.startswith(_ERRORS) and not any(tokens):
        lost["failed"] += 1
        return None
    found = score(record["performance"], where, "performance", SCALE_HINT, options.score_range)
    if found is None:
        lost["unscored"] += 1
        return None
    own_task = record.get("task_name")
    if task is not None and not missing(own_task):
        raise OutcomesError(f"{where} has a task_name: leave --task out")
    if task is None and missing(own_task):
        raise OutcomesError(f"{where} has no task_name: give --task NAME")
    prompt = text(record["query"], where, "query")
    return Row(
        where=where,
        task=task or text(own_task, where, "task_name"),
        # LLMRouter tells queries apart by more than their text; its embedding_id starts at 0 again in each file.
        query_id=identity(prompt, record.get("ground_truth"), record.get("choices")),
        prompt=prompt,
        model=text(record["model_name"], where, "model_name"),
        score=found,
        gold=gold(record.get("ground_truth")),
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
        cost_usd=cost_of_tokens(record.get("cost"), where, "cost", tokens[2] or sum(each or 0 for each in tokens[:2])),
        latency_s=amount(record.get("response_time"), where, "response_time"),
        response=prose(response),
        split=split if missing(record.get("split")) else text(record["split"], where, "split"),
    )


LLMROUTER = Format(
    "LLMRouter's routing data (JSONL), and xRouteBench", ("task", "unsafe_pickle", "score_range"), find, read
)
