"""A log in long form: a row for each query and arm, its columns named and scaled as its owner likes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recal_bench.errors import OutcomesError, near_miss
from recal_bench.importers.files import SourceRow, find_files, records
from recal_bench.importers.options import Format, Options
from recal_bench.importers.rows import Row
from recal_bench.importers.tables import note_unused, require
from recal_bench.importers.units import SCALED, check_unit
from recal_bench.importers.values import (
    SCALE_HINT,
    Place,
    amount,
    cost_of_tokens,
    count,
    gold,
    identity,
    missing,
    number,
    prose,
    score,
    text,
)
from recal_bench.outcomes.schema import NAMES, resembling
from recal_bench.table_files import IN_FOLDERS, stem
from recal_bench.wording import counted, show

_LONGEST_S = 86_400.0
"""A day: no model takes longer for a reply, so such a number is in another unit."""
_COUNTS = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens", "cache_write_tokens")
_KEPT = ("finish_reason", "served_model", "usage", "asked_at")
_NAMES = ("task", "strategy", "split")


def find(sources: Sequence[Path], notes: list[str]) -> list[Path]:
    return find_files(sources, IN_FOLDERS)


def read(paths: Sequence[Path], options: Options, notes: list[str]) -> Iterator[Row]:
    mapped = columns_of(options.map)
    scale = _scales(options, mapped)
    lost: list[int] = []
    for path in paths:
        names: dict[str, None] = {}
        yield from rows_of_file(path, mapped, scale, options, lost, names)
        _note_file(path, list(names), mapped, options, notes)
    for name, factor in scale.items():
        notes.append(f"{name}: the values of {show(mapped.get(name, name))} times {factor:g} (--scale)")
    if sum(lost):
        notes.append(f"{counted(sum(lost), 'row')} without a score: taken as missing outcomes")


def columns_of(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The source's column for each of ours that `--map` names, one of the two in each pair.

    Where both are names of ours, the first is. Raises OutcomesError where neither is, or one is named twice.
    """
    mapped: dict[str, str] = {}
    for first, second in pairs:
        ours, theirs = (first, second) if first in NAMES else (second, first)
        if ours not in NAMES:
            hint = near_miss(first, NAMES) or near_miss(second, NAMES)
            raise OutcomesError(
                f"--map {first}={second}: neither is a column of an outcomes file{hint}: write OURS=THEIRS, where OURS "
                f"is one of {', '.join(NAMES)}"
            )
        if ours in mapped:
            raise OutcomesError(f"--map names {ours} twice, {mapped[ours]} and {theirs}: keep one")
        mapped[ours] = theirs
    return mapped


def _scales(options: Options, mapped: Mapping[str, str]) -> dict[str, float]:
    scale: dict[str, float] = {}
    for given, factor in options.scale:
        ours = {theirs: name for name, theirs in mapped.items()}
        name = given if given in SCALED else ours.get(given, given)
        if name not in SCALED:
            what = "is a count, or a text" if name in NAMES else "is not a column of an outcomes file"
            raise OutcomesError(
                f"--scale {given}={factor:g}: {given} {what}{near_miss(given, SCALED)}: it is for {', '.join(SCALED)}"
            )
        scale[name] = factor
    if "score" in scale and options.score_range is not None:
        raise OutcomesError("--scale score and --score-range both say the scale of scores: give one of them")
    return scale


@dataclass(frozen=True)
class _Reader:
    """Turns the records of one file into rows. `columns` is the source's column for each of ours that is there."""

    columns: Mapping[str, str]
    scale: Mapping[str, float]
    options: Options
    task: str

    def row(self, where: Place, record: SourceRow) -> Row | None:
        found = self._score(where, record)
        if found is None:
            return None
        counts: dict[str, Any] = {name: count(self._cell(record, name), where, self._called(name)) for name in _COUNTS}
        n_tokens = sum(counts[name] or 0 for name in ("prompt_tokens", "completion_tokens"))
        prompt = text(self._cell(record, "prompt"), where, self._called("prompt"))
        kept: dict[str, Any] = {name: _kept(self._cell(record, name)) for name in _KEPT}
        named = {name: self._text(where, record, name) for name in _NAMES}
        return Row(
            where=where,
            task=named["task"] or self.task,
            query_id=self._text(where, record, "query_id") or identity(prompt),
            prompt=prompt,
            model=text(self._cell(record, "model"), where, self._called("model")),
            score=found,
            gold=gold(self._cell(record, "gold")),
            cost_usd=self._cost(where, record, "cost_usd", n_tokens),
            latency_s=self._latency(where, record),
            response=prose(self._cell(record, "response")),
            split=named["split"],
            sample=count(self._cell(record, "sample"), where, self._called("sample")) or 0,
            strategy=named["strategy"],
            billed_usd=self._cost(where, record, "billed_usd", n_tokens),
            propensity=self._scaled(where, record, "propensity"),
            **counts,
            **kept,
        )

    def _cell(self, record: SourceRow, name: str) -> Any:
        return record.get(self.columns.get(name, name))

    def _called(self, name: str) -> str:
        return show(self.columns.get(name, name))

    def _text(self, where: Place, record: SourceRow, name: str) -> str | None:
        """A text that the file may lack as a whole, but not in a row where others have it; a split may be empty."""
        there = self.columns.get(name, name) in record
        if name == "split" and missing(self._cell(record, name)):
            return None
        return text(self._cell(record, name), where, self._called(name)) if there else None

    def _scaled(self, where: Place, record: SourceRow, name: str) -> float | None:
        found = number(self._cell(record, name), where, self._called(name))
        return None if found is None else found * self.scale.get(name, 1.0)

    def _score(self, where: Place, record: SourceRow) -> float | None:
        hint = f"; or give --scale score=0.01{SCALE_HINT}"
        if "score" in self.scale:
            hint = f"; it was multiplied by {self.scale['score']:g} (--scale)"
        value = self._scaled(where, record, "score")
        return score(value, where, self._called("score"), hint, self.options.score_range)

    def _cost(self, where: Place, record: SourceRow, name: str, n_tokens: int) -> float | None:
        hint = f"; or give --scale {name}=FACTOR (of cents 0.01)"
        return cost_of_tokens(self._scaled(where, record, name), where, self._called(name), n_tokens, hint)

    def _latency(self, where: Place, record: SourceRow) -> float | None:
        found = amount(self._scaled(where, record, "latency_s"), where, self._called("latency_s"))
        if found is not None and found > _LONGEST_S:
            raise OutcomesError(
                f"{where}: {self._called('latency_s')} is {found:g}, more than a day in seconds: of milliseconds give "
                "--scale latency_s=0.001"
            )
        return found


