"""The run record: what one router did on one set of outcomes with one seed, kept as a folder.

`run.json` (this model), `metrics.jsonl` (the training curve), `decisions.parquet`, `router/` (what `route` loads).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from recal_bench.errors import RunError

RECORD_VERSION: Literal[1] = 1


class Data(BaseModel):
    """The outcomes a run used. Runs whose `Data` differ never share a table.

    `train_fraction` is the share of train that routers learn from; the objective is always fixed on all of it.
    `held_out` are arms that train does not hold, of which routers that can adapt see `labelled` queries. `logged`: they
    hold one arm a query, with its propensity; what a router is worth is estimated. `cost_rule` is what was done where
    some costs are unknown (see `outcomes.unknown_costs`).
    """

    model_config = ConfigDict(frozen=True)

    name: str
    hash: str
    simulated: bool
    tasks: tuple[str, ...]
    missing: str
    alpha: float
    cost_ref: float | None
    unknown_costs: int
    arms: tuple[str, ...]
    n_queries: dict[str, int]
    train_fraction: float = 1.0
    held_out: tuple[str, ...] = ()
    labelled: int = 0
    logged: bool = False
    cost_rule: str = "error"
    notes: tuple[str, ...] = ()


class Configuration(BaseModel):
    """What determines a result. Its hash names the run's folder.

    `columns` are the other columns of the outcomes that the router learns from, with the hash of their train values.
    """

    model_config = ConfigDict(frozen=True)

    router: str
    settings: dict[str, Any]
    seed: int
    device: str
    data: Data
    tuned: str | None = None
    source: str
    columns: dict[str, str] = {}

    @property
    def key(self) -> str:
        return _hash(self.model_dump(mode="json", exclude_defaults=True))

    @property
    def settings_hash(self) -> str:
        return _hash({"settings": self.settings, "device": self.device, "source": self.source, **self.columns})


class OperatingPoint(BaseModel):
    """One way to route a split: macro mean score, and macro mean cost with the router's own."""

    model_config = ConfigDict(frozen=True)

    accuracy: float
    cost_usd_per_1k: float


class FrontierPoint(OperatingPoint):
    """What a router does where cost has this price."""

    alpha: float


class Frontier(BaseModel):
    """What one router does on one split at every price of cost, and the single arms on the same queries.

    `arms` are in the order of `Data.arms`; where an arm lacks outcomes, others take its place (see `sweep`).
    `best_accuracy` is the arm that was most accurate on train, as the reference of that name decides.
    """

    model_config = ConfigDict(frozen=True)

    split: str
    points: tuple[FrontierPoint, ...]
    arms: tuple[OperatingPoint, ...]
    best_accuracy: OperatingPoint


class RunRecord(BaseModel):
    """`run.json`. `reference` marks the rows that no router can be (oracle, task-best, ...); they have no settings.

    `mean_score_A` and `mean_cost_A` are the arms' means over train, in the order of `Data.arms`; null where unknown.
    `frontier` holds every evaluated split; null for a router that cannot be swept over alpha. `adapted`: the router was
    shown the held-out arms. `router_class` is `module:Class` of a router that is not registered.
    """

    record_version: Literal[1] = RECORD_VERSION
    configuration: Configuration
    reference: bool = False
    adapted: bool = False
    router_class: str | None = None
    deterministic: bool
    command: str
    code: str
    packages: dict[str, str]
    device_name: str
    started: str
    fit_seconds: float | None = None
    route_us_per_query: float | None = None
    route_us_p95: float | None = None
    steps: int | None = None
    encoder: str | None = None
    mean_score_A: tuple[float | None, ...]
    mean_cost_A: tuple[float | None, ...]
    frontier: tuple[Frontier, ...] | None = None


class Run(BaseModel):
    """A record together with the folder it lies in."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    folder: Path
    record: RunRecord

    @property
    def logged(self) -> bool:
        """Whether it is about a log of single choices."""
        return self.record.configuration.data.logged

    def decisions(self) -> pd.DataFrame:
        """One row a query: split, task, query_id, arm, calls, answer, score, cost_usd, router_cost_usd, utility,
        regret."""
        return pd.read_parquet(self.folder / "decisions.parquet")

    def metrics(self) -> list[dict[str, Any]]:
        """The training log, one object a step; empty for a router that keeps none. A torn last line is left out."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").splitlines()
        parsed = []
        for line in lines:
            try:
                parsed.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return parsed


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def read_run(folder: Path) -> Run:
    """One run. Raises RunError where the folder holds none, or one of another version."""
    path = folder / "run.json"
    if not path.exists():
        raise RunError(f"{folder} holds no run.json: give the folder of one run, as `recal-bench run` prints it")
    try:
        record = RunRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise RunError(
            f"{path} is damaged, or was written by another version: delete {folder} and run again"
        ) from error
    return Run(folder=folder, record=record)


def read_runs(folder: Path) -> list[Run]:
    """All finished runs below a folder, in the order of their folders' names."""
    runs = [read_run(path.parent) for path in sorted(folder.glob("*/run.json"))] if folder.is_dir() else []
    if not runs:
        raise RunError(
            f"{folder} holds no finished run: start one with `recal-bench run --router recal --runs {folder}`"
        )
    return runs
