"""Settings of the encoder policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt


@dataclass
class Prior:
    """Where the policy starts: logits of `scale` times each arm's expected utility.

    kind   `hierarchy`: arms in the inferred task, and what the text moves (toolbox/hierarchy.py); `knn`: each arm's
           mean over the `k` nearest train queries; `none`: nowhere
    tasks  whether the hierarchy has a level for the inferred task
    """

    kind: Literal["hierarchy", "knn", "none"] = "hierarchy"
    k: PositiveInt = 500
    scale: PositiveFloat = 30.0
    tasks: bool = True


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
