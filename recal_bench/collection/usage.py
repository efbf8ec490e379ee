"""Tokens: what an endpoint reports, whether it can be believed, and what a reply costs.

The `usage` of an answer is one of USAGES. Those that are not BELIEVED are flagged in the outcomes, and priced where the
user allows it: by a count of our own, and never below what was reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from recal_bench.collection.answer import Answer
from recal_bench.collection.replies import MODERATED
from recal_bench.collection.requests import Request
from recal_bench.collection.tokens import Tokens, read_bill, read_tokens
from recal_bench.errors import EndpointError
from recal_bench.pools.pool import Model

USAGES = {
    "reported": "the endpoint's own count",
    "counted": "counted as a model that runs here generated them",
    "missing": "the endpoint reported no tokens",
    "zero": "the endpoint reported 0 tokens for a text",
    "off": "the endpoint's count is far from the tokenizer's",
    "constant": "the endpoint reported the same number for many different texts",
    "unpriced": "the endpoint reported tokens written to its cache, and the pool file has no `cache_write` price",
    "moderated": "the endpoint refused the prompt for what it says, so the prompt alone is counted, here",
}
BELIEVED = ("reported", "counted", "moderated")
_OUR_OWN = ("counted", MODERATED)
WITHOUT_USAGE = ("missing", "zero")
"""Those that say nothing of the cost."""
FACTOR = 2.0
"""A count that is off the tokenizer's by more than this is not believed; FACTOR_WITHOUT where there is no tokenizer."""
FACTOR_WITHOUT = 4.0
TEMPLATE_TOKENS = 128
"""What a chat template may add to a prompt, or end-of-turn tokens to a reply, beyond the factor."""
FEWEST_FOR_CONSTANT = 20
_BYTES_PER_TOKEN = 4
_REPEATED = re.compile(r"(.)\1{7,}", re.DOTALL)


class TokenCounter(NamedTuple):
    """Counts the tokens of a text; `factor` is how far a reported count may be off."""

    count: Callable[[str], int]
    factor: float


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


def judged(tokens: Tokens, message: str, response: str, counting: TokenCounter) -> str:
    """What one reply's counts are worth beside our own (`constant` shows over many only)."""
    prompt, completion, reasoning, cached, written = tokens
    if prompt is None or completion is None:
        return "missing"
    if prompt == 0 or (completion == 0 and response):
        return "zero"
    if (reasoning or 0) > completion or (cached or 0) + (written or 0) > prompt:
        return "off"
    visible = completion - (reasoning or 0)
    return "reported" if _near(prompt, message, counting) and _near(visible, response, counting) else "off"


def verdict(tokens: Tokens, message: str, response: str, model: Model) -> str:
    """Which of USAGES holds for one reply of a model of the pool."""
    flag = judged(tokens, message, response, counter(model.tokenizer))
    unpriced = flag == "reported" and tokens.written and model.price.at(tokens.prompt or 0).cache_write is None
    return "unpriced" if unpriced else flag


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
    """The tokens and the USD of an answer: as reported, or where the report is flagged by our own count.

    A flagged one never costs less than was reported: of each side the larger count is taken, and no discount is.
    """
    reported, price = tokens_of(answer), model.price
    if flag in BELIEVED and flag != MODERATED:
        return reported, price.usd(*(each or 0 for each in reported))
    count = counter(model.tokenizer).count
    prompt = max(count(message), reported.prompt or 0, (reported.cached or 0) + (reported.written or 0))
    completion = max(count(response), reported.completion or 0, reported.reasoning or 0)
    tokens = Tokens(prompt, completion, reported.reasoning, None, reported.written)
    return tokens, max(price.usd(*(each or 0 for each in tokens)), price.usd(prompt, completion))


def reread(answer: Answer, reply: Any) -> Answer:
    """The answer with tokens and bill as they are read today: its journal may be older."""
    if answer.usage in _OUR_OWN:
        return answer
    tokens = read_tokens(reply.get("usage"))
    return answer._replace(
        prompt_tokens=tokens.prompt,
        completion_tokens=tokens.completion,
        reasoning_tokens=tokens.reasoning,
        cached_tokens=tokens.cached,
        written_tokens=tokens.written,
        billed_usd=read_bill(reply.get("usage")),
    )


def flag_of(answer: Answer, message: str, response: str, model: Model) -> str:
    """Which of USAGES holds for an answer of a journal."""
    if answer.usage in _OUR_OWN:
        return answer.usage
    return verdict(tokens_of(answer), message, response, model)


def tokens_of(answer: Answer) -> Tokens:
    """The tokens that an answer was kept with."""
    return Tokens(*answer[4:8], answer.written_tokens)


def most_tokens(message: str) -> int:
    """More prompt tokens than a message can have: a token is at least a byte, and a template adds some."""
    return len(_bytes(message)) + TEMPLATE_TOKENS


def too_long(request: Request, model: Model) -> str | None:
    """Why a request is not sent: its prompt and its longest reply do not fit into the model. None where they do."""
    counting = counter(model.tokenizer)
    # Our own guess can be off by half; a tokenizer that the pool file names is taken at its word.
    prompt = counting.count(request.message) if model.tokenizer else counting.count(request.message) // 2
    if prompt + request.most_completion <= model.context_length:
        return None
    return (
        f"{prompt:,} tokens of prompt and up to {request.most_completion:,} of reply are more than the context_length "
        f"of {model.context_length:,} in the pool file; not sent"
    )
