"""A trained router over a table of questions: read, routed and written in chunks, and written whole or not at all."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from recal_bench.encoders import FeatureValues
from recal_bench.errors import OutcomesError, SettingsError
from recal_bench.experiments.deployed import Advice, DeployedRouter
from recal_bench.experiments.records import parse_line
from recal_bench.folders import written_whole
from recal_bench.importers.files import records
from recal_bench.outcomes.schema import COMMON_NAMES, FEATURE_PREFIX
from recal_bench.outcomes.values import feature_text
from recal_bench.wording import show, some_of

CHUNK = 1_000
"""Questions that are in memory at a time."""
EXTENSIONS = (".parquet", ".csv", ".jsonl")
"""What decisions can be written as."""
COLUMNS = ("query_id", "arm", "model", "strategy", "expected_score", "expected_cost_usd", "ranking")
"""`expected_*` are null where the router does not predict. `ranking` are all arms, best first (in CSV a JSON list)."""
STDIN = Path("-")
Decision = dict[str, Any]


class Question(NamedTuple):
    """A row to be routed. `where` is its place, as errors name it; `features` are its columns `feature_*`."""

    query_id: str
    prompt: str
    where: str
    features: FeatureValues = {}  # noqa: RUF012 (a tuple's default is never changed)


def read_questions(path: Path, stdin: IO[str]) -> Iterator[Question]:
    """The questions of a table (see `table_files`) with the column `prompt`, or of JSON lines from stdin (`-`).

    A row without `query_id` has its number. Raises OutcomesError on a file that cannot be read and on a row without a
    prompt.
    """
    rows = _lines(stdin) if path == STDIN else ((str(place), row) for place, row in records(path))
    for number, (where, row) in enumerate(rows, start=1):
        query_id = row.get("query_id")
        named = isinstance(query_id, (str, int)) and str(query_id).strip()
        features = {
            name.removeprefix(FEATURE_PREFIX): text
            for name, value in row.items()
            if name.startswith(FEATURE_PREFIX) and (text := feature_text(value)) is not None
        }
        yield Question(str(query_id) if named else str(number), prompt_of(where, row), where, features)


def prompt_of(where: str, row: dict[str, Any]) -> str:
    """A row's prompt. Raises OutcomesError where it has none."""
    if "prompt" not in row:
        meant = [name for name in row if name in COMMON_NAMES["prompt"]]
        hint = f"rename {meant[0]}" if meant else "name the questions so"
        raise OutcomesError(f"{where} has no prompt (it has {some_of([*map(show, row)], 12)}): {hint}")
    prompt = row["prompt"]
    if not isinstance(prompt, str) or not prompt.strip():
        raise OutcomesError(f"{where}: prompt is empty or not text: give each row a question")
    return prompt


def _lines(stdin: IO[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    for number, line in enumerate(stdin, start=1):
        if line.isspace():
            continue
        row = parse_line(line)
        if row is None:
            raise OutcomesError(
                f'standard input, line {number:,} is not one JSON object: send {{"prompt": "..."}}, one a line'
            )
        yield f"standard input, line {number:,}", row
    if not number:
        raise OutcomesError('standard input is empty: send {"prompt": "..."}, one object a line')


def decisions(
    router: DeployedRouter, questions: Iterable[Question], unknown: Counter[str] | None = None
) -> Iterator[list[Decision]]:
    """What the router decides, in chunks of rows with COLUMNS.

    `unknown` counts the questions without a value of each feature that the router reads.
    """
    source = iter(questions)
    while chunk := list(islice(source, CHUNK)):
        features = [each.features for each in chunk]
        if unknown is not None:
            unknown.update(name for name in router.features for each in features if name not in each)
        routed = router.route([each.prompt for each in chunk], [each.query_id for each in chunk], features)
        yield [_decision(question, advice) for question, advice in zip(chunk, routed, strict=True)]


def _decision(question: Question, advice: Advice) -> Decision:
    score, cost = (advice.score, advice.cost) if advice.predicted else (None, None)
    ranking = [str(each.arm) for each in advice.ranking]
    values = (question.query_id, str(advice.arm), *advice.arm, score, cost, ranking)
    return dict(zip(COLUMNS, values, strict=True))


def check_out(out: Path, source: Path) -> None:
    """Raises SettingsError where decisions cannot be written to a file of that name, before anything is routed."""
    if out.suffix not in EXTENSIONS:
        raise SettingsError(f"--out {out}: name it {', '.join(EXTENSIONS[:-1])} or {EXTENSIONS[-1]}, or - for stdout")
    if source != STDIN and out.resolve() == source.resolve():
        raise SettingsError(f"--out {out} is the file of the questions: name another one")


def write_decisions(chunks: Iterable[list[Decision]], out: Path) -> int:
    """Write decisions to a file of one of EXTENSIONS; returns their number. After an error there is no new file."""
    count = 0
    with written_whole(out) as draft, _writer(draft, out.suffix) as write:
        for chunk in chunks:
            write(chunk)
            count += len(chunk)
    return count


def json_line(decision: Decision) -> str:
    return json.dumps(decision, ensure_ascii=False) + "\n"


@contextmanager
def _writer(path: Path, extension: str) -> Iterator[Callable[[list[Decision]], None]]:
    if extension == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = [*[pa.string()] * 4, pa.float64(), pa.float64(), pa.list_(pa.string())]
        schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
        with pq.ParquetWriter(path, schema, compression="zstd") as parquet:
            yield lambda chunk: parquet.write_table(pa.Table.from_pylist(chunk, schema=schema))
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if extension == ".jsonl":
            yield lambda chunk: file.writelines(map(json_line, chunk))
            return
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        yield lambda chunk: table.writerows(
            each | {"ranking": json.dumps(each["ranking"], ensure_ascii=False)} for each in chunk
        )
