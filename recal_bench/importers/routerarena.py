"""RouterArena (arXiv 2510.00202): routers' prediction files, and the models' cached results."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recal_bench.errors import OutcomesError
from recal_bench.importers.files import SourceRow, find_files, json_file, json_lines
from recal_bench.importers.options import Format, Options
from recal_bench.importers.rows import Row
from recal_bench.importers.values import Place, amount, count, gold, identity, number, prose, score, text
from recal_bench.wording import counted, some_of

_ROBUSTNESS = "-robustness"
_HINT = "; accuracy is RouterArena's own, between 0 and 1"
_SLIGHTLY = 0.1
"""METEOR as RouterArena computes it falls a little below 0. What is farther outside is on another scale."""


def find(sources: Sequence[Path], notes: list[str]) -> list[Path]:
    paths = find_files(sources, (".json", ".jsonl"))
    asked = [path for path in paths if not path.stem.endswith(_ROBUSTNESS) or path in sources]
    if len(asked) < len(paths):
        notes.append(
            f"{counted(len(paths) - len(asked), 'file')} *{_ROBUSTNESS}.json left out: they ask the same queries in "
            "other words"
        )
    if not asked:
        raise OutcomesError(f"{paths[0].parent} holds only robustness files: give the predictions themselves")
    kept = [path for path in asked if path in sources or not _is_object(path)]
    if len(kept) < len(asked):
        left_out = [path.name for path in asked if path not in kept]
        notes.append(f"left out, since they hold no list of predictions: {some_of(left_out, 5)}")
    if not kept:
        raise OutcomesError(f"{paths[0].parent} holds no list of predictions: give the predictions themselves")
    return kept


def _is_object(path: Path) -> bool:
    """Is a file one JSON object (a router's configuration), rather than a list or one object a line?"""
    with path.open("rb") as file:
        first = file.readline(1 << 20).strip()
    if path.suffix != ".json" or not first.startswith(b"{"):
        return False
    try:
        return "global_index" not in json.loads(first)
    except (ValueError, RecursionError):
        return True


def read(paths: Sequence[Path], options: Options, notes: list[str]) -> Iterator[Row]:
    models: defaultdict[str, set[str]] = defaultdict(set)
    for row in _rows(paths, options.clip_scores, _Lost()):
        models[row.query_id].add(row.model)
    single = {query for query, asked in models.items() if len(asked) == 1}
    if len(single) == len(models):
        single = set()
        if len(set.union(set(), *models.values())) > 1:
            notes.append(
                "each query holds one model, the router's own choice: this gives that router's score and cost, and "
                "replays no other router; add the other models' outcomes as further sources (cached_results/*.jsonl, "
                "or a file with for_optimality entries)"
            )
    lost = _Lost()
    draws: defaultdict[tuple[str, str], list[tuple[Path, str]]] = defaultdict(list)
    for row in _rows(paths, options.clip_scores, lost):
        if row.query_id in single:
            lost["single"] += 1
        else:
            yield row._replace(sample=_draw(draws[row.query_id, row.model], row))
    notes += _notes(lost, len(single))
    n_again = sum(len(found) > 1 for found in draws.values())
    if n_again:
        notes.append(f"{counted(n_again, 'outcome')} differ between files: kept as repeated draws, which are averaged")


class _Lost(Counter[str]):
    """How many entries were no outcomes, by why; `outside` are those whose score is slightly outside 0..1."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[tuple[Place, float]] = []


def _notes(lost: _Lost, n_single: int) -> list[str]:
    outside = some_of([f"{where} ({value:g})" for where, value in lost.outside], 3)
    n_outside = counted(len(lost.outside), "entry")
    return [
        line
        for count_, line in (
            (lost["failed"], f"{counted(lost['failed'], 'entry')} whose call failed: taken as missing outcomes"),
            (lost["unscored"], f"{counted(lost['unscored'], 'entry')} without accuracy: taken as missing outcomes"),
            (lost["free"], f"{counted(lost['free'], 'cost')} of 0 taken as unknown: RouterArena writes 0 for no price"),
            (lost["clipped"], f"{counted(lost['clipped'], 'score')} outside 0..1 taken as 0 or 1 (--clip-scores)"),
            (
                len(lost.outside),
                f"{n_outside} with a score slightly outside 0..1 left out as missing outcomes, or give --clip-scores "
                f"to take them as 0 or 1: {outside}",
            ),
            (n_single, f"{counted(n_single, 'query')} left out that hold only one model: replay needs several"),
        )
        if count_
    ]


def _draw(earlier: list[tuple[Path, str]], row: Row) -> int:
    """The number of a row's draw of its arm: what another file says otherwise is a further draw."""
    content = identity(row.score, row.cost_usd, row.response)
    for draw, (path, known) in enumerate(earlier):
        if known == content or path == row.where.path:
            return draw
    earlier.append((row.where.path, content))
    return len(earlier) - 1


def _rows(paths: Sequence[Path], clip: bool, lost: _Lost) -> Iterator[Row]:
    n_rows = n_entries = 0
    for path in paths:
        for where, record in _entries(path):
            n_entries += 1
            row = (
                _cached(where, record, clip, lost)
                if "llm_selected" in record
                else _predicted(where, record, clip, lost)
            )
            if row is not None:
                n_rows += 1
                yield row
    if n_rows:
        return
    if n_entries and lost["failed"] == n_entries:
        raise OutcomesError(
            f"{paths[0]}: every call failed, all {counted(n_entries, 'entry')} say success: false: there is no outcome "
            "to import; run RouterArena's inference again (llm_inference/run.py)"
        )
    if not lost["failed"] and all(path.stem.endswith(_ROBUSTNESS) for path in paths):
        raise OutcomesError(
            f"{paths[0]} holds a router's choices on reworded queries, and no accuracy: there is no outcome to import; "
            "give the predictions themselves"
        )
    raise OutcomesError(
        f"{paths[0]}: no entry has an accuracy{_failed(lost, n_entries)}: run RouterArena's inference and evaluation "
        "first (llm_inference/run.py, llm_evaluation/run.py)"
    )


def _failed(lost: _Lost, n_entries: int) -> str:
    return f" ({lost['failed']:,} of {counted(n_entries, 'call')} failed)" if lost["failed"] else ""


def _entries(path: Path) -> Iterator[tuple[Place, SourceRow]]:
    with path.open("rb") as file:
        is_array = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    if not is_array:
        yield from json_lines(path)
        return
    for entry_number, entry in enumerate(json_file(path), start=1):
        place = Place(path, "entry", entry_number)
        if not isinstance(entry, dict):
            raise OutcomesError(f"{place} is not a JSON object: is it a RouterArena prediction file?")
        yield place, entry


def _predicted(where: Place, entry: SourceRow, clip: bool, lost: _Lost) -> Row | None:
    prompt = "prompt" if entry.get("prompt") else "prompt_formatted"
    index = _index(where, entry, (prompt, "prediction"))
    result = entry.get("generated_result")
    result = result if isinstance(result, dict) else {}
    query = (index, entry[prompt], entry["prediction"])
    return _row(where, query, result, entry.get("accuracy"), entry.get("cost"), None, clip, lost)


def _cached(where: Place, entry: SourceRow, clip: bool, lost: _Lost) -> Row | None:
    index = _index(where, entry, ("question", "llm_selected"))
    found = entry.get("evaluation_result")
    found = found if isinstance(found, dict) else {}
    query = (index, entry["question"], entry["llm_selected"])
    return _row(
        where, query, entry, found.get("score"), found.get("inference_cost"), found.get("ground_truth"), clip, lost
    )


def _index(where: Place, entry: SourceRow, needed: Sequence[str]) -> str:
    index = entry.get("global index", entry.get("global_index"))
    absent = [name for name in needed if name not in entry]
    if index is None or absent:
        lacks = ", ".join(absent if index is not None else ["global index", *absent]).replace("_formatted", "")
        raise OutcomesError(f"{where} lacks {lacks}: is it a RouterArena prediction file or cached result?")
    return text(index, where, "global index")


def _row(
    where: Place,
    query: tuple[str, Any, Any],
    result: SourceRow,
    accuracy: Any,
    cost: Any,
    answer: Any,
    clip: bool,
    lost: _Lost,
) -> Row | None:
    index, prompt, model = query
    if result.get("success") is False:
        lost["failed"] += 1
        return None
    found = number(accuracy, where, "accuracy", _HINT)
    if found is None:
        lost["unscored"] += 1
        return None
    nearest = min(max(found, 0.0), 1.0)
    if nearest != found and abs(found - nearest) <= _SLIGHTLY:
        if not clip:
            lost.outside.append((where, found))
            return None
        lost["clipped"] += 1
        found = nearest
    found = score(found, where, "accuracy", _HINT)
    assert found is not None
    usd = amount(cost, where, "cost")
    lost["free"] += usd == 0
    tokens = result.get("token_usage")
    tokens = tokens if isinstance(tokens, dict) else {}
    return Row(
        where=where,
        task=index.rpartition("_")[0] or index,
        query_id=index,
        prompt=text(prompt, where, "prompt"),
        model=text(model, where, "prediction"),
        score=found,
        gold=gold(answer),
        prompt_tokens=count(tokens.get("input_tokens"), where, "input_tokens"),
        completion_tokens=count(tokens.get("output_tokens"), where, "output_tokens"),
        # Its evaluation gives 0 to a model that has no price.
        cost_usd=usd or None,
        response=prose(result.get("generated_answer")),
    )


ROUTERARENA = Format("RouterArena's prediction files (JSON) and cached results (JSONL)", ("clip_scores",), find, read)
