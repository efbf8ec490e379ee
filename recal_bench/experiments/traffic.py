"""A log of today's queries: their prompts and, where it holds them, the arm that answered, its score and cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recal_bench.arrays import FloatQ, StrQ
from recal_bench.errors import OutcomesError
from recal_bench.experiments.routed_files import prompt_of
from recal_bench.importers import values
from recal_bench.importers.files import records
from recal_bench.importers.values import Place
from recal_bench.outcomes.reading import WHOLE_RANGE, Reading
from recal_bench.outcomes.schema import WITHOUT
from recal_bench.wording import show


@dataclass(frozen=True)
class Traffic:
    """The N rows of a log. `arm_N` is `model|strategy`, or "" where it is unknown; score and cost are NaN there."""

    name: str
    prompt_N: StrQ
    arm_N: StrQ
    score_N: FloatQ
    cost_N: FloatQ


def read_traffic(path: Path, score_range: tuple[float, float] = WHOLE_RANGE) -> Traffic:
    """A table (see `table_files`) with the column `prompt`. The ends of `score_range` become 0 and 1.

    Read where it has them: `model` and `strategy`, or `arm`; `score`; `cost_usd`, or `cost`.

    Raises OutcomesError on a file that cannot be read, on a row without a prompt and on a score or cost that is none.
    """
    scale = Reading(score_range).score_range
    found = [_row(place, row, scale) for place, row in records(path)]
    prompt_N, arm_N = (np.array([each[column] for each in found], dtype=object) for column in (0, 1))
    score_N, cost_N = (np.array([each[column] for each in found], dtype=np.float64) for column in (2, 3))
    return Traffic(path.name, prompt_N, arm_N, score_N, cost_N)


def _row(place: Place, row: dict[str, Any], scale: tuple[float, float]) -> tuple[str, str, float, float]:
    cost_column = "cost" if "cost_usd" not in row and "cost" in row else "cost_usd"
    score = values.score(row.get("score"), place, "score", values.SCALE_HINT, scale)
    cost = values.amount(row.get(cost_column), place, cost_column)
    unknown = float("nan")
    return (
        prompt_of(str(place), row),
        _arm(place, row),
        unknown if score is None else score,
        unknown if cost is None else cost,
    )


def _arm(place: Place, row: dict[str, Any]) -> str:
    if "model" not in row:
        arm = row.get("arm")
        if values.missing(arm):
            return ""
        if not isinstance(arm, str) or "|" not in arm:
            raise OutcomesError(f"{place}: arm is {show(arm)}: write it as model|strategy, or leave it empty")
        return arm
    if values.missing(row["model"]):
        return ""
    strategy = row.get("strategy")
    strategy = WITHOUT["strategy"] if values.missing(strategy) else strategy
    return f"{values.text(row['model'], place, 'model')}|{values.text(strategy, place, 'strategy')}"
