"""The run record: what one router did on one set of outcomes with one seed, kept as a folder.

`run.json` (this model), `metrics.jsonl` (the training curve), `decisions.parquet`, `router/` (what `route` loads).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from recal_bench.errors import RunError
from recal_bench.experiments.points import Constraint, Frontier, FrontierPoint
from recal_bench.toolbox.leaks import LeakAudit

if TYPE_CHECKING:
    import pandas as pd

RECORD_VERSION: Literal[2] = 2
"""Version 1 had no `versions` in its configuration: its `source` held those of all packages, used or not."""
_NAMING = {"name", "notes"}


class Data(BaseModel):
    """The outcomes a run used. Runs whose `Data` differ in more than `name` and `notes` never share a table.

    `train_fraction` is the share of train that routers learn from; the objective is always fixed on all of it.
    `labels_per_query` is how many arms of each train query they see (0: all). `held_out` are arms that train does not
    hold, of which routers that can adapt see `labelled` queries. `logged`: they hold one arm a query, with its
    propensity; what a router is worth is estimated. `cost_rule` is what was done where some costs are unknown (see
    `outcomes.unknown_costs`). `latency_price` is what a second of latency takes from the utility. `split_by` is the
    column in whose order the file was split.
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
    labels_per_query: int = 0
    held_out: tuple[str, ...] = ()
    labelled: int = 0
    logged: bool = False
    cost_rule: str = "error"
    latency_price: float = 0.0
    split_by: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """What the outcomes are, whatever their file is called."""
        return json.dumps(self.model_dump(mode="json", exclude=_NAMING), sort_keys=True)


class Configuration(BaseModel):
    """What determines a result. Its hash names the run's folder.

    `source` is a hash of our code and the router's, `versions` are those of the packages that the router's code imports
    (and of Python). `columns` are the other columns of the outcomes that the router learns from, with the hash of their
    train values, and what its encoder reads (a file of vectors, a model), with its hash. `decisions` is the hash of
    decisions that were made elsewhere; empty for a router that is run here. With a `constraint` the router is asked at
    the price of cost that meets it on validation.
    """

    model_config = ConfigDict(frozen=True)

    router: str
    settings: dict[str, Any]
    seed: int
    device: str
    data: Data
    tuned: str | None = None
    source: str
    versions: dict[str, str] = {}
    columns: dict[str, str] = {}
    decisions: str = ""
    constraint: Constraint | None = None

    @property
    def key(self) -> str:
        return _hash(self.model_dump(mode="json", exclude_defaults=True, exclude={"data": _NAMING}))

    @property
    def settings_hash(self) -> str:
        """Tells rows of one router apart: its settings, the columns that it learns from, its constraint."""
        constraint = {} if self.constraint is None else {"constraint": self.constraint.model_dump()}
        return _hash({"settings": self.settings, "columns": self.columns} | constraint)

    @property
    def shown_settings(self) -> dict[str, Any]:
        """The settings, and beside them the constraint under the name of its option."""
        constraint = {} if self.constraint is None else {self.constraint.option: self.constraint.target}
        return self.settings | constraint


class Guard(BaseModel):
    """How a guarded router was held back (see `routers.guarded`).

    `caution` are the standard errors that a predicted gain had to exceed, `inf` where no gain would do; `tuned` says
    that it was chosen on validation. `held_back` is of every evaluated split the share of the queries on which the
    router's own choice was another arm than the fallback, and the guard kept the fallback.
    """

    model_config = ConfigDict(frozen=True)

    caution: float | Literal["inf"]
    tuned: bool
    held_back: dict[str, float]


