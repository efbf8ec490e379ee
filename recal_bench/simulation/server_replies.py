"""What the simulated pool's server reads and says: from the bytes of a request to the bytes of a reply."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, NamedTuple

from recal_bench.errors import near_miss
from recal_bench.outcomes import Arm
from recal_bench.pools.strategies import STRATEGIES
from recal_bench.simulation.advice import advise, asked_about
from recal_bench.simulation.embedded import embedded_questions
from recal_bench.simulation.models import EFFORT_MODEL, EFFORTS, EVERY_ARM, MODELS
from recal_bench.simulation.pool import SimulatedPool
from recal_bench.simulation.server_faults import distorted, garbled

_STRATEGY_OF = {strategy.instruction: name for name, strategy in STRATEGIES.items()}
_ARM_INDEX = {arm: index for index, arm in enumerate(EVERY_ARM)}
"""Those of the world without efforts come first."""
_EFFORT_OF = {strategy.sampling["reasoning_effort"]: name for name, strategy in EFFORTS.items()}
_UNSUPPORTED = ("tools", "functions", "response_format", "logprobs", "stop")
_LIMITS = ("max_tokens", "max_completion_tokens")
_WORDS_PER_CHUNK = 8


class Refused(Exception):  # noqa: N818
    """A request that gets an error object: its status, code and type are those of OpenAI's API."""

    def __init__(self, status: int, code: str, message: str, type_: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status = status
        self.body = as_json({"error": {"message": message, "type": type_, "param": None, "code": code}})


class Order(NamedTuple):
    """A request that can be answered: row of the question, index of the arm, and what of the reply is wanted.

    `advice`: the whole message, where it asks for advice on the question. It is the arm's model that gives it.
    """

    row: int
    arm: int
    limit: int | None
    stream: bool
    include_usage: bool
    advice: str | None = None

    @property
    def model(self) -> str:
        return EVERY_ARM[self.arm].model


class Said(NamedTuple):
    """A reply, cut at the order's limit. Tokens are words, or reasoning, which comes first and is not shown."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0

    @property
    def usage(self) -> dict[str, Any]:
        prompt, completion = self.prompt_tokens, self.completion_tokens
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        if not self.reasoning_tokens:
            return usage
        return {**usage, "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens}}


class ServedReplies:
    """All replies of a world. Drawn once; a text is written when it is asked for."""

    def __init__(self, world_seed: int, world_arms: str = "standard") -> None:
        self._world_seed, self._world_arms = world_seed, world_arms
        self._questions = embedded_questions(world_seed)
        self._row_of = {question.prompt: row for row, question in enumerate(self._questions)}
        self._drawn = SimulatedPool(world_seed, world_arms).answer_all(self._questions)

    def order(self, body: bytes) -> Order:
        """What a request asks for. Raises Refused where it is not a request that the simulated models answer."""
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            raise _bad("the request's body is not JSON") from None
        if not isinstance(asked, dict):
            raise _bad("the request's body must be a JSON object")
        model = asked.get("model")
        if not isinstance(model, str):
            raise _bad("`model` must be a text")
        if model not in MODELS:
            known = f"{near_miss(model, MODELS)}: there are {', '.join(MODELS)}"
            raise Refused(404, "model_not_found", f"there is no model {model[:80]!r}{known}")
        _check_rest(asked)
        content = _content(asked.get("messages"))
        instruction, _, prompt = content.partition("\n\n")
        strategy, advice = _STRATEGY_OF.get(instruction), None
        if strategy is None and (about := asked_about(content)) is not None:
            strategy, advice, prompt = "direct", content, about
        row = self._row_of.get(prompt)
        if strategy is None or row is None:
            what = "instruction" if strategy is None else "question"
            raise _bad(
                f"this {what} is not known: the simulated models answer the questions of the embedded pool only, under "
                f"its four strategies ({', '.join(STRATEGIES)}); a message is the strategy's instruction, a blank line "
                "and the question, or asks for advice on one",
                f"unknown_{what}",
            )
        if self._world_arms != "standard" and asked.get("reasoning_effort") is not None:
            strategy = _effort(model, strategy, asked["reasoning_effort"])
        limits = [asked[name] for name in _LIMITS if asked.get(name) is not None]
        include_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        stream = bool(asked.get("stream"))
        return Order(row, _ARM_INDEX[Arm(model, strategy)], min(limits, default=None), stream, include_usage, advice)

    def reply(self, order: Order) -> Said:
        row, arm, limit, thoughts = order.row, order.arm, order.limit, 0
        if order.advice is not None:
            text, prompt_tokens, tokens, _ = advise(self._world_seed, order.model, order.advice)
        else:
            text = self._drawn.text(self._questions[row], row, arm)
            tokens = int(self._drawn.completion_tokens_QA[row, arm])
            prompt_tokens = int(self._drawn.prompt_tokens_QA[row, arm])
            thoughts = int(self._drawn.reasoning_tokens_QA[row, arm])
        if limit is not None and limit < tokens:
            shown = "".join(_words(text)[: max(0, limit - thoughts)])
            return Said(shown, "length", prompt_tokens, limit, min(thoughts, limit))
        return Said(text, "stop", prompt_tokens, tokens, thoughts)


replies_of = lru_cache(maxsize=2)(ServedReplies)
"""The replies of a world, kept for the next server of it."""


def written(order: Order, said: Said, digest: str, fault: str | None) -> list[bytes]:
    """A reply as it is sent: one body, or the events of a stream. `digest` names the request."""
    head = {"id": f"chatcmpl-{digest[:24]}", "object": "chat.completion", "created": 0, "model": order.model}
    if not order.stream and fault != "stream":
        message = {"role": "assistant", "content": said.text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": said.finish_reason}
        payload = head | {"choices": [choice], "usage": said.usage}
        return [garbled(as_json(distorted(payload, fault)), fault)]
    head["object"] = "chat.completion.chunk"
    words = _words(said.text)
    pieces = ["".join(words[at : at + _WORDS_PER_CHUNK]) for at in range(0, len(words), _WORDS_PER_CHUNK)]
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": piece}, None) for piece in pieces]
    deltas.append(({}, said.finish_reason))
    include_usage = order.include_usage or not order.stream
    rest: dict[str, Any] = {"usage": None} if include_usage else {}
    chunks = [head | {"choices": [{"index": 0, "delta": each, "finish_reason": end}]} | rest for each, end in deltas]
    if include_usage and fault != "no-usage":
        chunks.append(head | {"choices": [], "usage": said.usage})
    events = [as_json(distorted(chunk, fault)) for chunk in chunks]
    middle = 1 + len(pieces) // 2
    events[middle] = events[middle] if fault == "bom" else garbled(events[middle], fault)
    sent = [b"data: " + event + b"\n\n" for event in (*events, b"[DONE]")]
    return sent if order.stream else [b"".join(sent)]


def models_listed() -> bytes:
    """The body of GET /v1/models."""
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "recal-bench"} for name in MODELS]
    return as_json({"object": "list", "data": models})


def as_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _bad(message: str, code: str = "invalid_request") -> Refused:
    return Refused(400, code, message)


def _check_rest(asked: dict[str, Any]) -> None:
    """Refuse what would change the reply and is not simulated."""
    for name in _UNSUPPORTED:
        if asked.get(name):
            raise _bad(f"`{name}` is not supported by the simulated models: leave it out", "unsupported")
    if asked.get("n") not in (None, 1):
        raise _bad("`n` must be 1: an arm has one reply to a question", "unsupported")
    for name in _LIMITS:
        value = asked.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise _bad(f"`{name}` must be a whole number above 0")
    stream, options = asked.get("stream"), asked.get("stream_options")
    if not isinstance(stream, bool | None):
        raise _bad("`stream` must be true or false")
    if options is not None and not (stream and isinstance(options, dict)):
        raise _bad("`stream_options` must be an object, and needs `stream`: true")


def _effort(model: str, strategy: str, effort: Any) -> str:
    """The strategy that an effort makes of `direct`. Raises Refused in OpenAI's words where the model takes none."""
    if model != EFFORT_MODEL:
        raise _bad(
            "Unsupported parameter: 'reasoning_effort' is not supported with this model.", "unsupported_parameter"
        )
    if effort not in _EFFORT_OF:
        known = " and ".join(f"'{name}'" for name in _EFFORT_OF)
        raise _bad(f"Unsupported value: 'reasoning_effort' takes {known} with this model.", "unsupported_value")
    if strategy != "direct":
        raise _bad("'reasoning_effort' is simulated with the instruction of `direct` alone", "unsupported")
    return _EFFORT_OF[effort]


def _content(messages: Any) -> str:
    """The text of the one user message, which may come as a list of text parts."""
    message = messages[0] if isinstance(messages, list) and len(messages) == 1 else None
    content = message.get("content") if isinstance(message, dict) and message.get("role") == "user" else None
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text")) for part in content)
    if not isinstance(content, str):
        raise _bad("`messages` must be one user message with a text")
    return content


def _words(text: str) -> list[str]:
    """The words of a text, each with the white space before it: joined, they are the text."""
    return re.findall(r"\s*\S+", text)
