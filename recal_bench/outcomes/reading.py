"""How the numbers of an outcomes file are to be taken, where its user must say so."""

from __future__ import annotations

import math
from dataclasses import dataclass

from recal_bench.errors import SettingsError, near_miss

WHOLE_RANGE = (0.0, 1.0)
ZERO_COSTS = ("free", "unknown")


@dataclass(frozen=True)
class Reading:
    """`score_range`: the ends of the file's scale of scores, which become 0 and 1.

    `zero_cost`: whether a cost of 0 is a price (`free`) or says that the cost is not known (`unknown`). Without an
    answer a 0 is unknown for an arm that also has other costs, and free for an arm that has none.

    `tokens`: the columns of token counts are read, where they are there.

    `features`: the columns `feature_*` are read, which the file must have.

    `split_by`: the column in whose order queries become train, validation and test, in the place of the column split.

    Raises SettingsError on values that cannot be.
    """

    score_range: tuple[float, float] = WHOLE_RANGE
    zero_cost: str | None = None
    tokens: bool = False
    split_by: str | None = None
    features: bool = False

    def __post_init__(self) -> None:
        low, high = self.score_range
        if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(high - low) and low < high):
            raise SettingsError(
                f"--score-range {low:g},{high:g}: give the lowest and the highest possible score, as in 1,5"
            )
        if self.zero_cost not in (None, *ZERO_COSTS):
            raise SettingsError(
                f"--zero-cost {self.zero_cost}{near_miss(str(self.zero_cost), ZERO_COSTS)}: it is free or unknown"
            )


AS_WRITTEN = Reading()
