"""Rows as JSON and CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from recal_bench.wording import harmless

_ENDS = ("low", "high")
_OPTIONAL = ("iqm", "constraint")
"""Figures that are asked for: where no row has one, the table has no columns for it."""


def as_json(row: BaseModel) -> dict[str, Any]:
    """A row as plain JSON values; what is unknown, or not a finite number, is null."""
    values: dict[str, Any] = json.loads(row.model_dump_json())
    return values


def as_csv(rows: Sequence[BaseModel]) -> str:
    """All rows under one header, as docs/metrics.md describes it.

    A figure in parts has a column for each, with a dotted name, in every row; what is unknown or does not apply is
    empty. Names that others gave (tasks, splits) are parts of a column's name as they are, whatever they look like.
    """
    import pandas as pd

    values = [_of_model(type(row), row) for row in rows]
    frame = pd.json_normalize(values)
    # What is nested would otherwise come last.
    order = list(dict.fromkeys(key for line in values for key in line))
    names = sorted((str(name) for name in frame), key=lambda name: order.index(name.split(".")[0]))
    frame = frame[names]
    frame.columns = [harmless(name, "csv") for name in names]
    return frame.to_csv(index=False, lineterminator="\n").rstrip("\n")


def _of_model(model: type[BaseModel], row: BaseModel | None) -> dict[str, Any]:
    """The cells of a model's fields, nested like them; all of them empty where there is no row."""
    cells: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        value = None if row is None else getattr(row, name)
        kinds = (
            get_args(field.annotation) if get_origin(field.annotation) in (Union, UnionType) else (field.annotation,)
        )
        nested = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if name == "settings":
            cells[name] = None if value is None else harmless(json.dumps(value, sort_keys=True), "csv")
        elif name in ("ci", "rank") or name.endswith("_ci"):
            cells[name] = dict(zip(_ENDS, map(_cell, value or (None, None)), strict=True))
        elif name in _OPTIONAL and value is None:
            continue
        elif nested is not None:
            cells[name] = _of_model(nested, value)
        elif isinstance(value, dict):
            cells[name] = {
                key: _of_model(type(each), each) if isinstance(each, BaseModel) else _cell(each)
                for key, each in value.items()
            }
        else:
            cells[name] = _cell(value)
    return cells


def _cell(value: Any) -> Any:
    """Integers as text, since pandas would add a `.0` where a row has none."""
    if isinstance(value, str):
        return harmless(value, "csv")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
