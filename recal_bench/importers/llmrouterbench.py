"""LLMRouterBench (arXiv 2601.07206): `bench/DATASET/SPLIT/MODEL/*.json`, each with the records of one model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recal_bench.errors import OutcomesError
from recal_bench.importers.files import find_files, json_file
from recal_bench.importers.options import Format, Options
from recal_bench.importers.rows import Row
from recal_bench.importers.tables import require
from recal_bench.importers.values import (
    SCALE_HINT,
    Place,
    cost_of_tokens,
    count,
    gold,
    missing,
    prose,
    score,
    text,
)
from recal_bench.wording import counted, some_of

_NAMES = ("dataset_name", "split", "model_name")
_NEEDED = ("index", "score")
_STAMP = re.compile(r"(\d{8}_\d{6})\.json$")


def find(sources: Sequence[Path], notes: list[str]) -> list[Path]:
    folders = {
        source: sorted({path.parent for path in source.rglob("*.json")}) for source in sources if source.is_dir()
    }
    for source, inside in folders.items():
        if not inside:
            raise OutcomesError(f"{source} holds no .json file: give the folder bench of LLMRouterBench's results")
    places = [place for source in sources for place in folders.get(source, [source])]
    newest: dict[Path, Path] = {}
    kept = []
    for path in find_files(places, (".json",)):
        if path in sources:
            kept.append(path)
        elif path.parent not in newest or _stamp(path) >= _stamp(newest[path.parent]):
            newest[path.parent] = path
    n_older = sum(len(list(place.glob("*.json"))) for place in newest) - len(newest)
    if n_older:
        notes.append(f"{counted(n_older, 'file')} left out: of several results of one model the newest counts")
    return sorted({*kept, *newest.values()})


def _stamp(path: Path) -> str:
    found = _STAMP.search(path.name)
    return found[1] if found else ""


def read(paths: Sequence[Path], options: Options, notes: list[str]) -> Iterator[Row]:
    lost: Counter[str] = Counter()
    demos: list[str] = []
    n_rows = 0
    for path in paths:
        held = json_file(path)
        if not isinstance(held, dict) or not isinstance(held.get("records"), list):
            raise OutcomesError(f"{path} holds no `records`: is it a result of LLMRouterBench?")
        if held.get("demo") is True:
            demos.append(path.name)
            continue
        names = _names(path, held)
        for number, record in enumerate(held["records"], start=1):
            row = _row(Place(path, "entry", number), record, names, options, lost)
            if row is not None:
                n_rows += 1
                yield row
    if not n_rows:
        raise OutcomesError(f"{paths[0]}: no record has a score: there is no outcome to import")
    if demos:
        notes.append(f"left out, since they are demos: {some_of(demos, 5)}")
    if lost["unscored"]:
        notes.append(f"{counted(lost['unscored'], 'record')} without a score: taken as missing outcomes")
    if lost["free"]:
        notes.append(f"{counted(lost['free'], 'cost')} of 0 taken as unknown: models that ran without a bill have 0")


def _names(path: Path, held: dict[str, Any]) -> dict[str, str]:
    """Dataset, split and model: as the file says, else as its folders are called."""
    folders = dict(zip(_NAMES, path.parts[-4:-1], strict=False)) if len(path.parts) > 3 else {}
    names = {}
    for name in _NAMES:
        value = held.get(name) or folders.get(name)
        if not isinstance(value, str) or not value.strip():
            raise OutcomesError(
                f"{path} names no {name}: keep it in its folders, bench/DATASET/SPLIT/MODEL, or write it into the file"
            )
        names[name] = value
    return names


def _row(where: Place, record: Any, names: dict[str, str], options: Options, lost: Counter[str]) -> Row | None:
    if not isinstance(record, dict):
        raise OutcomesError(f"{where} is not a JSON object: is it a result of LLMRouterBench?")
    require(where.path, list(record), _NEEDED, f"a record has these ({where} lacks it)")
    found = score(record["score"], where, "score", SCALE_HINT, options.score_range)
    if found is None:
        lost["unscored"] += 1
        return None
    tokens = [count(record.get(name), where, name) for name in ("prompt_tokens", "completion_tokens")]
    cost = cost_of_tokens(record.get("cost"), where, "cost", sum(each or 0 for each in tokens))
    lost["free"] += cost == 0
    asked = "prompt" if missing(record.get("origin_query")) else "origin_query"
    raw = record.get("raw_output")
    return Row(
        where=where,
        task=names["dataset_name"],
        query_id=f"{names['split']}/{text(record['index'], where, 'index')}",
        prompt=text(record.get(asked), where, asked),
        model=names["model_name"],
        score=found,
        gold=gold(record.get("ground_truth")),
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
        cost_usd=cost or None,
        response=prose(raw if isinstance(raw, str) else record.get("prediction")),
    )


LLMROUTERBENCH = Format(
    "LLMRouterBench's results: a JSON file for each dataset and model", ("score_range",), find, read
)
