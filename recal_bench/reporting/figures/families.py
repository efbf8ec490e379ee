"""What kind of router a row is, by what its class says of itself and not by its name."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from recal_bench.errors import RecalBenchError
from recal_bench.routers import FixedArm, discover
from recal_bench.routers.flags import flags_of
from recal_bench.routers.registry import setting_names, spec_of
from recal_bench.training.settings import Optimisation

RL, PREDICTS, CHOOSES, CASCADE, BANDIT, TRIVIAL, EXTERNAL, REFERENCE, OTHER = FAMILIES = (
    "RL", "predict-then-choose", "direct choice", "cascade", "bandit", "trivial", "external", "reference",
    "other",
)  # fmt: skip
"""In the order in which they are listed. `external`: its decisions were made elsewhere; `other` is a router that is not
installed here."""


def family_of(router: str, reference: bool, external: bool = False) -> str:
    """The family of a row, by its router's name."""
    if reference:
        return REFERENCE
    if external:
        return EXTERNAL
    _discover_once()
    try:
        return _of_class(spec_of(router).cls)
    except RecalBenchError:
        return OTHER


@lru_cache(maxsize=1)
def _discover_once() -> None:
    # Every row asks, and to look for plug-ins takes a tenth of a second.
    discover()


def _of_class(cls: type[Any]) -> str:
    flags = flags_of(cls)
    if issubclass(cls, Optimisation):
        return RL
    if flags.partial_feedback:
        return BANDIT
    if flags.reads_responses:
        return CASCADE
    if hasattr(cls, "predict"):
        return PREDICTS
    return TRIVIAL if cls is FixedArm or not setting_names(cls) else CHOOSES
