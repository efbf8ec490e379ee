"""The Router interface and its registry: all that the author of a router imports."""

from recal_bench.routers.interface import (
    Calls,
    Context,
    Decisions,
    Predictions,
    Predicts,
    Queries,
    Router,
    Routes,
    Train,
    decide,
    fit_seeds,
)
from recal_bench.routers.registry import (
    Spec,
    assign_settings,
    create,
    discover,
    load_folder,
    require_parts,
    router,
    setting_names,
    settings_of,
)

__all__ = [
    "Calls",
    "Context",
    "Decisions",
    "Predictions",
    "Predicts",
    "Queries",
    "Router",
    "Routes",
    "Spec",
    "Train",
    "assign_settings",
    "create",
    "decide",
    "discover",
    "fit_seeds",
    "load_folder",
    "require_parts",
    "router",
    "setting_names",
    "settings_of",
]
