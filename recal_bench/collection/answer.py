"""One answer of a model, as the journal keeps it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """One reply as the endpoint gave it. `body` is its JSON text; tokens are as reported, None where they are not.

    `usage` is `reported`, or says what is wrong with it (see `usage.py`).
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

    @property
    def reply(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """What the model said. No text is an empty answer."""
        return text_of(self.reply)


def text_of(reply: Any) -> str:
    """The text of a reply's first choice."""
    content = reply["choices"][0]["message"].get("content")
    return content if isinstance(content, str) else ""


def spoken_of(reply: Any) -> str:
    """The text with the reasoning that some endpoints show beside it: what completion tokens are counted for."""
    message = reply["choices"][0]["message"]
    shown = (message.get("reasoning_content"), message.get("reasoning"))
    reasoning = next((each for each in shown if isinstance(each, str)), "")
    return f"{reasoning}\n{text_of(reply)}" if reasoning else text_of(reply)
