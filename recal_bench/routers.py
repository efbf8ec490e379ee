"""The Router interface, and the registry through which the baselines and a user's own routers are found."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, get_type_hints, runtime_checkable

import numpy as np

from recal_bench.arrays import BoolQA, FloatA, FloatQ, FloatQA, IntQ
from recal_bench.errors import RecalBenchError
from recal_bench.objective import Objective
from recal_bench.outcomes import Arm, Outcomes

ENTRY_POINT_GROUP = "recal_bench.routers"


class Queries(NamedTuple):
    """What a router is shown when it routes: identifiers and texts, never a task's name, never a score."""

    query_id: tuple[str, ...]
    prompt: tuple[str, ...]


class Train(NamedTuple):
    """One split to learn from. Missing outcomes are NaN in `outcomes.score_QA`."""

    queries: Queries
    outcomes: Outcomes
    objective: Objective

    @property
    def utility_QA(self) -> FloatQA:
        """What a router should predict or maximise; NaN where an arm has no outcome."""
        return self.objective.utility(self.outcomes.score_QA, self.outcomes.cost_QA)


class Context(NamedTuple):
    """Where and how a fit runs. `folder` is the run's own (for checkpoints); `log` appends one line to metrics.jsonl."""

    seed: int
    device: str
    folder: Path
    log: Callable[[dict[str, Any]], None]


class Predictions(NamedTuple):
    """Expected score and cost (USD; NaN where the outcomes hold no cost) of every arm."""

    score_QA: FloatQA
    cost_QA: FloatQA


class Decisions(NamedTuple):
    """The arm (index into `calls.arms`) chosen for each query; `answer_Q` where the router itself answers."""

    arm_Q: IntQ
    answer_Q: tuple[str, ...] | None = None


@dataclass
class Calls:
    """The arms on offer while routing: which of them may be called, and the meter of the router's own cost."""

    arms: tuple[Arm, ...]
    objective: Objective
    available_QA: BoolQA
    mean_cost_A: FloatA
    router_cost_Q: FloatQ = field(init=False)

    def __post_init__(self) -> None:
        self.router_cost_Q = np.zeros(len(self.available_QA))

    def bill(self, row: int, usd: float) -> None:
        """Charge the router's own cost (say, a language model asked for advice) to a query."""
        if not usd >= 0:
            raise ValueError(f"a router billed {usd} USD for row {row}: a cost is a number >= 0")
        self.router_cost_Q[row] += usd

    def choose(self, value_QA: FloatQA) -> Decisions:
        """The available arm of the highest value; equal values go to the arm that is cheaper on train, then by name."""
        cost_A = np.where(np.isnan(self.mean_cost_A), np.inf, self.mean_cost_A)
        order_A = np.argsort(cost_A, kind="stable")
        value_QA = np.where(self.available_QA, value_QA, -np.inf)[:, order_A]
        return Decisions(order_A[np.argmax(value_QA, axis=1)].astype(np.int64))


class Router(Protocol):
    """What every router has. Besides, it has `route` or `predict` (see `Routes` and `Predicts`).

    A router is a dataclass: its fields are its settings (`--set KEY=VALUE`), checked by their types.
    `deterministic` routers give the same result for every seed and are run once.
    """

    deterministic: ClassVar[bool]

    def fit(self, train: Train, validation: Train, context: Context) -> None: ...
    def save(self, folder: Path) -> None: ...
    def load(self, folder: Path) -> None: ...


@runtime_checkable
class Routes(Protocol):
    """A router that decides itself."""

    def route(self, queries: Queries, calls: Calls) -> Decisions: ...


@runtime_checkable
class Predicts(Protocol):
    """A router that predicts score and cost of every arm; the harness chooses the arm of the highest utility."""

    def predict(self, queries: Queries) -> Predictions: ...


def decide(router: Router, queries: Queries, calls: Calls) -> Decisions:
    """Let a router decide. Raises RecalBenchError where it chooses an arm that is not on offer."""
    if isinstance(router, Routes):
        decisions = router.route(queries, calls)
    elif isinstance(router, Predicts):
        score_QA, cost_QA = router.predict(queries)
        decisions = calls.choose(calls.objective.utility(score_QA, cost_QA))
    else:
        raise RecalBenchError(f"router {type(router).__name__} has neither route() nor predict(): give it one of them")
    arm_Q = np.asarray(decisions.arm_Q)
    in_range_Q = (arm_Q >= 0) & (arm_Q < len(calls.arms))
    if arm_Q.shape != (len(queries.prompt),) or not in_range_Q.all():
        raise RecalBenchError(
            f"router {type(router).__name__} must give one arm index in 0..{len(calls.arms) - 1} a query"
        )
    allowed_Q = calls.available_QA[np.arange(len(arm_Q)), arm_Q]
    if not allowed_Q.all():
        raise RecalBenchError(
            f"router {type(router).__name__} chose an arm without an outcome for {int((~allowed_Q).sum())} queries: "
            "choose with calls.choose(value_QA), which knows what is available"
        )
    return decisions


