"""Which models still answer. One that has stopped is asked no more, and the others go on without it."""

from __future__ import annotations

from collections import Counter

from recal_bench.collection.failures import SYSTEMATIC, Failed

ATTEMPTS = 8
_ATTEMPTS_AT_FIRST, _CONNECTIONS_AT_FIRST = 4, 3
"""Before a model has answered at all, it is more likely a wrong name or address than a bad moment."""
_FRUITLESS, _FRUITLESS_OF_THE_FIRST = 6, 3
"""So many requests of a model in a row that are given up show that it has stopped, or never began."""
_REFUSED = 30
"""So many refusals by a model that has never answered end it too: it is not the single question that is wrong."""


class Breaker:
    """Follows what each model does. `stopped` are those that are asked no more, with the reason."""

    def __init__(self) -> None:
        self.stopped: dict[str, str] = {}
        self.has_answered: set[str] = set()
        self._in_a_row: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def answered(self, model: str) -> None:
        self.has_answered.add(model)
        self._in_a_row[model] = 0

    def attempts(self, model: str, failure: Failed, most: int) -> int:
        """How often a request that has failed may be tried in all: fewer times where the model may be dead."""
        if model in self.stopped:
            return 1
        if model in self.has_answered and not self._in_a_row[model]:
            return most
        return min(most, _CONNECTIONS_AT_FIRST if failure.kind == "connection" else _ATTEMPTS_AT_FIRST)

    def gave_up(self, model: str, failure: Failed, at_the_start: bool) -> None:
        """Take in a request that was given up; it may end the model.

        `at_the_start`: its endpoint has not answered anything yet.
        """
        new = model not in self.has_answered
        if failure.reach == "request" and not failure.transient:
            self._refused[model] += 1
            if new and self._refused[model] >= _REFUSED:
                self.stop(model, failure.reason)
            return
        self._in_a_row[model] += 1
        # An endpoint can mean a single prompt by 403.
        unknown = new and failure.reach == "model" and "403" not in failure.kind
        # Each timeout takes minutes, and one request at a time is under way.
        certain = failure.kind in SYSTEMATIC or unknown or (at_the_start and failure.kind == "timeout")
        if certain or self._in_a_row[model] >= (_FRUITLESS_OF_THE_FIRST if new else _FRUITLESS):
            self.stop(model, failure.reason)

    def stop(self, model: str, reason: str) -> None:
        self.stopped.setdefault(model, reason)
