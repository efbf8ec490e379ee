"""Faults on demand for the simulated pool's server: which request gets which, and what it does to a reply.

A fault is a function of the seed, the request's body and the attempt's number, so a run repeats in any order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from recal_bench.errors import SettingsError, near_miss
from recal_bench.simulation.models import MODELS
from recal_bench.simulation.streams import key_of

KINDS = {
    "429": "too many requests, with Retry-After",
    "500": "an internal error",
    "503": "overloaded",
    "hang": "no answer, until the client gives up",
    "cut": "the connection closes in the middle of the reply",
    "malformed": "status 200 and broken JSON",
    "truncated-utf8": "status 200 and a content that is not valid UTF-8",
    "empty-choices": "status 200 and no choice",
    "wrong-model": "the right reply under another model's name",
    "no-usage": "the right reply without usage",
    "zero-usage": "the right reply with all token counts 0",
    "constant-usage": "the right reply with 7 prompt and 7 completion tokens, whatever it holds",
    "text-usage": "the right reply, its counts written as texts",
    "hidden-tokens": "the right reply with a total of 100 tokens more than its parts",
    "parts": "the right reply as a list of parts, a thought and a text",
    "stream": "the right reply as a stream, where none was asked for",
    "bom": "the right reply behind a byte order mark",
    "error-200": "status 200 and an error object: a rate limit that a gateway passes on",
    "choice-error": "half of the reply, and an error on the choice: a gateway lost its upstream",
    "refusal": "a refusal instead of the text",
    "content-filter": "no text, ended by a content filter",
    "tool-call": "a call of a tool instead of the text",
    "moderated": "status 403 that speaks of the prompt",
}
"""Every fault, with what the client sees."""
ERRORS = {
    "429": (429, "rate_limit_exceeded", "too many requests (a simulated fault)", "requests"),
    "500": (500, "internal_error", "internal error (a simulated fault)", "server_error"),
    "503": (503, "overloaded", "overloaded (a simulated fault)", "server_error"),
    "moderated": (
        403,
        "forbidden",
        "your input was flagged by moderation (a simulated fault)",
        "invalid_request_error",
    ),
}
"""Those that are an error object: its status, code, message and type."""
_CONSTANT, _HIDDEN = 7, 100
_RATE_LIMITED = {"code": 429, "message": "Provider returned error", "metadata": {"raw": "rate-limited upstream"}}
_LOST = {"code": 502, "message": "upstream provider lost"}
_ENDINGS = {"choice-error": "error", "content-filter": "content_filter", "tool-call": "tool_calls"}
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Faults:
    """How often which fault comes, as a share of requests; `max_in_a_row` for the same body, then the truth."""

    shares: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    max_in_a_row: int = 2
    retry_after_s: float = 1.0

    def drawn(self, body: str, attempt: int) -> str | None:
        """The fault of one attempt at a body (its digest), or None."""
        left = key_of("fault", self.seed, body, attempt) / 2.0**64
        for kind, share in self.shares.items():
            left -= share
            if left < 0:
                return kind
        return None


def parse_faults(spec: str) -> Faults:
    """From `429=0.1,cut=0.02,all=0.1,seed=3,max-in-a-row=2,retry-after=0.05`; `all` is spread over every kind.

    Raises SettingsError on an unknown word or a value out of range.
    """
    shares = dict.fromkeys(KINDS, 0.0)
    others: dict[str, float] = {"seed": 0, "max-in-a-row": 2, "retry-after": 1.0}
    seen: set[str] = set()
    for item in filter(None, (part.strip() for part in spec.split(","))):
        name, equals, value = (part.strip() for part in item.partition("="))
        known = [*KINDS, "all", *others]
        if name not in known:
            raise SettingsError(
                f"--faults: there is no {name!r}{near_miss(name, known)}: the kinds are {', '.join(KINDS)} and all; "
                "seed, max-in-a-row and retry-after may be given too"
            )
        if not equals or name in seen:
            raise SettingsError(f"--faults: {item!r} must be {name}=VALUE, once")
        seen.add(name)
        if name in others:
            others[name] = _number(item, value, whole=name != "retry-after", least=int(name == "max-in-a-row"))
        else:
            share = _number(item, value, most=1)
            for kind in KINDS if name == "all" else [name]:
                shares[kind] += share / len(KINDS) if name == "all" else share
    if sum(shares.values()) > 1 + _TOLERANCE:
        raise SettingsError(f"--faults: the shares add up to {sum(shares.values()):g}, which is more than 1")
    present = {kind: share for kind, share in shares.items() if share > 0}
    return Faults(present, int(others["seed"]), int(others["max-in-a-row"]), others["retry-after"])


def _number(item: str, value: str, *, whole: bool = False, least: float = 0, most: float = math.inf) -> float:
    try:
        number = int(value) if whole else float(value)
    except ValueError:
        number = math.nan
    if not (least <= number <= most and math.isfinite(number)):
        kind = "whole number" if whole else "number"
        bounds = f"from {least:g} to {most:g}" if math.isfinite(most) else f"of at least {least:g}"
        raise SettingsError(f"--faults: {item!r} takes a {kind} {bounds}")
    return number


class Attempts:
    """Counts how often each body was asked, and says what the next attempt gets."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._asked: dict[str, int] = {}
        self._faults_in_a_row: dict[str, int] = {}

    def next(self, body: str) -> tuple[int, str | None]:
        """The number of this attempt at a body (from 1), and its fault or None."""
        attempt = self._asked[body] = self._asked.get(body, 0) + 1
        in_a_row = self._faults_in_a_row.pop(body, 0)
        fault = None if in_a_row >= self._faults.max_in_a_row else self._faults.drawn(body, attempt)
        if fault is not None:
            self._faults_in_a_row[body] = in_a_row + 1
        return attempt, fault


