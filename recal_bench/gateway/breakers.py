"""Which models are asked no more for now: a model that has stopped answering rests, and is then tried again."""

from __future__ import annotations

import time
from collections import defaultdict

from recal_bench.collection.breakers import Breaker
from recal_bench.collection.failures import Failed

REST_S = 30.0


class Breakers:
    """One `Breaker` for each model. After REST_S a stopped model begins anew: a few failures stop it again."""

    def __init__(self) -> None:
        self._breakers: defaultdict[str, Breaker] = defaultdict(Breaker)
        self._since: dict[str, float] = {}

    def why_stopped(self, model: str) -> str | None:
        """Why a model is not asked now; None where it is."""
        reason = self._breakers[model].stopped.get(model)
        if reason is None:
            return None
        if time.monotonic() - self._since.setdefault(model, time.monotonic()) < REST_S:
            return reason
        del self._breakers[model], self._since[model]
        return None

    def stopped(self) -> list[str]:
        """The models that are not asked now."""
        return sorted(model for model in list(self._breakers) if self.why_stopped(model))

    def attempts(self, model: str, failure: Failed, most: int) -> int:
        return self._breakers[model].attempts(model, failure, most)

    def answered(self, model: str) -> None:
        self._breakers[model].answered(model)

    def gave_up(self, model: str, failure: Failed) -> None:
        breaker = self._breakers[model]
        breaker.gave_up(model, failure, at_the_start=model not in breaker.has_answered)
        if model in breaker.stopped:
            self._since.setdefault(model, time.monotonic())
