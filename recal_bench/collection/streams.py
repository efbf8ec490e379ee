"""A stream of server-sent events where none was asked for, put together to the reply that it stands for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_LINE_END = re.compile(r"\r\n|\n|\r")


def is_stream(text: str) -> bool:
    return text.startswith(("data:", "event:", "id:", "retry:", ":"))


def joined(text: str) -> dict[str, Any]:
    """The reply that a stream's events add up to. Raises ValueError where one is not JSON or the end is missing."""
    reply: dict[str, Any] = {}
    message: dict[str, Any] = {}
    choice: dict[str, Any] = {}
    done = False
    for event in _events(text):
        if event == "[DONE]":
            done = True
            break
        chunk = json.loads(event)
        if not isinstance(chunk, dict):
            raise ValueError("an event of the stream is not a JSON object")
        usage = chunk.get("usage")
        for one in chunk.get("choices") or ():
            if not isinstance(one, dict) or one.get("index") not in (0, None):
                continue
            delta = one.get("delta")
            # Some repeat the whole message at the end.
            _add(message, delta if isinstance(delta, dict) else {} if message else one.get("message") or {})
            choice |= {name: each for name, each in one.items() if name not in ("delta", "message") and each}
            usage = usage or one.get("usage")
        if usage:
            reply["usage"] = usage
        for name, value in chunk.items():
            if name not in ("choices", "usage") and value is not None:
                reply.setdefault(name, value)
    if not done and not choice.get("finish_reason") and not reply.get("error"):
        raise ValueError("the reply is a stream that broke off")
    return reply | {"choices": [choice | {"message": message}] if choice or message else []}


def _events(text: str) -> Iterator[str]:
    lines: list[str] = []
    for line in (*_LINE_END.split(text), ""):
        if line.startswith("data:"):
            lines.append(line[5:].removeprefix(" "))
        elif not line and lines:
            yield "\n".join(lines)
            lines = []


def _add(message: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add what a chunk brings to a message: texts and lists grow, calls of tools by their index."""
    for name, value in delta.items():
        so_far = message.get(name)
        if name == "tool_calls" and isinstance(value, list):
            message[name] = _with_calls(so_far or [], value)
        elif so_far is None or name == "role":
            message[name] = value
        elif isinstance(value, str) and isinstance(so_far, str):
            message[name] = so_far + value
        elif isinstance(value, list) and isinstance(so_far, list):
            message[name] = [*so_far, *value]
        elif value is not None:
            raise ValueError("the reply is a stream of mixed forms")


def _with_calls(calls: list[Any], more: list[Any]) -> list[Any]:
    for call in more:
        before = next((each for each in calls if "index" in each and each["index"] == call.get("index")), None)
        if before is None:
            calls = [*calls, call]
        else:
            _add(before.setdefault("function", {}), call.get("function") or {})
    return calls