def distorted(payload: dict[str, Any], fault: str | None) -> dict[str, Any]:
    """A completion, or a chunk of one, as the fault makes it look."""
    if fault == "error-200":
        return {"error": _RATE_LIMITED}
    if fault == "empty-choices":
        return payload | {"choices": []}
    if fault == "wrong-model":
        names = list(MODELS)
        return payload | {"model": names[(names.index(payload["model"]) + 1) % len(names)]}
    if fault == "no-usage":
        return {name: value for name, value in payload.items() if name != "usage"}
    if payload.get("usage"):
        payload = payload | {"usage": _used(payload["usage"], fault)}
    return payload | {"choices": [_chosen(choice, fault) for choice in payload["choices"]]}


def _used(usage: dict[str, int], fault: str | None) -> dict[str, Any]:
    if fault in ("zero-usage", "constant-usage"):
        count = _CONSTANT if fault == "constant-usage" else 0
        return {"prompt_tokens": count, "completion_tokens": count, "total_tokens": 2 * count}
    if fault == "hidden-tokens":
        return usage | {"total_tokens": usage["total_tokens"] + _HIDDEN}
    if fault == "content-filter":
        return usage | {"completion_tokens": 0, "total_tokens": usage["prompt_tokens"]}
    return {name: str(count) for name, count in usage.items()} if fault == "text-usage" else usage


def _chosen(choice: dict[str, Any], fault: str | None) -> dict[str, Any]:
    form = "message" if "message" in choice else "delta"
    if choice["finish_reason"] and fault in _ENDINGS:
        choice = choice | {"finish_reason": _ENDINGS[fault]} | ({"error": _LOST} if fault == "choice-error" else {})
    text = choice[form].get("content")
    return choice | {form: choice[form] | _content(text, fault, form)} if text else choice


def _content(text: str, fault: str | None, form: str) -> dict[str, Any]:
    """The fields of a message that hold its text, as the fault makes them look."""
    if fault == "parts":
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
        return {"content": [*([thought] if form == "message" else []), {"type": "text", "text": text}]}
    if fault == "choice-error" and form == "message":
        return {"content": text[: len(text) // 2]}
    if fault == "refusal":
        return {"content": None, "refusal": text}
    if fault == "content-filter":
        return {"content": None}
    if fault == "tool-call":
        call = {"index": 0, "type": "function", "function": {"name": "search", "arguments": text}}
        return {"content": None, "tool_calls": [call]}
    return {"content": text}


def garbled(data: bytes, fault: str | None) -> bytes:
    """The bytes of a completion, or of a chunk of one, as the fault makes them look."""
    if fault == "malformed":
        return data[: len(data) // 2]
    if fault == "truncated-utf8":  # the first two of the three bytes of a euro sign
        return data.replace(b'"content":"', b'"content":"\xe2\x82', 1)
    if fault == "bom":
        return b"\xef\xbb\xbf" + data
    return data
