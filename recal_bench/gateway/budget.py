"""What the requests have cost, may have cost and can still cost, held against a limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from recal_bench.collection.usage import most_tokens
from recal_bench.gateway.chat import Order
from recal_bench.gateway.refusals import Refusal
from recal_bench.pools.pool import Pool


class Budget:
    """`usd` was paid for answers, `unsure_usd` is the most that attempts without an answer can have cost.

    `max_usd` bounds both together with the most that the requests under way can cost; None: there is no limit.
    """

    def __init__(self, pool: Pool, max_usd: float | None, usd: float = 0.0) -> None:
        self._pool, self.max_usd, self.usd = pool, max_usd, usd
        self.unsure_usd = self._under_way_usd = 0.0

    def most_usd(self, order: Order) -> float:
        """The most that one attempt can cost."""
        price = self._pool.models[order.arm.model].price
        return price.most_usd(most_tokens(order.request.message), order.request.most_completion)

    @contextmanager
    def reserved(self, order: Order) -> Iterator[None]:
        """Room for one attempt. Raises Refusal where there is none: nothing is sent then."""
        most = self.most_usd(order)
        total = self.usd + self.unsure_usd + self._under_way_usd + most
        if self.max_usd is not None and total > self.max_usd:
            raise Refusal(
                402,
                "budget_exceeded",
                f"the budget of {self.max_usd:g} USD (--max-usd) leaves no room for this request, which can cost "
                f"{most:.6f} USD: {self.usd:.6f} USD are spent, {self.unsure_usd:.6f} USD in doubt",
            )
        self._under_way_usd += most
        try:
            yield
        finally:
            self._under_way_usd -= most
