"""Pool files: the models on offer, where they are asked, what they cost, and by which strategies.

A YAML file, checked in full before anything is asked. Keys are never in it: an endpoint names the environment variable
that holds its key. Prices carry the date on which they were read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from recal_bench.errors import EndpointError, near_miss
from recal_bench.pools.fields import Address, Checked, Count, Name, Parameters, Pattern, Rate, Variable
from recal_bench.pools.prices import Price
from recal_bench.pools.sampling import LIMITS, sent
from recal_bench.pools.strategies import STRATEGIES, Strategy


class Endpoint(Checked):
    """Where models are asked: an OpenAI-compatible address, and how hard it may be driven.

    `api_key_env` is the *name* of the environment variable with the key; null where the endpoint needs none.
    """

    base_url: Address
    api_key_env: Variable
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


class Model(Checked):
    """A model of the pool. `served_model` is what the endpoint calls it; `served_as` what it may call it in replies.

    A null in `served_as` allows replies that name no model.

    `sampling` goes into every request unchanged; a token limit there replaces the strategy's. `strategies` are those
    that the model is asked by, of the ones that are chosen; all of them where it names none. `tokenizer` counts tokens
    where the endpoint's own count is to be checked: `words`, `tiktoken:ENCODING`, `hf:NAME-OR-FOLDER`, or none (then a
    token is taken for about four characters). `lm_eval_args` are only for lm-eval's own backends.
    """

    endpoint: Name
    served_model: Name
    served_as: tuple[Name | None, ...] = ()
    price: Price
    context_length: Count
    sampling: Parameters = Field(default={"temperature": 0.0})
    strategies: tuple[Name, ...] = ()
    tokenizer: Annotated[str, Field(pattern=r"^(words|(tiktoken|hf):.+)$")] | None = None
    lm_eval_args: dict[str, Any] = Field(default={})

    def limit(self, strategy: Strategy) -> tuple[str, int]:
        """The field that bounds a reply, and the most tokens it may have.

        The strategy's own sampling is asked first, then the model's, then the strategy's `max_tokens`. The field is the
        model's where it names one, since an endpoint takes only one of them.
        """
        both = (strategy.sampling, self.sampling)
        said = [int(each[field]) for each in both for field in LIMITS if field in each]
        field = next((field for each in reversed(both) for field in LIMITS if field in each), "max_tokens")
        return field, said[0] if said else strategy.max_tokens

    def parameters(self, strategy: Strategy) -> dict[str, Any]:
        """What a request holds beside model and messages: the strategy's sampling over the model's, and the limit."""
        field, most = self.limit(strategy)
        own = {name: value for name, value in sent(strategy.sampling).items() if name not in LIMITS}
        return {**sent(self.sampling), **own, field: most}


class StrategyEntry(Checked):
    """A strategy of a pool file: the fields of `strategies.Strategy`. What it leaves out is that of the one named
    `like`, which comes with the package."""

    description: str
    like: Name | None = None
    instruction: str | None = None
    max_tokens: Count | None = None
    answer_pattern: Pattern | None = None
    sampling: Parameters = Field(default={})

    def strategy(self, bases: Mapping[str, Strategy]) -> Strategy:
        base = bases[self.like] if self.like else Strategy(self.description, "", 1)
        return Strategy(
            self.description,
            base.instruction if self.instruction is None else self.instruction,
            self.max_tokens or base.max_tokens,
            self.answer_pattern or base.answer_pattern,
            self.sampling,
        )


class Pool(Checked):
    """A checked pool file. `strategies` are those of the package with the file's own added.

    `questions` is where `collect` takes its questions from when it is not told. `simulated` says that no real model
    answers; outcomes carry it into every table.
    """

    pool: Name
    endpoints: Annotated[dict[Name, Endpoint], Field(min_length=1)]
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    questions: str = "hub"
    simulated: bool = False
    own_strategies: dict[Name, StrategyEntry] = Field(default={}, alias="strategies")

    @property
    def strategies(self) -> dict[str, Strategy]:
        return STRATEGIES | {name: each.strategy(STRATEGIES) for name, each in self.own_strategies.items()}

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