class RunRecord(BaseModel):
    """`run.json`. `reference` marks the rows that no router can be (oracle, task-best, ...); they have no settings.

    `packages` is the environment, whether or not the router used it. `kept_step` is the training step whose policy is
    the result, of `steps`; null for a router that keeps its last one. The latencies are null until they are measured.

    `mean_score_A` and `mean_cost_A` are the arms' means over train, in the order of `Data.arms`; null where unknown.
    `frontier` holds every evaluated split; null for a router that cannot be swept over alpha. `adapted`: the router was
    shown the held-out arms. `router_class` is `module:Class` of a router that is not registered. `audit` is for
    decisions that were made elsewhere, `guard` for guarded routers. `label_cost_usd` is what all outcomes of train
    cost; null where a cost is not known. `on_validation` is where a router with a constraint meets it, with the price
    of cost at which it is asked. `neighbour_recall` is the share of the true nearest neighbours that an approximate
    search finds on validation; null where none is made.
    """

    record_version: Literal[1, 2] = RECORD_VERSION
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
    kept_step: int | None = None
    encoder: str | None = None
    mean_score_A: tuple[float | None, ...]
    mean_cost_A: tuple[float | None, ...]
    frontier: tuple[Frontier, ...] | None = None
    audit: LeakAudit | None = None
    on_validation: FrontierPoint | None = None
    label_cost_usd: float | None = None
    guard: Guard | None = None
    neighbour_recall: float | None = None

    @property
    def external(self) -> bool:
        """Whether the decisions were made elsewhere: nothing was fitted here."""
        return bool(self.configuration.decisions)


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
        import pandas as pd

        return pd.read_parquet(self.folder / "decisions.parquet")

    def metrics(self) -> list[dict[str, Any]]:
        """The training log, one object a step; empty for a router that keeps none. It ends before a damaged line."""
        return read_log(self.folder / "metrics.jsonl")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a training log up to the first one that is no JSON object; none where there is no file."""
    parsed: list[dict[str, Any]] = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        if (found := parse_line(line)) is None:
            break
        parsed.append(found)
    return parsed


def parse_line(line: bytes | str) -> dict[str, Any] | None:
    """A line of a training log; None where it is damaged."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def read_run(folder: Path) -> Run:
    """One run. Raises RunError where the folder holds none, or a damaged one, or one of a later version."""
    path = folder / "run.json"
    if not path.exists():
        raise RunError(f"{folder} holds no run.json: give the folder of one run, as `recal-bench run` prints it")
    content = b""
    try:
        content = path.read_bytes()
        return Run(folder=folder, record=RunRecord.model_validate_json(content))
    except (OSError, ValidationError) as error:
        version = (parse_line(content) or {}).get("record_version")
        if isinstance(version, int) and version > RECORD_VERSION:
            raise LaterRunError(
                f"{path} is a record of version {version}, and this recal-bench reads up to version {RECORD_VERSION}: "
                "update recal-bench"
            ) from error
        raise RunError(f"{path} is damaged: run it again, or remove {folder}") from error


class LaterRunError(RunError):
    """A record that a later version of recal-bench wrote."""


class Found(NamedTuple):
    """The runs of a folder, and one line for each record that could not be read."""

    runs: list[Run]
    left_out: tuple[str, ...]


def find_runs(folder: Path) -> Found:
    """All finished runs of a folder in the order of their names, and what is wrong with the other records.

    Folders whose name begins with a dot are work in progress, and not looked at. Raises RunError where there is no run.
    """
    runs, left_out = [], []
    for path in sorted(folder.glob("[!.]*/run.json")) if folder.is_dir() else []:
        try:
            runs.append(read_run(path.parent))
        except RunError as error:
            left_out.append(f"left out: {error}")
    if not runs and left_out:
        raise RunError(f"{folder} holds no run that can be read; {left_out[0]}")
    if not runs:
        raise RunError(
            f"{folder} holds no finished run: start one with `recal-bench run --router recal --runs {folder}`"
        )
    return Found(runs, tuple(left_out))


def read_runs(folder: Path) -> list[Run]:
    """The runs of `find_runs`."""
    return find_runs(folder).runs
