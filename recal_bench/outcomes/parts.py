"""A log in parquet files: one file, or a folder of them, flat or in folders that are called after what they hold."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa

from recal_bench.outcomes.coding import kind_of_type
from recal_bench.table_files import is_parquet, is_pointer, kind_of
from recal_bench.wording import listed, show, some_of

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_DELTA = "_delta_log"
_LISTED = 5


class UnusableError(Exception):
    """What is wrong with a file or a folder as a whole, in plain words."""


class Part(NamedTuple):
    """A parquet file of a log: `label` is what messages call it, empty where it is all there is.

    `keys` are the columns that the names of its folders give (`day=2026-01-31`), with the value that all its rows have.
    """

    path: Path
    label: str = ""
    keys: tuple[tuple[str, str | None], ...] = ()


def parts_of(folder: Path) -> list[Part]:
    """The files of a folder, in the order of their paths. Names that begin with a dot or `_` do not count.

    Raises UnusableError where there is none, where there is something else, and where some folders give other columns
    than others.
    """
    found: list[Part] = []
    foreign: list[str] = []
    for place, folders, files in os.walk(folder):
        if _DELTA in folders:
            raise UnusableError(
                f"the folder is a table of Delta Lake ({_DELTA}), which also keeps files that count no longer: write "
                "its rows into a folder of parquet files"
            )
        folders[:] = sorted(each for each in folders if not each.startswith((".", "_")))
        inside = Path(place).relative_to(folder)
        foreign += [str(inside / each) for each in folders if "=" not in each or (Path(place) / each).is_symlink()]
        keys = tuple(_key(each) for each in inside.parts)
        for name in sorted(each for each in files if not each.startswith((".", "_"))):
            path, label = Path(place) / name, str(inside / name)
            if kind_of(path) == "parquet":
                found.append(Part(path, label, keys))
            else:
                foreign.append(label)
    if foreign:
        raise UnusableError(
            f"the folder holds {some_of([*map(show, sorted(foreign))], _LISTED)} beside parquet files: keep the "
            "parquet files of one log there alone, flat or in folders called COLUMN=VALUE"
        )
    if not found:
        raise UnusableError("the folder holds no parquet file: give one outcomes file, or a folder of parquet files")
    found.sort(key=lambda part: part.label)
    for part in found:
        _require_whole(part)
        names, others = ([name for name, _ in each.keys] for each in (found[0], part))
        if names != others or len(set(names)) < len(names):
            raise UnusableError(
                f"the folders name {_columns(names)} for {show(found[0].label)} and {_columns(others)} for "
                f"{show(part.label)}: put all files into folders of the same columns"
            )
    return found


def require_alike(
    parts: Sequence[Part], schemas: Sequence[pa.Schema], chosen: Sequence[str], texts: Collection[str]
) -> None:
    """Raises UnusableError where files have other columns than others, or a chosen one of another kind of type.

    Whole numbers and others go together, but not in `texts`, where they are names.
    """
    names = schemas[0].names
    for part, schema in zip(parts, schemas, strict=True):
        here, there = show(parts[0].label), show(part.label)
        if set(schema.names) != set(names):
            more = [show(name) for name in names if name not in schema.names]
            less = [show(name) for name in schema.names if name not in names]
            extra = [f"{here} alone has {some_of(more, _LISTED)}"] if more else []
            extra += [f"{there} alone has {some_of(less, _LISTED)}"] if less else []
            raise UnusableError(
                f"the files have different columns: of {here} and {there}, {' and '.join(extra)}: write all files with "
                "the same columns"
            )
    for name in chosen:
        kinds = [_kind(schema.field(name).type, name in texts) for schema in schemas]
        known = [number for number, kind in enumerate(kinds) if kind]
        other = [number for number in known if kinds[number] != kinds[known[0]]]
        if other:
            raise UnusableError(
                f"column {show(name)} holds {kinds[known[0]]} in {show(parts[known[0]].label)} and {kinds[other[0]]} "
                f"in {show(parts[other[0]].label)}: write it alike in all files"
            )


def _kind(type_: pa.DataType, text: bool) -> str:
    kind = kind_of_type(type_)
    return "whole numbers" if text and kind == "numbers" and pa.types.is_integer(type_) else kind


def joint_type(types: Sequence[pa.DataType]) -> pa.DataType:
    """The type in which columns of types of one kind are joined."""
    known = [each for each in dict.fromkeys(types) if kind_of_type(each)]
    if len(known) > 1 and kind_of_type(known[0]) == "numbers":
        plain = [each.value_type if pa.types.is_dictionary(each) else each for each in known]
        return pa.int64() if all(map(pa.types.is_signed_integer, plain)) else pa.float64()
    return known[0] if known else types[0]


def _key(name: str) -> tuple[str, str | None]:
    column, _, value = name.partition("=")
    return unquote(column), None if value == _NO_VALUE else unquote(value)


def _columns(names: Sequence[str]) -> str:
    return listed([show(name) for name in names]) if names else "no column"


def _require_whole(part: Part) -> None:
    if part.path.stat().st_size == 0:
        raise UnusableError(f"its file {show(part.label)} is empty (0 bytes)")
    if is_pointer(part.path):
        raise UnusableError(f"its file {show(part.label)} is a pointer of Git LFS: get the file with `git lfs pull`")
    if not is_parquet(part.path):
        raise UnusableError(f"its file {show(part.label)} is not a parquet file, but is named .parquet")
