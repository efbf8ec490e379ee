"""recal-bench: which LLM router should I trust, at what cost, and was its training stable?

What `__all__` names is meant for scripts and notebooks (docs/python.md). It is loaded when first asked for, so
that the command line starts fast.
"""

from __future__ import annotations

# Type checkers take it for true. The module `typing` would be most of what this import costs.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from recal_bench.api import (
        compare,
        create,
        drift,
        find_signal,
        list_routers,
        list_runs,
        load_bench,
        load_outcomes,
        load_router,
        read_runs,
        route,
        run,
        tune,
        validate,
    )
    from recal_bench.calibration import component, estimator
    from recal_bench.encoders import encoder
    from recal_bench.errors import (
        EndpointError,
        OutcomesError,
        PluginError,
        RecalBenchError,
        RunError,
        SettingsError,
    )
    from recal_bench.outcomes import Arm, Outcomes
    from recal_bench.routers import Calls, Context, Decisions, Predictions, Queries, Train, router

__version__ = "0.1.0"

__all__ = [
    "Arm",
    "Calls",
    "Context",
    "Decisions",
    "EndpointError",
    "Outcomes",
    "OutcomesError",
    "PluginError",
    "Predictions",
    "Queries",
    "RecalBenchError",
    "RunError",
    "SettingsError",
    "Train",
    "compare",
    "component",
    "create",
    "drift",
    "encoder",
    "estimator",
    "find_signal",
    "list_routers",
    "list_runs",
    "load_bench",
    "load_outcomes",
    "load_router",
    "read_runs",
    "route",
    "router",
    "run",
    "tune",
    "validate",
]

# `create` of `api` finds the plug-ins first, and is the one that is meant.
_MODULES = ("errors", "outcomes", "calibration", "encoders", "api", "routers")


def __getattr__(name: str) -> object:
    """Load a name of `__all__` from the first of `_MODULES` that has it."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for module in _MODULES:
        offered = import_module(f"{__name__}.{module}")
        if name in vars(offered):
            value = globals()[name] = vars(offered)[name]
            return value
    raise AssertionError(f"{name} is in __all__ and in none of {_MODULES}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
