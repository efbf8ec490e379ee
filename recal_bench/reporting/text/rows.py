"""Rows as JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from recal_bench.reporting.figures.differences import Difference
from recal_bench.reporting.figures.stability import StabilityRow, Versus

# A difference has its columns in CSV even where no row has one.
_DIFFERENCES = ("vs_baseline", "accuracy_vs_baseline")


def as_json(row: BaseModel) -> dict[str, Any]:
    """A row as plain JSON values; what is unknown, or not a finite number, is null."""
    values: dict[str, Any] = json.loads(row.model_dump_json())
    return values


def as_csv(rows: Sequence[BaseModel]) -> str:
    """All rows under one header. Nested figures have dotted names; what is unknown or does not apply is empty."""
    import pandas as pd

    values = [_prepared(as_json(row), Versus if isinstance(row, StabilityRow) else Difference) for row in rows]
    frame = pd.json_normalize(values)
    # A figure that one row has in parts and another not at all has its parts' columns alone.
    every = [str(name) for name in frame]
    names = [name for name in every if not any(other.startswith(f"{name}.") for other in every)]
    # What is nested would otherwise come last.
    order = list(dict.fromkeys(key for line in values for key in line))
    names.sort(key=lambda name: order.index(name.split(".")[0]))
    return frame[names].to_csv(index=False, lineterminator="\n").rstrip("\n")


def _prepared(values: dict[str, Any], difference: type[BaseModel]) -> dict[str, Any]:
    """What becomes cells: settings as JSON, both ends of an interval, integers as text (pandas would add a `.0`)."""
    prepared: dict[str, Any] = {}
    for key, value in values.items():
        if key in _DIFFERENCES and value is None:
            value = dict.fromkeys(difference.model_fields)
        if key == "settings":
            prepared[key] = json.dumps(value, sort_keys=True)
        elif key == "ci" or key.endswith("_ci"):
            prepared[key] = dict(zip(("low", "high"), value or (None, None), strict=True))
        elif isinstance(value, dict):
            prepared[key] = _prepared(value, difference)
        elif isinstance(value, int) and not isinstance(value, bool):
            prepared[key] = str(value)
        elif key != "iqm":
            prepared[key] = value
    return prepared
