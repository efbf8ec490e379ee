"""Settings that were chosen on validation (see `trials`), and the file that keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from recal_bench.errors import SettingsError
from recal_bench.experiments.bench import Bench
from recal_bench.folders import written_whole


class Trial(BaseModel):
    """One setting tried: macro utility on validation (macro score where no utility may be reported)."""

    settings: dict[str, Any]
    validation_utility: float


class Tuned(BaseModel):
    """All trials of one router, the best one first in `settings`. The outcomes are named by their hash.

    `simulated`: what was chosen on some worlds of the embedded pool may be used on others.
    """

    router: str
    outcomes: str
    data_hash: str
    tasks: tuple[str, ...]
    missing: str
    cost_rule: str = "error"
    alpha: float
    latency_price: float = 0.0
    simulated: bool = False
    seeds: tuple[int, ...]
    trials: Annotated[list[Trial], Field(min_length=1)]

    @property
    def settings(self) -> dict[str, Any]:
        return max(self.trials, key=lambda trial: trial.validation_utility).settings


def write_tuned(tuned: list[Tuned], path: Path) -> None:
    """Write the trials of several routers as one JSON file, for `run --tuned FILE`, whole or not at all."""
    with written_whole(path) as draft:
        draft.write_text(json.dumps([each.model_dump() for each in tuned], indent=1) + "\n", encoding="utf-8")


def keep_tuned(tuned: Tuned, bench: Bench, path: Path) -> None:
    """Put a router's trials into such a file, beside those of other routers that it holds for the same outcomes.

    Several processes may do so at once. Raises SettingsError as `read_tuned` does, and leaves the file as it was.
    """
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        kept = read_tuned(path, bench) if path.exists() else {}
        kept[tuned.router] = tuned
        write_tuned([kept[name] for name in sorted(kept)], path)


def read_tuned(path: Path, bench: Bench) -> dict[str, Tuned]:
    """Tuned settings by router. Raises SettingsError where the file holds none, or was made on other outcomes."""
    try:
        parsed = [Tuned.model_validate(each) for each in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, RecursionError, ValidationError) as error:
        raise SettingsError(
            f"{path} holds no tuned settings: write them with `recal-bench tune --out {path}`"
        ) from error
    return {each.router: check_tuned(each, bench, str(path)) for each in parsed}


def check_tuned(tuned: Tuned, bench: Bench, where: str) -> Tuned:
    """Raises SettingsError where settings were tuned on other outcomes than those of a bench."""
    data = bench.data
    same_hash = data.hash in tuned.data_hash.split() or (tuned.simulated and data.simulated)
    judged_by = tuned.missing, tuned.cost_rule, tuned.alpha, tuned.latency_price
    made_on = (data.hash if same_hash else tuned.data_hash, tuned.tasks, *judged_by)
    if made_on != (data.hash, data.tasks, data.missing, data.cost_rule, data.alpha, data.latency_price):
        raise SettingsError(
            f"{where}: {tuned.router} was tuned on {tuned.outcomes} ({tuned.data_hash}, {len(tuned.tasks)} tasks, "
            f"missing {tuned.missing}, unknown costs {tuned.cost_rule}, alpha {tuned.alpha:g}, "
            f"latency price {tuned.latency_price:g}); this run has "
            f"{data.name} ({data.hash}, {len(data.tasks)} tasks, missing {data.missing}, unknown costs "
            f"{data.cost_rule}, alpha {data.alpha:g}, latency price {data.latency_price:g}): tune again on it"
        )
    return tuned
