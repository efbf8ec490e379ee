"""Costs of zero in an outcomes file: a price, or a sign that nothing is known? N rows with a usable key, A arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from recal_bench.outcomes.rows import Rows
from recal_bench.wording import counted, some_of

_LISTED = 10


def settled(rows: Rows, rule: str | None, priced: bool) -> tuple[Rows, list[str]]:
    """The rows with the zeros that say nothing made unknown, and what was found, one line each.

    `rule` is `Reading.zero_cost`; `priced`: a price book made the costs, and its zeros are prices.
    """
    cost_N, arm_N = rows.keys.of(rows.cost_N), rows.keys.arm.group_N
    n_arms = len(rows.keys.arm.first)
    zero_A = np.bincount(arm_N[cost_N == 0], minlength=n_arms)
    dear_A = np.bincount(arm_N[cost_N > 0], minlength=n_arms) > 0
    if not zero_A.any():
        return rows, []
    always_A, sometimes_A = (zero_A > 0) & ~dear_A, (zero_A > 0) & dear_A
    unknown_A = np.full(n_arms, True) if rule == "unknown" else sometimes_A & (rule is None and not priced)
    lost_N = (cost_N == 0) & unknown_A[arm_N]
    notes = []
    if always_A.any():
        of = f"{int(always_A.sum())} of {counted(n_arms, 'arm')}"
        beside = ", above 0 for others" if dear_A.any() else ""
        taken = (
            "these are unknown (--zero-cost unknown)"
            if rule == "unknown"
            else "these arms are taken as free (--zero-cost unknown if their cost is not known)"
        )
        notes.append(f"the cost is always 0 for {of}{beside}: {taken}: {_names(rows, always_A)}")
    if sometimes_A.any():
        n_rows, n_sometimes = int(zero_A[sometimes_A].sum()), int(sometimes_A.sum())
        of = f"{counted(n_rows, 'row')} of {counted(n_sometimes, 'arm')} with other costs"
        if rule == "unknown":
            taken = "these are unknown (--zero-cost unknown)"
        elif rule == "free":
            taken = "these are taken as free (--zero-cost free)"
        elif priced:
            taken = "these are prices of the price book"
        else:
            taken = "these are taken as unknown (--zero-cost free if nothing was paid)"
        notes.append(f"the cost is 0 in {of}: {taken}: {_names(rows, sometimes_A)}")
    if not lost_N.any():
        return rows, notes
    known_N = rows.cost_N.copy()
    known_N[rows.keys.place_N[lost_N]] = np.nan
    return replace(rows, cost_N=known_N), notes


def _names(rows: Rows, chosen_A: np.ndarray) -> str:
    first_A = rows.keys.arm.first[chosen_A]
    pairs: Sequence[tuple[str, str]] = list(
        zip(rows.keys.labels("model", first_A), rows.keys.labels("strategy", first_A), strict=True)
    )
    return some_of([f"{model}|{strategy}" for model, strategy in pairs], _LISTED)
