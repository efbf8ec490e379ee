"""Is an outcomes file a log of single choices: what a deployed router leaves, one arm's outcome a query?"""

from __future__ import annotations

from recal_bench.arrays import IntQ
from recal_bench.wording import counted

LOG_SHARE = 0.9
LOG_SHARE_BESIDE_PROPENSITIES = 0.5


def is_log(arms_Q: IntQ, n_arms: int, drawn: bool) -> bool:
    """`arms_Q` counts the arms that each query shows, of `n_arms` in all; `drawn`: there are propensities."""
    return drawn and n_arms > 1 and bool((arms_Q == 1).all())


def problems(arms_Q: IntQ, n_arms: int, drawn: bool) -> list[str]:
    """Why a file that is not a log cannot be used: most of its queries show one arm."""
    single = float((arms_Q == 1).mean())
    if n_arms == 1 or single < (LOG_SHARE_BESIDE_PROPENSITIES if drawn else LOG_SHARE):
        return []
    seen = f"{single:.0%} of {len(arms_Q):,} queries show 1 of {n_arms} arms"
    if drawn:
        return [
            f"the file is nearly a log of single choices ({seen}, and a column propensity), but "
            f"{counted(int((arms_Q > 1).sum()), 'query')} show several arms: keep the row of the arm that was chosen, "
            "or leave the column propensity out and give most queries several arms"
        ]
    return [
        f"the file is a log of single choices ({seen}), which replay cannot evaluate: the outcome of the arm that a "
        "router would pick is mostly unknown. Add a column propensity, the probability with which each row's arm was "
        "chosen, for off-policy estimates; or collect the outcomes of the other arms, on a sample of these queries"
    ]
