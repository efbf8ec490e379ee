"""Attempts without a usable answer: what went wrong, whether it helps to ask again, and how far it reaches."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from recal_bench.collection.answer import Answer
from recal_bench.collection.replies import MODERATED, code_of, words_of
from recal_bench.wording import show

Reach = Literal["request", "arm", "model", "endpoint"]
LONGEST_WAIT_S = 600.0
SYSTEMATIC = ("wrong model", "no usage")
"""What shows how an endpoint works, not a bad moment."""
_WIDTH, _CODE_WIDTH = 300, 40
_REACH: dict[int, Reach] = {401: "endpoint", 402: "endpoint", 403: "model", 404: "model", 410: "model"}
_PLAINLY = {
    401: "the key is refused",
    402: "payment is required",
    403: "access is refused",
    404: "it is not found",
    410: "it is gone",
}
_FOR_LATER = (408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529)
_STATUS_OF_CODE = {
    "insufficient_quota": 402,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "model_decommissioned": 410,
    "model_not_available": 410,
    "context_length_exceeded": 400,
    "rate_limit_exceeded": 429,
}
"""What a code says, whatever the status that it comes with."""
_MODERATING = (400, 403, 422, 451)
_MODERATED_CODES = ("content_filter", "content_policy_violation", "data_inspection_failed", "invalid_prompt")
_HARM = re.compile(
    r"moderat|flagged|blocked|inappropriate|unsafe|safety|harmful|sensitive|prohibited|exists risk|filtered|usage polic"
)
_INPUT = re.compile(r"\b(input|prompt|message|question|query|content|text)s?\b")
_ACCOUNT = re.compile(r"\b(account|key|organi[sz]ation|billing|region|country|territory|ip|permission)s?\b")


class Failed(Exception):  # noqa: N818
    """An attempt without a usable answer. `reason` is one line, `kind` counts it in summaries.

    `transient`: asking again may help. `reach`: whether no other request to the arm, the model or the endpoint will
    fare better. `billed`: the endpoint may have charged for it. `moderated`: the endpoint objects to what the prompt
    says.
    """

    def __init__(
        self,
        kind: str,
        reason: str,
        *,
        transient: bool = False,
        reach: Reach = "request",
        billed: bool = False,
        wait_s: float = 0.0,
        moderated: bool = False,
    ) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason
        self.transient, self.reach, self.billed, self.wait_s = transient, reach, billed, wait_s
        self.moderated = moderated


class WithoutUsageError(Failed):
    """A reply that says nothing of its tokens. `answer` is kept all the same: it can be priced by an estimate."""

    def __init__(self, answer: Answer, reason: str) -> None:
        super().__init__("no usage", reason, transient=True, billed=True)
        self.answer = answer


class StoppedError(Failed):
    """The collection is ending, and the attempt was not begun."""

    def __init__(self) -> None:
        super().__init__("stopped", "the collection was stopped", transient=True)


def refused(where: str, error: Any, status: int, *, hints: dict[int, str], retry_after: str | None = None) -> Failed:
    """The failure that an error object stands for. `status` is 200 where it came within a reply.

    `where` names the endpoint, `hints` say what to do about a status.
    """
    code, within = code_of(error), status < 400
    named = show(str(code), _CODE_WIDTH) if code else "error"
    said = show(words_of(error), _WIDTH) or "no reason given"
    of_code = _STATUS_OF_CODE.get(code, 0) if isinstance(code, str) else code or 0
    # Of an error within a reply only the code tells; without one it is taken for a lost upstream.
    means = of_code if within or (isinstance(code, str) and of_code) else status
    means = means if 400 <= means < 600 else 502
    kind = f"{named} within 200" if within else f"{status}"
    shown = f"{named} within a reply of status 200" if within else f"{status}"
    if (within or means in _MODERATING) and _is_moderation(code, said):
        return Failed(MODERATED, f"{where} objects to the prompt ({shown}: {said})", moderated=True)
    if means in _REACH:
        plainly = "the quota is used up" if code == "insufficient_quota" else _PLAINLY[means]
        return Failed(kind, f"{where}: {plainly} ({shown}: {said}){hints.get(means, '')}", reach=_REACH[means])
    if means in _FOR_LATER:
        wait_s = _seconds(retry_after)
        if wait_s > LONGEST_WAIT_S:
            return Failed(kind, f"{where} asks to wait {wait_s:,.0f} s: try again then", reach="endpoint")
        return Failed(kind, f"{where}: {shown}: {said}", transient=True, wait_s=wait_s)
    return Failed(kind, f"{where} refuses the request ({shown}: {said})")


def _is_moderation(code: str | int | None, said: str) -> bool:
    """Whether an error speaks of what the prompt says, and not of who sent it."""
    if code in _MODERATED_CODES:
        return True
    said = said.lower()
    return bool(_HARM.search(said) and _INPUT.search(said) and not _ACCOUNT.search(said))


def _seconds(retry_after: str | None) -> float:
    """Seconds of a Retry-After header: a number or a date."""
    if not retry_after:
        return 0.0
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
