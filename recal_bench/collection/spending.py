"""What a collection has cost, may have cost, and will cost: sums over its journal at the pool's prices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from recal_bench.collection.journal import Journal
from recal_bench.collection.requests import Request
from recal_bench.collection.usage import most_tokens
from recal_bench.errors import EndpointError
from recal_bench.pools.pool import Pool
from recal_bench.pools.prices import Rates


class Spending:
    """Follows a journal that grows. `usd` is the cost of its answers that report their tokens.

    Where the endpoint's own bill is more than the pool file's prices give, the bill counts. Earlier
    collections on the same journal count too, and so do other collectors on it.
    """

    def __init__(self, pool: Pool, journal: Journal, max_usd: float | None = None) -> None:
        self._pool, self._journal, self.max_usd = pool, journal, max_usd
        self._tiers = sorted({tier.above for model in pool.models.values() for tier in model.price.tiers})
        self._seen = 0
        self._usd_of: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._priced_of: defaultdict[tuple[str, str], int] = defaultdict(int)

    def refresh(self) -> None:
        """Take in what has been answered since the last time."""
        self._seen, news = self._journal.spent_since(self._seen, self._tiers)
        for each in news:
            model = self._pool.models.get(each.model)
            if model is None and self.max_usd is not None:
                raise EndpointError(
                    f"the journal holds answers of {each.model}, which pool {self._pool.pool} does not price, so "
                    "--max-usd cannot be kept: add the model to the pool file, or name another --journal"
                )
            if model is None:
                continue
            arm = each.model, each.strategy
            reasoning = min(each.reasoning_tokens, each.completion_tokens)
            written = min(each.written_tokens, each.prompt_tokens)
            cached = min(each.cached_tokens, each.prompt_tokens - written)
            # All of them are of one tier, and so is their mean; their sum need not be.
            rates = model.price.at(each.prompt_tokens / each.with_usage)
            usd = Rates.usd(rates, each.prompt_tokens, each.completion_tokens, reasoning, cached, written)
            self._usd_of[arm] += max(usd, each.billed_usd)
            self._priced_of[arm] += each.with_usage

    @property
    def usd(self) -> float:
        return sum(self._usd_of.values())

    @property
    def unsure_usd(self) -> float:
        """The most that requests without a usable or priced answer can have cost."""
        return self._journal.unsure_usd()

    def most_usd(self, request: Request) -> float:
        """The most that a request can cost."""
        price = self._pool.models[request.model].price
        return price.most_usd(most_tokens(request.message), request.most_completion)

    def exceeded(self) -> bool:
        """Whether all that is answered, unsure and under way can cost more than the budget."""
        if self.max_usd is None:
            return False
        self.refresh()
        return self.usd + self.unsure_usd + self._journal.claimed_usd() > self.max_usd

    def mean_usd(self, arm: tuple[str, str]) -> float | None:
        """Mean cost of an arm's answers so far; None before there is one."""
        priced = self._priced_of.get(arm, 0)
        return self._usd_of[arm] / priced if priced else None

    def usd_to_go(self, left: Mapping[tuple[str, str, str], int]) -> float | None:
        """The expected cost of what is left, by (endpoint, model, strategy). None while an arm's cost is not known."""
        total = 0.0
        for (_, model, strategy), count in left.items():
            mean = self.mean_usd((model, strategy)) if count else 0.0
            if mean is None:
                return None
            total += count * mean
        return total
