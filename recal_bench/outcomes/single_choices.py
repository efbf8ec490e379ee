"""Is an outcomes file a log of single choices: what a deployed router leaves, one arm's outcome a query?

Beside such queries a log may hold some of which several arms were asked, whatever the router chose: a mixed log. Their
outcomes were not drawn, and their propensity is 1 or left out.
"""

from __future__ import annotations

from typing import NamedTuple

from recal_bench.arrays import BoolQ, IntQ
from recal_bench.wording import counted

LOG_SHARE = 0.9
LOG_SHARE_BESIDE_PROPENSITIES = 0.5


class Choices(NamedTuple):
    """What the rows of a file tell of how arms were chosen.

    `arms_Q` counts the arms that each query shows, of `n_arms` in all. `given`: there are propensities. `drawn_Q`: the
    query has one below 1.
    """

    arms_Q: IntQ
    n_arms: int
    given: bool
    drawn_Q: BoolQ

    @property
    def is_log(self) -> bool:
        single_Q = self.arms_Q == 1
        if not self.given or self.n_arms == 1 or not single_Q.any():
            return False
        return bool(single_Q.all() or (self.drawn_Q[single_Q].any() and not self.drawn_Q[~single_Q].any()))

    def problems(self) -> list[str]:
        """Why a file that is not a log cannot be used: most of its queries show one arm."""
        arms_Q, n_arms = self.arms_Q, self.n_arms
        single = float((arms_Q == 1).mean())
        if n_arms == 1 or single < (LOG_SHARE_BESIDE_PROPENSITIES if self.given else LOG_SHARE):
            return []
        seen = f"{single:.0%} of {len(arms_Q):,} queries show 1 of {n_arms} arms"
        if self.given:
            drawn = counted(int(((arms_Q > 1) & self.drawn_Q).sum()), "query")
            return [
                f"the file is nearly a log of single choices ({seen}, and a column propensity), but {drawn} show "
                "several arms with a propensity below 1: keep the row of the arm that was chosen, or leave the "
                "propensity empty where all these arms were asked"
            ]
        return [
            f"the file is a log of single choices ({seen}), which replay cannot evaluate: the outcome of the arm that "
            "a router would pick is mostly unknown. Add a column propensity, the probability with which each row's arm "
            "was chosen, for off-policy estimates; or collect the outcomes of the other arms, on a sample of these "
            "queries"
        ]
