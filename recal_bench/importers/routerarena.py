"""RouterArena (arXiv 2510.00202): routers' prediction files, and the models' cached results."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recal_bench.errors import OutcomesError
from recal_bench.importers.files import SourceRow, find_files, json_file, json_lines
from recal_bench.importers.options import Format, Options
from recal_bench.importers.rows import Row
from recal_bench.importers.values import Place, amount, count, gold, identity, prose, score, text
from recal_bench.wording import counted

_ROBUSTNESS = "-robustness"
_HINT = "; accuracy is RouterArena's own, between 0 and 1"


def find(sources: Sequence[Path], notes: list[str]) -> list[Path]:
    paths = find_files(sources, (".json", ".jsonl"))
    kept = [path for path in paths if not path.stem.endswith(_ROBUSTNESS) or path in sources]
    if len(kept) < len(paths):
        notes.append(
            f"{counted(len(paths) - len(kept), 'file')} *{_ROBUSTNESS}.json left out: they ask the same queries in "
            "other words"
        )
    if not kept:
        raise OutcomesError(f"{paths[0].parent} holds only robustness files: give the predictions themselves")
    return kept


def read(paths: Sequence[Path], options: Options, notes: list[str]) -> Iterator[Row]:
    models: defaultdict[str, set[str]] = defaultdict(set)
    for row in _rows(paths, Counter()):
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
    lost: Counter[str] = Counter()
    draws: defaultdict[tuple[str, str], list[tuple[Path, str]]] = defaultdict(list)
    for row in _rows(paths, lost):
        if row.query_id in single:
            lost["single"] += 1
        else:
            yield row._replace(sample=_draw(draws[row.query_id, row.model], row))
    notes += _notes(lost, len(single))
    n_again = sum(len(found) > 1 for found in draws.values())
    if n_again:
        notes.append(f"{counted(n_again, 'outcome')} differ between files: kept as repeated draws, which are averaged")


def _notes(lost: Counter[str], n_single: int) -> list[str]:
    return [
        line
        for count_, line in (
            (lost["failed"], f"{counted(lost['failed'], 'entry')} whose call failed: taken as missing outcomes"),
            (lost["unscored"], f"{counted(lost['unscored'], 'entry')} without accuracy: taken as missing outcomes"),
            (lost["free"], f"{counted(lost['free'], 'cost')} of 0 taken as unknown: RouterArena writes 0 for no price"),
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


def _rows(paths: Sequence[Path], lost: Counter[str]) -> Iterator[Row]:
    n_rows = 0
    for path in paths:
        for where, record in _entries(path):
            row = _cached(where, record, lost) if "llm_selected" in record else _predicted(where, record, lost)
            if row is not None:
                n_rows += 1
                yield row
    if not n_rows:
        raise OutcomesError(
            f"{paths[0]}: no entry has an accuracy: run RouterArena's inference and evaluation first "
            "(llm_inference/run.py, llm_evaluation/run.py)"
        )


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


def _predicted(where: Place, entry: SourceRow, lost: Counter[str]) -> Row | None:
    prompt = "prompt" if entry.get("prompt") else "prompt_formatted"
    index = _index(where, entry, (prompt, "prediction"))
    result = entry.get("generated_result")
    result = result if isinstance(result, dict) else {}
    query = (index, entry[prompt], entry["prediction"])
    return _row(where, query, result, entry.get("accuracy"), entry.get("cost"), None, lost)


def _cached(where: Place, entry: SourceRow, lost: Counter[str]) -> Row | None:
    index = _index(where, entry, ("question", "llm_selected"))
    found = entry.get("evaluation_result")
    found = found if isinstance(found, dict) else {}
    query = (index, entry["question"], entry["llm_selected"])
    return _row(where, query, entry, found.get("score"), found.get("inference_cost"), found.get("ground_truth"), lost)


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
    lost: Counter[str],
) -> Row | None:
    index, prompt, model = query
    if result.get("success") is False:
        lost["failed"] += 1
        return None
    found = score(accuracy, where, "accuracy", _HINT)
    if found is None:
        lost["unscored"] += 1
        return None
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


ROUTERARENA = Format("RouterArena's prediction files (JSON) and cached results (JSONL)", (), find, read)
