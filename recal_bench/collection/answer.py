"""One answer of a model, as the journal keeps it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from recal_bench.collection.replies import text_of


class Answer(NamedTuple):
    """One reply as the endpoint gave it. `body` is its JSON text; tokens are as reported, None where they are not.

    `usage` is one of `usage.USAGES`, `finish_reason` is `replies.ending_of`, and `billed_usd` what the endpoint says
    that it charged.
    """

    key: bytes
    model: str
    strategy: str
    body: str
    prompt_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
    cached_tokens: int | None
    usage: str
    prompt_chars: int
    response_chars: int
    finish_reason: str | None
    latency_s: float | None
    asked_at: str | None
    written_tokens: int | None = None
    billed_usd: float | None = None

    @property
    def reply(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """What the model said. No text is an empty answer."""
        return text_of(self.reply)
