"""Do choices follow outcomes more closely than a router could, which reads the text alone?"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

FOLLOWS_P = 1e-3
"""Below it, choices count as following the outcomes of test."""


class LeakAudit(BaseModel):
    """How closely decisions from elsewhere follow the outcomes of test (see `toolbox.leaks`), of all their seeds.

    `gain` is the utility that the choices hold beyond what the text tells us, with its 95% interval, `p`
    one-sided test that it is nothing. `over_task` is what they gain over each task's best arm of test in hindsight, with
    its interval, `ceiling` the upper end of what the best router could; null where it was not looked for or is unknown.
    """

    model_config = ConfigDict(frozen=True)

    gain: float
    gain_ci: tuple[float, float]
    p: float
    queries: int
    over_task: float | None = None
    over_task_ci: tuple[float, float] | None = None
    ceiling: float | None = None

    @property
    def follows(self) -> bool:
        """Whether the choices hold more about the outcomes than the text tells us."""
        return self.p < FOLLOWS_P

    @property
    def beyond_ceiling(self) -> bool:
        """Whether they gain more than the best router that reads the text could."""
        known = self.over_task_ci is not None and self.ceiling is not None
        return known and self.over_task_ci[0] > self.ceiling  # type: ignore[index, operator]
