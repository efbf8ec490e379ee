"""What an endpoint sent back: JSON or a stream, text in its many forms, why it ended, and the errors within it.

A reply is kept as it came. These functions look at it, and never change a word of it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from recal_bench.collection.streams import is_stream, joined

DEEPEST = 64
"""Levels of a reply's JSON. Chat replies have about ten; Python itself gives up at some hundreds."""
_TOO_DEEP = f"the reply is nested more than {DEEPEST} levels deep"
REFUSAL, TOOL_CALLS, CONTENT_FILTER, MODERATED = "refusal", "tool_calls", "content_filter", "moderated"
"""How a reply can end without an answer, beside `length`. They are outcomes: this arm does not answer the question."""
_BROKEN_OFF = frozenset(
    ("error", "abort", "aborted", "cancelled", "failed", "insufficient_system_resource", "model_error", "network_error")
)
"""What endpoints call the end of a reply that they lost."""
_THOUGHTS = frozenset(("thinking", "reasoning", "reasoning_content", "redacted_thinking"))


def read_reply(content: bytes) -> dict[str, Any]:
    """The JSON object of a reply. A stream that nobody asked for is put together.

    Raises ValueError, whose message says in a few words what is wrong.
    """
    try:
        text = content.decode("utf-8-sig").strip().removeprefix("\ufeff")
        reply = joined(text) if is_stream(text) else json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except (ValueError, TypeError, AttributeError) as error:
        # Those of the parsers are of subclasses.
        raise ValueError(str(error) if type(error) is ValueError else "the reply is not JSON in UTF-8") from None
    if not isinstance(reply, dict):
        raise ValueError("the reply is not a JSON object")
    if _is_deeper(reply, DEEPEST):
        raise ValueError(_TOO_DEEP)
    return reply


def _is_deeper(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


def first_message(reply: Any) -> dict[str, Any] | None:
    """The message of the first choice; None where there is none."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    return message if isinstance(message, dict) else None


def has_known_content(reply: Any) -> bool:
    """Whether the message's content is in a form that `text_of` reads: text, parts of which one is text, or nothing."""
    content = (first_message(reply) or {}).get("content")
    if isinstance(content, list):
        return not content or any(_text_of_part(part) or _thought_of_part(part) for part in content) or content == [""]
    return content is None or isinstance(content, str) or bool(_text_of_part(content))


def text_of(reply: Any) -> str:
    """What the model said in its first choice: its text, the text parts of a list, or the words of its refusal."""
    message = first_message(reply) or {}
    content = message.get("content")
    text = "".join(map(_text_of_part, content if isinstance(content, list) else [content]))
    return text or _refusal(message)


def spoken_of(reply: Any) -> str:
    """All that completion tokens are counted for and that is shown: text, reasoning beside it, calls of tools."""
    message = first_message(reply) or {}
    stated = [message.get("reasoning_content"), message.get("reasoning")]
    # The same thoughts may stand in several places.
    thoughts = [each for each in stated if isinstance(each, str)]
    thoughts += ["".join(map(_text_of_detail, _listed(message.get("reasoning_details"))))]
    thoughts += ["".join(map(_thought_of_part, _listed(message.get("content"))))]
    reasoning = next(filter(None, thoughts), "")
    return "\n".join(filter(None, (reasoning, text_of(reply), *map(_text_of_call, _calls(message)))))


def ending_of(reply: Any) -> str | None:
    """Why the reply ended: `finish_reason`, but REFUSAL or TOOL_CALLS where that is all there is of it.

    None where it has no choices, as embeddings have none.
    """
    message, choice = first_message(reply) or {}, (reply.get("choices") or [{}])[0]
    reason = choice.get("finish_reason")
    reason = reason.lower() if isinstance(reason, str) else None
    if reason in (None, "stop") and _refusal(message) == text_of(reply) != "":
        return REFUSAL
    if reason in (None, "stop", "function_call") and _calls(message) and not text_of(reply):
        return TOOL_CALLS
    return reason


def error_of(reply: dict[str, Any]) -> Any:
    """What an endpoint says went wrong, in a reply of status 200 or in the body of any other; None where nothing did.

    It stands at the top or on the choice, or is all of the body; or the reply says that it was broken off.
    """
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    on_choice = choice.get("error") if isinstance(choice, dict) else None
    for each in (reply.get("error"), on_choice):
        if isinstance(each, str) and each.strip():
            return {"message": each}
        if isinstance(each, dict) and any(each.values()):
            return each
    base = reply.get("base_resp")  # MiniMax
    if isinstance(base, dict) and base.get("status_code"):
        return {"message": base.get("status_msg"), "code": base["status_code"]}
    if choice is None and any(isinstance(reply.get(name), str) for name in ("message", "detail", "msg")):
        return reply
    reason = choice.get("finish_reason") if isinstance(choice, dict) else None
    if isinstance(reason, str) and reason.lower() in _BROKEN_OFF:
        return {"message": f"the reply ended with finish_reason {reason}"}
    return None


def words_of(error: Any) -> str:
    """What an error object says, in one line: its message, and what a gateway passes on of its provider's."""
    if not isinstance(error, dict):
        return " ".join(str(error or "").split())
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    message = next((error[name] for name in ("message", "detail", "msg") if error.get(name)), "")
    return " ".join(": ".join(str(each) for each in (message, raw) if each).split())


def code_of(error: Any) -> str | int | None:
    """The code of an error object; a number where it is one."""
    code = error.get("code") or error.get("type") if isinstance(error, dict) else None
    if isinstance(code, str):
        return int(code) if re.fullmatch(r"[1-9]\d{2}", code) else code
    return code if isinstance(code, int) else None


def _text_of_part(part: Any) -> str:
    """The text of a part of a message; nothing where the part is a thought, a picture, or not known."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type") in _THOUGHTS:
        return ""
    text = part.get("refusal") if part.get("type") == "refusal" else part.get("text")
    text = text.get("value") if isinstance(text, dict) else text
    return text if isinstance(text, str) else ""


def _thought_of_part(part: Any) -> str:
    if not isinstance(part, dict) or part.get("type") not in _THOUGHTS:
        return ""
    inner = part.get("thinking") or part.get("reasoning") or part.get("text")
    return "".join(map(_text_of_part, inner if isinstance(inner, list) else [inner]))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text_of_detail(detail: Any) -> str:
    if not isinstance(detail, dict):
        return ""
    return next((detail[name] for name in ("text", "summary") if isinstance(detail.get(name), str)), "")


def _refusal(message: dict[str, Any]) -> str:
    refusal = message.get("refusal")
    return refusal if isinstance(refusal, str) else ""


def _calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The functions that a message calls."""
    calls = message.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return [each for each in (*functions, message.get("function_call")) if isinstance(each, dict)]


def _text_of_call(function: dict[str, Any]) -> str:
    arguments = function.get("arguments")
    arguments = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return f"{function.get('name')} {arguments}"
