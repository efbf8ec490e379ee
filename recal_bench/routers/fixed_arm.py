"""One arm for every query, as a router: `arm:model|strategy`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from recal_bench.errors import OutcomesError, RunError, near_miss
from recal_bench.outcomes import Arm
from recal_bench.routers.interface import Calls, Context, Decisions, Queries, Train

PREFIX = "arm:"
_FILE = "arm.json"


@dataclass
class FixedArm:
    """Always the named arm; where it has no outcome for a query, the arm whose cost on train is nearest."""

    deterministic: ClassVar[bool] = True

    arm: str = field(init=False, default="")

    @classmethod
    def named(cls, name: str) -> FixedArm:
        """The router that is called `arm:model|strategy`."""
        router = cls()
        router.arm = name.removeprefix(PREFIX).strip()
        return router

    def require(self, arms: Sequence[Arm]) -> None:
        """Raises OutcomesError where there is no such arm."""
        there = [str(arm) for arm in arms]
        if self.arm not in there:
            raise OutcomesError(
                f"router {PREFIX}{self.arm}: there is no such arm{near_miss(self.arm, there)}: it is one of "
                f"{', '.join(there)}"
            )

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        self.require(train.outcomes.arms)

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        rank_A = np.argsort(np.argsort(calls.mean_cost_A, kind="stable"), kind="stable")
        arm = [str(each) for each in calls.arms].index(self.arm)
        nearness_A = -np.abs(rank_A - rank_A[arm]).astype(np.float64)
        return calls.choose(np.tile(nearness_A, (len(queries.prompt), 1)))

    def save(self, folder: Path) -> None:
        (folder / _FILE).write_text(json.dumps(self.arm) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Raises RunError where the folder holds no such file, or a damaged one."""
        try:
            self.arm = str(json.loads((folder / _FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{folder / _FILE} names no arm: run the router again with --fresh") from error
