"""The processes that torchrun started: one, or several that train together."""

from __future__ import annotations

import os

from recal_bench.errors import SettingsError

_OF_TORCHRUN = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def world_size() -> int:
    """How many there are. Raises SettingsError where something else than torchrun says that there are several."""
    found = int(os.environ.get("WORLD_SIZE", "1"))
    missing = [name for name in _OF_TORCHRUN if name not in os.environ]
    if found > 1 and missing:
        raise SettingsError(
            f"WORLD_SIZE={found} without {', '.join(missing)}: start the processes by torchrun, or unset WORLD_SIZE"
        )
    return found


def is_first() -> bool:
    """Whether this is the process that logs, judges and writes."""
    return world_size() == 1 or os.environ["RANK"] == "0"


def share_of(total: int, what: str) -> int:
    """The part of a batch that is this process's. Raises SettingsError where it cannot be divided."""
    if total % world_size():
        raise SettingsError(f"{what} is not a multiple of {world_size()} processes")
    return total // world_size()


def require_world(found: int) -> None:
    """Raises SettingsError where the processes do not train together."""
    if found != world_size():
        raise SettingsError(
            f"{world_size()} processes were started, and each would train alone ({found} together): start them by "
            "torchrun"
        )
