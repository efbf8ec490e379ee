"""Settings of the encoder policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt


@dataclass
class Prior:
    """Where the policy starts: `scale` times each arm's mean utility on the `k` nearest train queries, or nowhere."""

    kind: Literal["knn", "none"] = "knn"
    k: PositiveInt = 500
    scale: PositiveFloat = 30.0


@dataclass
class Policy:
    """What is trained.

    hidden     units of the one hidden layer
    malformed  how often the untrained policy's actions are malformed
    alpha      `fixed`: for the run's price of cost; `conditioned`: the price is an input, drawn at each step, so
               that one policy can be asked at any
    """

    hidden: PositiveInt = 64
    malformed: Annotated[float, Field(gt=0, lt=1)] = 0.2
    alpha: Literal["fixed", "conditioned"] = "fixed"