def rows_of_file(
    path: Path,
    mapped: Mapping[str, str],
    scale: Mapping[str, float],
    options: Options,
    lost: list[int],
    names: dict[str, None],
) -> Iterator[Row]:
    """The rows of one file. The number of rows without a score is added to `lost`, the columns' names to `names`.

    `options` are `task`, what a file without such a column is called; `score_range`; `unsafe_pickle`. Raises
    OutcomesError on a file or a value that cannot be used.
    """
    reader = _Reader(mapped, scale, options, options.task or stem(path))
    theirs = {name: mapped.get(name, name) for name in NAMES}
    said = (*scale, "score") if options.score_range is not None else tuple(scale)
    shapes: set[tuple[str, ...]] = set()
    n_lost = 0
    for where, record in records(path, options.unsafe_pickle):
        shape = tuple(record)
        if shape not in shapes:
            shapes.add(shape)
            names |= dict.fromkeys(shape)
            for name in ("prompt", "model"):
                _check_mapped(path, shape, {name: mapped[name]} if name in mapped else {})
                require(path, shape, [theirs[name]], _hint(shape, mapped))
            for name in SCALED:
                if name not in said and theirs[name] in record and theirs[name] != name:
                    check_unit(path, theirs[name], name)
        row = reader.row(where, record)
        n_lost += row is None
        if row is not None:
            yield row
    _check_mapped(path, list(names), mapped)
    require(path, list(names), [theirs["score"]], _hint(list(names), mapped))
    lost.append(n_lost)


def _check_mapped(path: Path, names: Sequence[str], mapped: Mapping[str, str]) -> None:
    for name, source in mapped.items():
        if source not in names:
            raise OutcomesError(
                f"--map {name}={source}: {path} has no column {show(source)}{near_miss(source, names)}: it has "
                f"{', '.join(map(show, names))}"
            )


def _hint(names: Sequence[str], mapped: Mapping[str, str]) -> str:
    """What `--map` might say of columns that look as if they were ours."""
    used = set(mapped.values())
    meant = {ours: name for name, ours in resembling([each for each in names if each not in used]).items()}
    pairs = ",".join(f"{ours}={name}" for ours, name in meant.items() if ours not in mapped)
    how = f"perhaps --map {pairs}" if pairs else "name it with --map OURS=THEIRS"
    return f"a row needs the prompt, the model and its score; {how}"


def _note_file(path: Path, names: Sequence[str], mapped: Mapping[str, str], options: Options, notes: list[str]) -> None:
    if mapped.get("task", "task") in names and options.task is not None:
        raise OutcomesError(f"{path} has a column {show(mapped.get('task', 'task'))}: leave --task out")
    if mapped.get("task", "task") not in names and options.task is None:
        notes.append(f"{path.name} names no task: it is called {stem(path)}; --task gives it another name")
    theirs = {mapped.get(name, name) for name in NAMES}
    note_unused(path, [name for name in names if name not in theirs], notes)
    meant = {name: ours for name, ours in resembling(names).items() if name not in theirs and ours not in mapped}
    if meant:
        pairs = ",".join(f"{ours}={name}" for name, ours in meant.items())
        notes.append(f"{path.name}: --map {pairs} reads columns that look as if they were these")


def _kept(value: object) -> str | None:
    return None if missing(value) else str(value).encode(errors="replace").decode()


LONG = Format(
    "a log in long form: a row for each query and arm, with columns of any names",
    ("task", "unsafe_pickle", "score_range", "map", "scale"),
    find,
    read,
    further=True,
)
