"""What tokens cost: USD per 1M, with the day on which the prices were read."""

from __future__ import annotations

from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from recal_bench.pools.fields import Checked, Count, Day, Usd

_PER_MILLION = 1e-6
_DEAREST_WRITE = 2.0
"""Writing to a cache costs up to twice the input, of the providers that charge for it (Anthropic, for an hour)."""
_LATER = ("cache_write", "tiers")


class Rates(Checked):
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

    date: Day
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
