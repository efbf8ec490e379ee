"""A model of a pool file asked for advice by a router."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from recal_bench.collection.consulting import Consulted
from recal_bench.pools.strategies import Strategy
from recal_bench.routers import Reply

_ADVICE = Strategy("advice: a few words", "", 64)


class Adviser(Consulted):
    """Messages go out as they are, with the model's `sampling`; a reply is short."""

    purpose: ClassVar[str] = "advice"

    def __init__(self, pool_file: Path, model: str) -> None:
        super().__init__(pool_file, model)
        self._known: dict[str, Reply] = {}

    def parameters(self) -> tuple[dict[str, Any], int]:
        return self.model.parameters(_ADVICE), self.model.limit(_ADVICE)[1]

    def ask(self, messages: Sequence[str]) -> list[Reply]:
        """The reply to each message; no text, at no cost, where the endpoint does not take the content."""
        if unknown := [text for text in dict.fromkeys(messages) if text not in self._known]:
            answers = self.answers_to(unknown)
            for text in unknown:
                answer = answers.get(text)
                self._known[text] = Reply(answer.text, self.usd(answer, text)) if answer else Reply(None, 0.0)
        return [self._known[text] for text in messages]
