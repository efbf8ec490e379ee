"""The processes that torchrun starts: how many there are, and which of them this is."""

from __future__ import annotations

import os

from recal_bench.errors import SettingsError


def world_size() -> int:
    """The number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that evaluates, logs and keeps the record."""
    return int(os.environ.get("RANK", "0")) == 0


def require_world(found: int) -> None:
    """Raises SettingsError where the processes do not train together."""
    if found != world_size():
        raise SettingsError(
            f"{world_size()} processes were started, and each would train alone ({found} together): start them by "
            "torchrun"
        )
