"""A prompt that an endpoint objects to, kept as an answer: this arm has none to give."""

from __future__ import annotations

import json
from datetime import datetime, timezone

from recal_bench.collection.answer import Answer
from recal_bench.collection.replies import MODERATED
from recal_bench.collection.requests import Request


def moderated_answer(request: Request, reason: str) -> Answer:
    """An empty answer that ended with MODERATED. The endpoint reports nothing; some charge for the prompt."""
    choice = {"message": {"role": "assistant", "content": ""}, "finish_reason": MODERATED}
    body = json.dumps({"choices": [choice], "error": {"message": reason}}, ensure_ascii=False)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Answer(
        request.key, request.model, request.strategy, body, None, None, None, None, MODERATED, len(request.message), 0,
        MODERATED, None, now,
    )  # fmt: skip
