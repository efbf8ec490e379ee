"""Pool files: the models on offer, where they are asked, what they cost, and by which strategies.

A YAML file, checked in full before anything is asked. Keys are never in it: an endpoint names the environment variable
that holds its key. Prices carry the date on which they were read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from recal_bench.errors import RecalBenchError, near_miss
from recal_bench.folders import shipped
from recal_bench.strategies import STRATEGIES, Strategy

_PER_MILLION = 1e-6
_RESERVED = ("model", "messages", "stream", "n")


def _no_credentials(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an address such as https://host/v1")
    if parts.username or parts.password or parts.query:
        raise ValueError("must hold no user, password or query: a key belongs into the environment")
    return url.rstrip("/")


def _variable(name: Any) -> Any:
    if isinstance(name, str) and not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
        raise ValueError(
            "must be the name of an environment variable (capitals, digits, _), never the key itself; remove the key "
            "from the file if it stands there"
        )
    return name


def _plain_name(name: str) -> str:
    if "|" in name or not name.strip() or not name.isprintable():
        raise ValueError('a name must be printable text without "|"')
    return name


Name = Annotated[str, AfterValidator(_plain_name)]


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Endpoint(_Checked):
    """Where models are asked: an OpenAI-compatible address, and how hard it may be driven.

    `api_key_env` is the *name* of the environment variable with the key; null where the endpoint needs none.
    """

    base_url: Annotated[str, AfterValidator(_no_credentials)]
    api_key_env: Annotated[str | None, BeforeValidator(_variable)]
    concurrency: PositiveInt = 16
    requests_per_minute: PositiveFloat | None = None
    tokens_per_minute: PositiveFloat | None = None
    timeout_s: PositiveFloat = 120.0

    def key(self) -> str | None:
        """The key, from the environment. Raises RecalBenchError where the variable is not set."""
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise RecalBenchError(
                f"{self.base_url} needs a key: set the environment variable {self.api_key_env}, or say "
                "`api_key_env: null` in the pool file if it needs none"
            )
        return key


class Price(_Checked):
    """USD per 1M tokens, as read on `date`.

    Reasoning tokens are priced as output and cached input as input where no other price is given, as providers do.
    """

    date: date
    input: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    output: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    reasoning: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    cached: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    def usd(self, prompt: int, completion: int, reasoning: int = 0, cached: int = 0) -> float:
        """What a reply costs. `completion` includes `reasoning` tokens, and `prompt` includes `cached` ones."""
        cached_price = self.input if self.cached is None else self.cached
        reasoning_price = self.output if self.reasoning is None else self.reasoning
        return _PER_MILLION * (
            (prompt - cached) * self.input
            + cached * cached_price
            + (completion - reasoning) * self.output
            + reasoning * reasoning_price
        )

    def most_usd(self, prompt: int, completion: int) -> float:
        """The most that so many tokens can cost."""
        return _PER_MILLION * (
            prompt * max(self.input, self.cached or 0.0) + completion * max(self.output, self.reasoning or 0.0)
        )


class Model(_Checked):
    """A model of the pool. `served_model` is what the endpoint calls it; `served_as` what it may call it in replies.

    `sampling` goes into every request as it stands; a token limit there replaces the strategy's. `tokenizer` counts
    tokens where the endpoint's own count is to be checked: `words`, `tiktoken:ENCODING`, `hf:NAME-OR-FOLDER`, or none
    (then a token is taken for about four characters). `lm_eval_args` are for lm-eval's own backends alone.
    """

    endpoint: Name
    served_model: Name
    served_as: tuple[Name, ...] = ()
    price: Price
    context_length: PositiveInt
    sampling: dict[str, Any] = {"temperature": 0.0}
    tokenizer: Annotated[str, Field(pattern=r"^(words|(tiktoken|hf):.+)$")] | None = None
    lm_eval_args: dict[str, Any] = {}

    def limit(self, strategy: Strategy) -> tuple[str, int]:
        """The field that bounds a reply, and the most tokens it may have."""
        for field in ("max_completion_tokens", "max_tokens"):
            if field in self.sampling:
                return field, int(self.sampling[field])
        return "max_tokens", strategy.max_tokens


class _StrategyEntry(_Checked):
    description: str
    instruction: str
    max_tokens: PositiveInt
    answer_pattern: str | None = None


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
    own_strategies: Annotated[dict[Name, _StrategyEntry], Field(alias="strategies")] = {}

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
        """The named models, all without names. Raises RecalBenchError on one that the pool does not have."""
        for name in names:
            if name not in self.models:
                known = ", ".join(self.models)
                raise RecalBenchError(
                    f"pool {self.pool} has no model {name}{near_miss(name, self.models)}: it has {known}"
                )
        return {name: self.models[name] for name in dict.fromkeys(names)} or self.models

    def select_strategies(self, names: tuple[str, ...]) -> dict[str, Strategy]:
        """The named strategies, those of the package without names. Raises RecalBenchError on an unknown one."""
        for name in names:
            if name not in self.strategies:
                known = ", ".join(self.strategies)
                raise RecalBenchError(
                    f"no strategy is called {name}{near_miss(name, self.strategies)}: there are {known}; a pool file "
                    "may add others under `strategies`"
                )
        return {name: self.strategies[name] for name in dict.fromkeys(names)} or dict(STRATEGIES)


def read_pool(path: Path) -> Pool:
    """The pool of a YAML file; a bare name such as `embedded` means the shipped file.

    Raises RecalBenchError with all that is wrong with it in one line. What stands in the file is not repeated there: it
    could be a key.
    """
    if not path.exists() and path.parent == Path() and (shipped("pools") / f"{path.stem}.yaml").exists():
        path = shipped("pools") / f"{path.stem}.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = ", ".join(sorted(each.stem for each in shipped("pools").glob("*.yaml")))
        raise RecalBenchError(f"there is no pool file {path}: write one, or name a shipped one ({known})") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecalBenchError(f"the pool file {path} cannot be read: {_reason(error)}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise RecalBenchError(f"the pool file {path}{line} is not YAML: {getattr(error, 'problem', None)}") from None
    if not isinstance(values, dict):
        raise RecalBenchError(f"the pool file {path} must hold `pool`, `endpoints` and `models`")
    try:
        pool = Pool.model_validate(values)
    except ValidationError as error:
        raise RecalBenchError(f"the pool file {path}: {'; '.join(map(_explained, error.errors()))}") from None
    _check_references(pool, path)
    return pool


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or "it is not UTF-8 text"


def _explained(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{where} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{where} is not known{near_miss(str(problem['loc'][-1]), _FIELDS)}"
    if problem["type"] == "string_type":
        return f"{where} must be text: put it in quotes"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"


def _check_references(pool: Pool, path: Path) -> None:
    for name, model in pool.models.items():
        if model.endpoint not in pool.endpoints:
            hint = near_miss(model.endpoint, pool.endpoints)
            raise RecalBenchError(
                f"the pool file {path}: models.{name} is at an endpoint {model.endpoint} that is not there{hint}"
            )
        taken = sorted(set(_RESERVED) & set(model.sampling))
        if taken:
            raise RecalBenchError(
                f"the pool file {path}: models.{name}.sampling sets {', '.join(taken)}, which is ours to set: remove it"
            )
        for field in ("max_tokens", "max_completion_tokens"):
            limit = model.sampling.get(field, 1)
            if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
                raise RecalBenchError(f"the pool file {path}: models.{name}.sampling.{field} must be a number above 0")
    for name, entry in pool.own_strategies.items():
        try:
            groups = re.compile(entry.answer_pattern or "()").groups
        except re.error as error:
            raise RecalBenchError(f"the pool file {path}: strategies.{name}.answer_pattern: {error}") from error
        if groups != 1:
            raise RecalBenchError(f"the pool file {path}: strategies.{name}.answer_pattern must have one group, (...)")


_FIELDS = [field for each in (Pool, Endpoint, Model, Price, _StrategyEntry) for field in each.model_fields] + [
    "strategies"
]
