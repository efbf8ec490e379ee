"""What an endpoint says was used: the many forms of a reply's `usage` object, read as one.

`prompt` includes `cached` and `written`, `completion` includes `reasoning`. Where a form can be read in two ways, it is
read as the dearer one.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

_MOST_TOKENS = 2**31
_PROMPT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_COMPLETION_DETAILS = ("completion_tokens_details", "output_tokens_details")


class Tokens(NamedTuple):
    """Tokens of one reply. None where the endpoint does not say. `written`: put into the endpoint's cache."""

    prompt: int | None
    completion: int | None
    reasoning: int | None
    cached: int | None
    written: int | None = None


def read_tokens(usage: Any) -> Tokens:
    """The tokens of a reply's `usage` object. What is not a count is None.

    Names are OpenAI's, or Anthropic's (`input_tokens`, whose cache is counted beside it). What the total has beyond the
    parts was produced and not shown: it is reasoning. More reasoning than completion is beside it. A total alone is
    taken for the completion.
    """
    if not isinstance(usage, dict):
        return Tokens(None, None, None, None)
    prompt = _named(usage, ("prompt_tokens", "input_tokens"))
    completion = _named(usage, ("completion_tokens", "output_tokens"))
    reasoning = _detail(usage, _COMPLETION_DETAILS, ("reasoning_tokens",))
    cached = _detail(usage, _PROMPT_DETAILS, ("cached_tokens", "prompt_cache_hit_tokens"))
    written = _detail(usage, _PROMPT_DETAILS, ("cache_write_tokens", "cache_creation_tokens"))
    missed = _count(usage.get("prompt_cache_miss_tokens"))
    if prompt is None and cached is not None and missed is not None:
        prompt = cached + missed
    prompt, cached, written = _with_cache_beside(usage, prompt, cached, written)
    total = _count(usage.get("total_tokens"))
    if total is not None and completion is None:
        completion = max(0, total - (prompt or 0))
    elif total is not None and completion is not None and prompt is None:
        prompt = max(0, total - completion)
    hidden = _hidden(total, prompt, completion)
    if hidden and completion is not None:
        completion += hidden
        inside = reasoning if reasoning is not None and reasoning > hidden else 0
        reasoning = inside + hidden
    elif completion is not None and (reasoning or 0) > completion:
        completion += reasoning or 0
    return Tokens(prompt, completion, reasoning, cached, written)


def read_bill(usage: Any) -> float | None:
    """What the endpoint says that it charged, in USD; None where it does not say."""
    if not isinstance(usage, dict):
        return None
    cost, details = usage.get("cost"), usage.get("cost_details")
    cost = cost.get("total_cost") if isinstance(cost, dict) else cost
    stated = [_amount(each) for each in (cost, usage.get("total_cost"), usage.get("estimated_cost"))]
    # With a key of one's own at the provider, the gateway's cost is its fee alone.
    upstream = details.get("upstream_inference_cost") if isinstance(details, dict) and usage.get("is_byok") else None
    amounts = [next((each for each in stated if each is not None), None), _amount(upstream)]
    known = [each for each in amounts if each is not None]
    return sum(known) if known else None


def _with_cache_beside(
    usage: dict[str, Any], prompt: int | None, cached: int | None, written: int | None
) -> tuple[int | None, int | None, int | None]:
    """Prompt, cached and written, with what Anthropic's fields count beside the prompt put into it.

    Gateways repeat these fields beside OpenAI's: where the details tell the same, they are within the prompt.
    """
    read, creation = _count(usage.get("cache_read_input_tokens")), _creation(usage)
    if prompt is None:
        return None, cached if cached is not None else read, written if written is not None else creation
    own_names = "prompt_tokens" not in usage
    within_cached, within_written = (0, 0) if own_names else (cached or 0, written or 0)
    beside = max(0, (read or 0) - within_cached) + max(0, (creation or 0) - within_written)
    return prompt + beside, _most(cached, read), _most(written, creation)


def _creation(usage: dict[str, Any]) -> int | None:
    by_lifetime = usage.get("cache_creation")
    parts = [_count(each) or 0 for each in by_lifetime.values()] if isinstance(by_lifetime, dict) else []
    return _most(_count(usage.get("cache_creation_input_tokens")), sum(parts) if parts else None)


def _hidden(total: int | None, prompt: int | None, completion: int | None) -> int:
    """What a total has beyond its parts."""
    if total is None or prompt is None or completion is None:
        return 0
    return max(0, total - prompt - completion)


def _count(value: Any) -> int | None:
    """A count, also where it is written as 12.0 or "12"."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}(\.0{1,9})?", value):
        value = float(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS else None


def _amount(value: Any) -> float | None:
    try:
        amount = math.nan if isinstance(value, bool) or not isinstance(value, (int, float, str)) else float(value)
    except (ValueError, OverflowError):
        return None
    return amount if 0 <= amount < math.inf else None


def _most(*counts: int | None) -> int | None:
    return max((each for each in counts if each is not None), default=None)


def _named(values: Any, names: tuple[str, ...]) -> int | None:
    return _most(*(_count(values.get(name)) for name in names)) if isinstance(values, dict) else None


def _detail(usage: dict[str, Any], groups: tuple[str, ...], names: tuple[str, ...]) -> int | None:
    """A part of the tokens: in its group, else beside the counts."""
    nested = [_named(usage.get(group), names) for group in groups]
    found = _most(*nested)
    return found if found is not None else _named(usage, names)
