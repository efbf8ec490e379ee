"""Which routers cannot be told from the best on one split, and between which ranks each lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.evaluation.ties import Pairs, crossed_pairs, paired_means, ties
from recal_bench.reporting.figures.differences import ACCURACY, EXPECTED, METRICS, UTILITY
from recal_bench.reporting.figures.entries import Entry, Group

BEST = "best"
NOTE = (
    "rank is the range of ranks that a router may have, at 95%; = marks the routers that cannot be told from the best: "
    "the truly best router of the table is one of them with 95% probability"
)


class Ranked(NamedTuple):
    """`tie_group`: `BEST`, or None for who can be told from the best. Both None for what has no rank (references)."""

    tie_group: str | None = None
    rank: tuple[int, int] | None = None


def ranked(group: Group, metric_R: Sequence[str], rows_Q: NDArray[np.bool_], task_Q: NDArray[Any]) -> list[Ranked]:
    """Every entry's place on one split, where `metric_R` names what each is ranked by."""
    realised = ACCURACY if group.data.unknown_costs else UTILITY

    def values(entry: Entry, metric: str) -> NDArray[np.float64]:
        value_SQ: NDArray[np.float64] = getattr(entry, METRICS[metric])[:, rows_Q]
        return value_SQ

    routers, both = [], []
    for index, (entry, metric) in enumerate(zip(group.entries, metric_R, strict=True)):
        realised_SQ = values(entry, realised)
        if not entry.record.reference and not np.isnan(realised_SQ).any():
            routers.append(index)
            both.append((realised_SQ, values(entry, metric) if metric == EXPECTED else None))
    if not routers:
        return [Ranked()] * len(group.entries)
    pairs = crossed_pairs(both, [group.entries[index].seeds for index in routers], task_Q)
    return _placed(pairs, routers, len(group.entries))


def ranked_over_worlds(value_WR: NDArray[np.float64], reference_R: Sequence[bool]) -> list[Ranked]:
    """The same of what every row has in each world; NaN where it is unknown."""
    known_R = ~np.isnan(value_WR).any(axis=0) & ~np.asarray(reference_R, dtype=bool)
    routers = np.flatnonzero(known_R).tolist()
    if not routers:
        return [Ranked()] * len(known_R)
    return _placed(paired_means(value_WR[:, known_R]), routers, len(known_R))


def _placed(pairs: Pairs, routers: Sequence[int], count: int) -> list[Ranked]:
    found, places = ties(pairs), [Ranked()] * count
    for router, best, (low, high) in zip(routers, found.best_R.tolist(), found.rank_R2.tolist(), strict=True):
        places[router] = Ranked(BEST if best else None, (low, high))
    return places
