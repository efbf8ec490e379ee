"""A chat request as a client sends it, and as an arm's model is sent it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from recal_bench.collection.requests import Request
from recal_bench.errors import near_miss
from recal_bench.gateway.refusals import Refusal
from recal_bench.outcomes import Arm
from recal_bench.outcomes.schema import FEATURE_PREFIX, WITHOUT
from recal_bench.pools.pool import Pool
from recal_bench.pools.sampling import LIMITS, sent
from recal_bench.wording import show

AUTO = "auto"
"""The name by which a client asks for whatever arm the router chooses."""
PLAIN = WITHOUT["strategy"]
"""The strategy of a log that names none: the model is sent what the client wrote, without an instruction."""
_OURS = ("model", "messages", "stream", "stream_options", "n")


@dataclass(frozen=True)
class Chat:
    """A request to be routed. `prompt` is the text of its last user message, at `position`: all that the router sees.

    `fresh`: nothing follows that message; else an arm has begun to answer it (it called a tool), and no new decision is
    due. `named` is what the client asks for as `model`.
    """

    body: dict[str, Any]
    prompt: str
    position: int
    fresh: bool
    named: str

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True

    @property
    def wants_usage(self) -> bool:
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    @property
    def features(self) -> dict[str, str]:
        """What the client says of the request besides its text, in `metadata`: for a router that reads features."""
        metadata = self.body.get("metadata") or {}
        texts = {name: value.strip() for name, value in metadata.items() if isinstance(value, str)}
        return {name.removeprefix(FEATURE_PREFIX): text for name, text in texts.items() if text}

    def allowed(self, arms: Sequence[Arm]) -> frozenset[Arm]:
        """The arms among which the client lets the router choose: `auto`, or names of models and arms with commas.

        Raises Refusal where a name is unknown.
        """
        names = {str(arm): [arm] for arm in arms} | {arm.model: [] for arm in arms}
        for arm in arms:
            names[arm.model].append(arm)
        asked = [self.named] if self.named in names else [each.strip() for each in self.named.split(",")]
        if AUTO in asked:
            return frozenset(arms)
        for name in asked:
            if name not in names:
                hint = near_miss(name, [AUTO, *names])
                raise Refusal(
                    404,
                    "model_not_found",
                    f"there is no model or arm {show(name)}{hint}: ask for {AUTO}, or for names of GET /v1/models",
                )
        return frozenset(arm for name in asked for arm in names[name])


def read_chat(content: bytes) -> Chat:
    """Raises Refusal where a body cannot be routed: it is not a chat request, or has no text of a user."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise _bad("the body is not JSON") from None
    if not isinstance(body, dict):
        raise _bad("the body is not a JSON object")
    named, messages = body.get("model"), body.get("messages")
    if not isinstance(named, str) or not named.strip():
        raise _bad(f"model must be text: {AUTO}, or names of GET /v1/models")
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        raise _bad("messages must be a list of objects")
    if body.get("n") not in (None, 1):
        raise _bad("n must be 1: a request is answered once")
    if not isinstance(body.get("stream"), (bool, type(None))):
        raise _bad("stream must be true or false")
    if not isinstance(body.get("metadata"), (dict, type(None))):
        raise _bad("metadata must be an object")
    for field in LIMITS:
        limit = body.get(field)
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise _bad(f"{field} must be a whole number above 0")
    position = max((index for index, each in enumerate(messages) if each.get("role") == "user"), default=None)
    prompt = "" if position is None else content_text(messages[position].get("content"))
    if position is None or not prompt.strip():
        raise _bad("there is no text to route by: the last user message is empty or absent")
    return Chat(body, prompt, position, position == len(messages) - 1, named.strip())


class Order(NamedTuple):
    """What is sent to the model of an arm, and what bounds its cost."""

    arm: Arm
    request: Request
    body: bytes


def order(chat: Chat, arm: Arm, pool: Pool) -> Order:
    """The request that puts a chat to an arm: its strategy's instruction stands before the last user message.

    What the client sets (tools, temperature, ...) goes to the model as it is, and replaces the `sampling` of a model in
    the pool file. That of the strategy is what the arm is: it stays, and of two limits the lower one counts.
    """
    model, strategy = pool.models[arm.model], pool.strategies.get(arm.strategy)
    messages = [dict(each) for each in chat.body["messages"]]
    extra, own = sent(model.sampling), {}
    if strategy is not None:
        messages[chat.position]["content"] = _asked(strategy.instruction, messages[chat.position]["content"])
        extra, own = model.parameters(strategy), sent(strategy.sampling)
    given = {name: value for name, value in chat.body.items() if name not in _OURS and value is not None}
    limits = [int(each[field]) for each in (given, own) for field in LIMITS if field in each]
    if limits:
        field = next(field for each in (given, extra) for field in LIMITS if field in each)
        extra, given, own = ({k: v for k, v in each.items() if k not in LIMITS} for each in (extra, given, own))
        own |= {field: min(limits)}
    body = {**extra, **given, **own, "model": model.served_model, "messages": messages}
    if chat.stream:
        # The price of a stream is known only where its usage is asked for.
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    most = next((int(body[field]) for field in LIMITS if field in body), model.context_length)
    text = "\n".join(filter(None, (content_text(each.get("content")) for each in messages)))
    if "tools" in given:
        text += json.dumps(given["tools"])
    return Order(arm, Request(b"", arm.model, arm.strategy, text, {}, most), json.dumps(body).encode())


def _asked(instruction: str, content: Any) -> Any:
    if not instruction:
        return content
    if isinstance(content, str):
        return f"{instruction}\n\n{content}"
    return [{"type": "text", "text": f"{instruction}\n\n"}, *content]


def content_text(content: Any) -> str:
    """The text of a message's content, which can be a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [each.get("text") for each in parts if isinstance(each, dict) and each.get("type") == "text"]
    return "\n".join(each for each in texts if isinstance(each, str))


def _bad(message: str) -> Refusal:
    return Refusal(400, "invalid_request", message)
