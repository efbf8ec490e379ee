"""Running means that persist between steps, as explicit state: taken, and returned."""

from __future__ import annotations

from typing import Any, NamedTuple

from array_api_compat import array_namespace

from recal_bench.calibration.moments import divide


class Running(NamedTuple):
    """Exponential moving averages of N quantities without start-up bias (Adam's correction, arXiv 1412.6980).

    `count_N` is how many observations each has seen in all.
    """

    total_N: Any
    weight_N: Any
    count_N: Any

    @classmethod
    def empty(cls, like_N: Any) -> Running:
        """A state that has seen nothing, with the size, type and device of an array."""
        zero_N = like_N * 0
        return cls(zero_N, zero_N, zero_N)

    @property
    def value_N(self) -> Any:
        """The averages; 0 for what was never observed."""
        return divide(self.total_N, self.weight_N)


def observe(running: Running, value_N: Any, count_N: Any, decay: float) -> Running:
    """`total = decay * total + (1 - decay) * value`, for the quantities with `count > 0` new observations of
    finite value only."""
    xp = array_namespace(value_N)
    # An overflow, once in an average, would stay in it for ever.
    seen_N = (count_N > 0) & xp.isfinite(value_N)
    return Running(
        xp.where(seen_N, decay * running.total_N + (1 - decay) * value_N, running.total_N),
        xp.where(seen_N, decay * running.weight_N + (1 - decay), running.weight_N),
        running.count_N + count_N,
    )
