"""Which arm answers: the router's first choice or, in a share of requests, any arm; and with which probability."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import NamedTuple

from recal_bench.outcomes import Arm


class Choice(NamedTuple):
    """The arms in the order in which they are tried, the chosen one first, and the probability of that one."""

    arms: tuple[Arm, ...]
    propensity: float
    explored: bool


def choose(ranking: Sequence[Arm], allowed: Collection[Arm], epsilon: float, random: Random) -> Choice:
    """With probability `epsilon` an arm drawn evenly from the allowed ones, else the first of the ranking.

    The propensity of the favourite is 1 - e + e / A, that of any other arm e / A, whichever way it was chosen.
    """
    ranked = [arm for arm in ranking if arm in allowed]
    explored = random.random() < epsilon
    arm = random.choice(ranked) if explored else ranked[0]
    propensity = epsilon / len(ranked) + (1.0 - epsilon) * (arm == ranked[0])
    return Choice((arm, *(each for each in ranked if each != arm)), propensity, explored)
