"""Where a router stands between cost and accuracy: points, frontiers, and the constraint that asks for one of them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Constraint(BaseModel):
    """What a router has to keep to on average, by the price of cost at which it is asked.

    `target` is at most so many USD per 1,000 queries for a `budget`, at least such an accuracy for `min-accuracy`.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["budget", "min-accuracy"]
    target: float

    @property
    def option(self) -> str:
        return f"--{self.kind}"

    @property
    def written(self) -> str:
        return f"{self.option} {self.target:g}"


BUDGET: Literal["budget"] = "budget"


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
