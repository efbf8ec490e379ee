"""What `run` takes of constraints: a budget, or an accuracy to keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from recal_bench.errors import SettingsError

if TYPE_CHECKING:
    from recal_bench.experiments.bench import Bench
    from recal_bench.experiments.points import Constraint
    from recal_bench.experiments.records import Run


class ConstraintOptions:
    """The constraint of a command line, or none."""

    def __init__(self, budget: float | None, min_accuracy: float | None) -> None:
        if budget is not None and min_accuracy is not None:
            raise SettingsError("--budget and --min-accuracy are one constraint each: give one of them")
        if budget is not None and not (math.isfinite(budget) and budget > 0):
            raise SettingsError(f"--budget {budget:g}: give an amount above 0, in USD per 1,000 queries")
        if min_accuracy is not None and not 0 < min_accuracy <= 1:
            raise SettingsError(f"--min-accuracy {min_accuracy:g}: give a share above 0, at most 1, as in 0.8")
        self._budget, self._min_accuracy = budget, min_accuracy

    @property
    def constraint(self) -> Constraint | None:
        from recal_bench.experiments.points import Constraint

        if self._budget is not None:
            return Constraint(kind="budget", target=self._budget)
        return None if self._min_accuracy is None else Constraint(kind="min-accuracy", target=self._min_accuracy)

    def require(self, names: Sequence[str], settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Raises SettingsError where no named router could be held to the constraint, whatever the outcomes."""
        from recal_bench import routers
        from recal_bench.experiments.sweep import can_sweep

        constraint = self.constraint
        if constraint is None:
            return
        if not names:
            raise SettingsError(f"{constraint.option} is for routers that are run here: name some with --router")
        if not any(can_sweep(routers.create(name, settings[name])) for name in names):
            raise SettingsError(
                f"{constraint.option}: {', '.join(names)} cannot be asked at another price of cost: name a router "
                "that predicts score and cost, such as knn, ridge or mlp"
            )

    def require_bench(self, bench: Bench) -> None:
        """Raises SettingsError where no router could meet the constraint on such outcomes."""
        from recal_bench.experiments.constraints import require

        if (constraint := self.constraint) is not None:
            require(bench, constraint)

    def require_met(self, done: Sequence[Run]) -> None:
        """Raises SettingsError where every router was left out."""
        constraint = self.constraint
        if constraint is not None and all(run.record.configuration.constraint is None for run in done):
            raise SettingsError(f"{constraint.written}: every named router is left out, for the reasons above")


def constraint_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--budget` and `--min-accuracy`; the command takes them as one argument, `constraints`."""

    @wraps(function)
    def with_constraints(**values: Any) -> Any:
        return function(constraints=ConstraintOptions(values.pop("budget"), values.pop("min_accuracy")), **values)

    decorated = click.option(
        "--min-accuracy",
        type=float,
        metavar="P",
        help="Ask the named routers at the highest price of cost that keeps this accuracy (0 to 1) on validation.",
    )(with_constraints)
    return click.option(
        "--budget",
        type=float,
        metavar="USD_PER_1K",
        help="Ask the named routers at the lowest price of cost that keeps to this on validation.",
    )(decorated)
