"""Tokens: what an endpoint reports, whether it can be believed, and what a reply costs.

The `usage` of an answer is one of USAGES. The first two are believed; every other one is flagged in the outcomes, and
is priced by a count of our own where the user allows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from recal_bench.collection.answer import Answer
from recal_bench.errors import EndpointError
from recal_bench.pools.pool import Model

USAGES = {
    "reported": "the endpoint's own count",
    "counted": "counted as a model that runs here generated them",
    "missing": "the endpoint reported no tokens",
    "zero": "the endpoint reported 0 tokens for a text",
    "off": "the endpoint's count is far from the tokenizer's",
    "constant": "the endpoint reported the same number for many different texts",
}
BELIEVED = ("reported", "counted")
WITHOUT_USAGE = ("missing", "zero")
"""Those that say nothing of the cost."""
FACTOR = 2.0
"""A count that is off the tokenizer's by more than this is not believed; FACTOR_WITHOUT where there is no tokenizer."""
FACTOR_WITHOUT = 4.0
TEMPLATE_TOKENS = 128
"""What a chat template may add to a prompt, or end-of-turn tokens to a reply, beyond the factor."""
FEWEST_FOR_CONSTANT = 20
_BYTES_PER_TOKEN = 4
_MOST_TOKENS = 2**31
_REPEATED = re.compile(r"(.)\1{7,}", re.DOTALL)


class TokenCounter(NamedTuple):
    """Counts the tokens of a text; `factor` is how far a reported count may be off."""

    count: Callable[[str], int]
    factor: float


class Tokens(NamedTuple):
    """`completion` includes `reasoning`, `prompt` includes `cached`. None where the endpoint does not say."""

    prompt: int | None
    completion: int | None
    reasoning: int | None
    cached: int | None


@lru_cache(maxsize=32)
def counter(tokenizer: str | None) -> TokenCounter:
    """The counter of a pool file's `tokenizer`. Raises EndpointError where it cannot be loaded."""
    if tokenizer is None:
        return TokenCounter(lambda text: -(-len(_bytes(text)) // _BYTES_PER_TOKEN), FACTOR_WITHOUT)
    if tokenizer == "words":
        return TokenCounter(lambda text: len(text.split()), FACTOR)
    kind, _, name = tokenizer.partition(":")
    try:
        if kind == "tiktoken":
            import tiktoken

            encoding = tiktoken.get_encoding(name)
            return TokenCounter(lambda text: len(encoding.encode(_utf8(text), disallowed_special=())), FACTOR)
        from transformers import AutoTokenizer

        loaded = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # Hub, disk and parser errors of many kinds.
        reason = " ".join(str(error).split())[:200]
        raise EndpointError(f"the tokenizer {tokenizer} of the pool file cannot be loaded: {reason}") from error
    return TokenCounter(lambda text: len(loaded.encode(_utf8(text), add_special_tokens=False)), FACTOR)


def read_tokens(usage: Any) -> Tokens:
    """The tokens of a reply's `usage` object. What is not a count is None.

    Some endpoints count reasoning tokens beside the completion, not within it: their total shows it.
    """
    if not isinstance(usage, dict):
        return Tokens(None, None, None, None)
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    reasoning = _detail(usage, "completion_tokens_details", "reasoning_tokens")
    cached = _detail(usage, "prompt_tokens_details", "cached_tokens")
    total = _count(usage.get("total_tokens"))
    if prompt is not None and completion is not None and reasoning and total == prompt + completion + reasoning:
        completion += reasoning
    return Tokens(prompt, completion, reasoning, cached)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS else None


def _detail(usage: dict[str, Any], group: str, name: str) -> int | None:
    details = usage.get(group)
    nested = _count(details.get(name)) if isinstance(details, dict) else None
    return nested if nested is not None else _count(usage.get(name))


def judged(tokens: Tokens, message: str, response: str, counting: TokenCounter) -> str:
    """Which of USAGES holds for one reply (`constant` shows over many only)."""
    prompt, completion, reasoning, cached = tokens
    if prompt is None or completion is None:
        return "missing"
    if prompt == 0 or (completion == 0 and response):
        return "zero"
    if (reasoning or 0) > completion or (cached or 0) > prompt:
        return "off"
    visible = completion - (reasoning or 0)
    return "reported" if _near(prompt, message, counting) and _near(visible, response, counting) else "off"


def _near(reported: int, text: str, counting: TokenCounter) -> bool:
    most = counting.count(text) * counting.factor + TEMPLATE_TOKENS
    # A long run of one character is few tokens to some tokenizers and many to others.
    least = counting.count(_REPEATED.sub(r"\1", text)) / counting.factor - 1
    return least <= reported <= most


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def priced(answer: Answer, flag: str, message: str, response: str, model: Model) -> tuple[Tokens, float]:
    """The tokens and the USD of an answer: as reported, or by our own count where the report is flagged."""
    tokens = Tokens(*answer[4:8])
    if flag not in BELIEVED:
        count = counter(model.tokenizer).count
        tokens = Tokens(count(message), count(response), None, None)
    assert tokens.prompt is not None
    assert tokens.completion is not None
    return tokens, model.price.usd(tokens.prompt, tokens.completion, tokens.reasoning or 0, tokens.cached or 0)


def most_tokens(message: str) -> int:
    """More prompt tokens than a message can have: a token is at least a byte, and a template adds some."""
    return len(_bytes(message)) + TEMPLATE_TOKENS
