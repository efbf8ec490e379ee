"""Settings of the training loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt


@dataclass
class Optimisation:
    """The fields of every router that the loop trains.

    `group_size` actions are drawn for each of `batch_size` queries a step; `epochs` gradient steps reuse them, and with
    more than one `clip` (downwards) and `clip_high` (upwards) bound how far the policy may go from the one that drew
    them. `entropy` and `kl` (to the untrained policy) weigh the bonus and the penalty. The learning rate falls linearly
    to 0. With `balance` every task of train gives as many queries to a batch as any other, on average.
    """

    steps: PositiveInt = 400
    batch_size: PositiveInt = 256
    group_size: PositiveInt = 16
    epochs: PositiveInt = 1
    learning_rate: Annotated[float, Field(gt=0, le=1000)] = 7e-4
    clip: PositiveFloat = 0.2
    clip_high: PositiveFloat = 0.2
    entropy: NonNegativeFloat = 0.0
    kl: NonNegativeFloat = 0.0
    balance: bool = True
