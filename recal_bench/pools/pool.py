"""Pool files: the models on offer, where they are asked, what they cost, and by which strategies.

A YAML file, checked in full before anything is asked. Keys are never in it: an endpoint names the environment variable
that holds its key. Prices carry the date on which they were read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from datetime import date, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from recal_bench.errors import EndpointError, near_miss
from recal_bench.pools.strategies import STRATEGIES, Strategy

_PER_MILLION = 1e-6
RESERVED = ("model", "messages", "stream", "n")
"""Fields of a request that are not a pool file's to set."""


def _no_credentials(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"[!-~]+", url):
        raise ValueError("must be an address such as https://host/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must hold no user, password, query or fragment: a key belongs in the environment")
    return url.rstrip("/")


def _variable(name: Any) -> Any:
    if isinstance(name, str) and not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
        raise ValueError(
            "must be the name of an environment variable (capitals, digits, _), never the key itself; if the key "
            "is in the file, remove it"
        )
    return name


def _plain_name(name: str) -> str:
    if "|" in name or not name.strip() or not name.isprintable():
        raise ValueError('a name must be printable text without "|"')
    return name


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _day(value: Any) -> Any:
    if isinstance(value, str):
        with suppress(ValueError):
            value = date.fromisoformat(value)
    if not isinstance(value, date) or isinstance(value, datetime):
        raise ValueError("must be a day such as 2026-11-01")
    return value


