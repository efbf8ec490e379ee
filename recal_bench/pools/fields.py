"""Types of the values of a pool file, and what is wrong with a value in plain words. No message repeats a value."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import date, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, PositiveInt


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


def _with_a_group(pattern: str) -> str:
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
Address = Annotated[str, AfterValidator(_no_credentials)]
Variable = Annotated[str | None, BeforeValidator(_variable)]
Day = Annotated[date, BeforeValidator(_day)]
Pattern = Annotated[str, AfterValidator(_with_a_group)]
Parameters = Annotated[dict[str, Any], AfterValidator(_json)]


class Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