@dataclass(frozen=True)
class Spec:
    """One entry of the registry: a router class under a name, with the settings the name stands for."""

    name: str
    cls: type[Any]
    preset: dict[str, Any]
    summary: str


_REGISTRY: dict[str, Spec] = {}
_Cls = TypeVar("_Cls", bound=type)


def router(name: str, summary: str = "", **preset: Any) -> Callable[[_Cls], _Cls]:
    """Register a router class under a kebab-case name. The summary defaults to the docstring's first line.

    Decorators stack: one class may stand under several names, each with its own preset of settings
    (dots in a setting's name are written as `__`).
    """

    def register(cls: _Cls) -> _Cls:
        line = summary or (cls.__doc__ or "").strip().partition("\n")[0]
        _REGISTRY[name] = Spec(name, cls, {key.replace("__", "."): value for key, value in preset.items()}, line)
        return cls

    return register


def load_folder(folder: Path) -> None:
    """Import every Python file of a folder, so that its routers register themselves."""
    if not folder.is_dir():
        raise RecalBenchError(f"{folder} is not a folder: --include-path takes a folder of Python files with routers")
    for path in sorted(folder.glob("[!_]*.py")):
        module_name = f"recal_bench_plugin_{abs(hash(path.resolve()))}_{path.stem}"
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise RecalBenchError(f"{path} cannot be imported as a router: {type(error).__name__}: {error}") from error


def shipped(kind: str) -> Path:
    """The folder of shipped `baselines` or `tasks`: inside the wheel, or at the top of a checkout."""
    package = Path(__file__).parent
    inside = package / "shipped" / kind
    return inside if inside.is_dir() else package.parent / kind


def discover(include_paths: tuple[Path, ...] = ()) -> dict[str, Spec]:
    """All routers by name: ours, those of installed packages (entry points), those of the given folders."""
    import recal_bench.recal  # noqa: F401

    load_folder(shipped("baselines"))
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP):
        entry.load()
    for folder in include_paths:
        load_folder(folder)
    return dict(sorted(_REGISTRY.items()))


def near_miss(word: str, known: list[str]) -> str:
    """' (did you mean X?)' or nothing."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def create(name: str, settings: dict[str, Any] | None = None) -> Any:
    """An unfitted router with its settings. Dotted keys reach into nested settings. Registered names only.

    Raises RecalBenchError on an unknown router, an unknown setting or a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    if name not in _REGISTRY:
        raise RecalBenchError(
            f"no router is called {name}{near_miss(name, list(_REGISTRY))}: `recal-bench routers` lists them all"
        )
    spec = _REGISTRY[name]
    known = setting_names(spec.cls)
    nested: dict[str, Any] = {}
    for key, value in {**spec.preset, **(settings or {})}.items():
        if key not in known:
            raise RecalBenchError(
                f"router {name} has no setting {key}{near_miss(key, list(known))}: it has {', '.join(known) or 'none'}"
            )
        *parents, leaf = key.split(".")
        level = nested
        for parent in parents:
            level = level.setdefault(parent, {})
        level[leaf] = value
    try:
        return TypeAdapter(spec.cls).validate_python(nested)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecalBenchError(f"router {name}, setting {where}={first['input']}: {first['msg']}") from error


def setting_names(cls: type[Any], prefix: str = "") -> list[str]:
    """The settings of a router class, nested ones dotted."""
    names: list[str] = []
    for each in _setting_fields(cls):
        inner = get_type_hints(cls)[each.name]
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            names += setting_names(inner, f"{prefix}{each.name}.")
        else:
            names.append(prefix + each.name)
    return names


def settings_of(router: Any, prefix: str = "") -> dict[str, Any]:
    """The settings a router runs with, defaults included, nested ones dotted."""
    values: dict[str, Any] = {}
    for each in _setting_fields(type(router)):
        value = getattr(router, each.name)
        if dataclasses.is_dataclass(value):
            values |= settings_of(value, f"{prefix}{each.name}.")
        else:
            values[prefix + each.name] = value
    return values


def _setting_fields(cls: type[Any]) -> list[dataclasses.Field[Any]]:
    return [each for each in dataclasses.fields(cls) if each.init]