def _json(values: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(values, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError("must hold text, numbers, lists and mappings only: it is sent as JSON") from None
    return values


def _pattern(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError):
        raise ValueError("is not a regular expression") from None
    if groups != 1:
        raise ValueError("must have one group, (...)")
    return pattern


Name = Annotated[str, AfterValidator(_plain_name)]
Count = Annotated[PositiveInt, BeforeValidator(_number)]
Rate = Annotated[PositiveFloat, BeforeValidator(_number), Field(allow_inf_nan=False)]
Usd = Annotated[float, BeforeValidator(_number), Field(ge=0, allow_inf_nan=False)]
Parameters = Annotated[dict[str, Any], AfterValidator(_json)]


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Endpoint(_Checked):
    """Where models are asked: an OpenAI-compatible address, and how hard it may be driven.

    `api_key_env` is the *name* of the environment variable with the key; null where the endpoint needs none.
    """

    base_url: Annotated[str, AfterValidator(_no_credentials)]
    api_key_env: Annotated[str | None, BeforeValidator(_variable)]
    concurrency: Count = 16
    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    timeout_s: Rate = 120.0

    def key(self) -> str | None:
        """The key, from the environment. Raises EndpointError where the variable is not set."""
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if key and not re.fullmatch(r"[!-~]+", key):
            raise EndpointError(
                f"the key in {self.api_key_env} holds a character that no request can carry (a line break, a blank, a "
                "letter outside ASCII): copy it again"
            )
        if not key:
            raise EndpointError(
                f"{self.base_url} needs a key: set the environment variable {self.api_key_env}, or put "
                "`api_key_env: null` in the pool file if it needs none"
            )
        return key


_DEAREST_WRITE = 2.0
"""Writing to a cache costs up to twice the input, of the providers that charge for it (Anthropic, for an hour)."""
_LATER = ("cache_write", "tiers")


class Rates(_Checked):
    """USD per 1M tokens.

    Reasoning tokens are priced as output and cached input as input where no other price is given, as providers do. What
    writing to a cache costs differs: without a price for it, it is taken at the dearest.
    """

    input: Usd
    output: Usd
    reasoning: Usd | None = None
    cached: Usd | None = None
    cache_write: Usd | None = None

    @model_serializer(mode="wrap")
    def _stated(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what was added later and is not stated: a price book that does not use it keeps its hash."""
        stated = serialize(self).items()
        return {name: value for name, value in stated if name not in _LATER or value not in (None, [], ())}

    def usd(self, prompt: int, completion: int, reasoning: int = 0, cached: int = 0, written: int = 0) -> float:
        """What a reply costs. `completion` includes `reasoning` tokens, and `prompt` `cached` and `written` ones."""
        cached_price = self.input if self.cached is None else self.cached
        reasoning_price = self.output if self.reasoning is None else self.reasoning
        return _PER_MILLION * (
            (prompt - cached - written) * self.input
            + cached * cached_price
            + written * self.write_price
            + (completion - reasoning) * self.output
            + reasoning * reasoning_price
        )

    @property
    def write_price(self) -> float:
        return _DEAREST_WRITE * self.input if self.cache_write is None else self.cache_write

    def most_usd(self, prompt: int, completion: int) -> float:
        """The most that this many tokens can cost."""
        dearest = max(self.input, self.cached or 0.0, self.cache_write or 0.0)
        return _PER_MILLION * (prompt * dearest + completion * max(self.output, self.reasoning or 0.0))


class Tier(Rates):
    """The rates of a request with more than `above` prompt tokens: for all of its tokens."""

    above: Count


class Price(Rates):
    """The rates of a model, as read on `date`. Each of `tiers` replaces them for longer prompts."""

    date: Annotated[date, BeforeValidator(_day)]
    tiers: tuple[Tier, ...] = ()

    def at(self, prompt: float) -> Rates:
        """The rates for a request of this many prompt tokens."""
        return max((each for each in self.tiers if prompt > each.above), key=lambda each: each.above, default=self)

    def usd(self, prompt: int, completion: int, reasoning: int = 0, cached: int = 0, written: int = 0) -> float:
        rates = self.at(prompt)
        return Rates.usd(rates, prompt, completion, reasoning, cached, written)

    def most_usd(self, prompt: int, completion: int) -> float:
        """The most that this many tokens, or fewer, can cost."""
        within = [self, *(each for each in self.tiers if prompt > each.above)]
        return max(Rates.most_usd(each, prompt, completion) for each in within)


class Model(_Checked):
    """A model of the pool. `served_model` is what the endpoint calls it; `served_as` what it may call it in replies.

    A null in `served_as` allows replies that name no model.

    `sampling` goes into every request unchanged; a token limit there replaces the strategy's. `tokenizer` counts
    tokens where the endpoint's own count is to be checked: `words`, `tiktoken:ENCODING`, `hf:NAME-OR-FOLDER`, or none
    (then a token is taken for about four characters). `lm_eval_args` are only for lm-eval's own backends.
    """

    endpoint: Name
    served_model: Name
    served_as: tuple[Name | None, ...] = ()
    price: Price
    context_length: Count
    sampling: Parameters = {"temperature": 0.0}
    tokenizer: Annotated[str, Field(pattern=r"^(words|(tiktoken|hf):.+)$")] | None = None
    lm_eval_args: dict[str, Any] = {}

    def limit(self, strategy: Strategy) -> tuple[str, int]:
        """The field that bounds a reply, and the most tokens it may have."""
        for field in ("max_completion_tokens", "max_tokens"):
            if field in self.sampling:
                return field, int(self.sampling[field])
        return "max_tokens", strategy.max_tokens


class StrategyEntry(_Checked):
    """A strategy of a pool file: the fields of `strategies.Strategy`."""

    description: str
    instruction: str
    max_tokens: Count
    answer_pattern: Annotated[str, AfterValidator(_pattern)] | None = None


class Pool(_Checked):
    """A checked pool file. `strategies` are those of the package with the file's own added.

    `questions` is where `collect` takes its questions from when it is not told. `simulated` says that no real model
    answers; outcomes carry it into every table.
    """

    pool: Name
    endpoints: Annotated[dict[Name, Endpoint], Field(min_length=1)]
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    questions: str = "hub"
    simulated: bool = False
    own_strategies: Annotated[dict[Name, StrategyEntry], Field(alias="strategies")] = {}

    @property
    def strategies(self) -> dict[str, Strategy]:
        return STRATEGIES | {name: Strategy(**entry.model_dump()) for name, entry in self.own_strategies.items()}

    @property
    def price_book(self) -> str:
        """16 hex digits that name the prices: of every model, with their dates."""
        prices = {name: model.price.model_dump(mode="json") for name, model in self.models.items()}
        return hashlib.sha256(json.dumps(prices, sort_keys=True).encode()).hexdigest()[:16]

    def endpoint_of(self, model: str) -> Endpoint:
        return self.endpoints[self.models[model].endpoint]

    def select_models(self, names: tuple[str, ...]) -> dict[str, Model]:
        """The named models, all without names. Raises EndpointError on one that the pool does not have."""
        for name in names:
            if name not in self.models:
                known = ", ".join(self.models)
                raise EndpointError(
                    f"pool {self.pool} has no model {name}{near_miss(name, self.models)}: it has {known}"
                )
        return {name: self.models[name] for name in dict.fromkeys(names)} or self.models

    def select_strategies(self, names: tuple[str, ...]) -> dict[str, Strategy]:
        """The named strategies, those of the package without names. Raises EndpointError on an unknown one."""
        for name in names:
            if name not in self.strategies:
                known = ", ".join(self.strategies)
                raise EndpointError(
                    f"no strategy is called {name}{near_miss(name, self.strategies)}: there are {known}; a pool file "
                    "may add others under `strategies`"
                )
        return {name: self.strategies[name] for name in dict.fromkeys(names)} or dict(STRATEGIES)
