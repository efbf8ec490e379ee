"""Asking the models: limits and attempts of one arm, and the fall to the next arm of the ranking."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timezone
from itertools import count
from typing import Any, NamedTuple

from aiolimiter import AsyncLimiter

from recal_bench.collection.connection import Connection
from recal_bench.collection.failures import Failed
from recal_bench.collection.usage import too_long
from recal_bench.gateway.breakers import Breakers
from recal_bench.gateway.budget import Budget
from recal_bench.gateway.chat import Chat, Order, order
from recal_bench.gateway.refusals import Refusal
from recal_bench.gateway.streams import Stream
from recal_bench.outcomes import Arm
from recal_bench.pools.pool import Pool

ATTEMPTS, MOST_MODELS = 3, 3
"""So often a model is asked for one request, and so many models are."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0
"""A client waits: what asks for a longer pause is left for the next model."""
_REFUSED = ("400", "413", "422")


class Answered(NamedTuple):
    """What answered: the arm's order, its reply or the stream of it, when it was asked (ISO 8601, and monotonic)."""

    order: Order
    said: dict[str, Any] | Stream
    asked_at: str
    start: float


class _Desk:
    """An endpoint: the connection to it, places for requests at a time, and how many of them a minute."""

    def __init__(self, name: str, pool: Pool) -> None:
        self.connection = Connection(name, pool)
        endpoint = self.connection.endpoint
        self.places = asyncio.Semaphore(endpoint.concurrency)
        per_minute, tokens = endpoint.requests_per_minute, endpoint.tokens_per_minute
        self._requests = AsyncLimiter(per_minute, 60) if per_minute else None
        self._tokens = AsyncLimiter(tokens, 60) if tokens else None

    async def may_send(self, asked: Order) -> None:
        if self._requests:
            await self._requests.acquire()
        if self._tokens:
            needed = len(asked.request.message) // 4 + asked.request.most_completion
            await self._tokens.acquire(min(needed, self._tokens.max_rate))


class Upstream:
    """The endpoints of a pool. Made and used within one event loop. `on_failure` is told of every failed attempt."""

    def __init__(self, pool: Pool, budget: Budget, on_failure: Callable[[Order, Failed], None]) -> None:
        self._pool, self._budget, self._on_failure = pool, budget, on_failure
        self.breakers = Breakers()
        self._desks: dict[str, _Desk] = {}

    async def close(self) -> None:
        for each in self._desks.values():
            await each.connection.close()

    async def answer(self, chat: Chat, arms: Sequence[Arm]) -> Answered:
        """The answer of the first arm that gives one; after a failure the next arm is of another model.

        Raises Refusal where none does, with the reason of each.
        """
        failures: list[tuple[Arm, Failed]] = []
        endpoints: set[str] = set()
        for arm in arms:
            model = self._pool.models[arm.model]
            tried = {failed.model for failed, _ in failures}
            if arm.model in tried or model.endpoint in endpoints or len(tried) == MOST_MODELS:
                continue
            try:
                return await self._ask(chat, order(chat, arm, self._pool))
            except Failed as failure:
                failures.append((arm, failure))
                if failure.reach == "endpoint":
                    endpoints.add(model.endpoint)
                if failure.moderated:
                    break
        raise _refusal(failures)

    async def _ask(self, chat: Chat, asked: Order) -> Answered:
        name, model = asked.arm.model, self._pool.models[asked.arm.model]
        if (why := self.breakers.why_stopped(name)) is not None:
            raise Failed("stopped", f"not asked for now, it had stopped answering ({why})")
        if (why := too_long(asked.request, model)) is not None:
            raise Failed("too long", why)
        if model.endpoint not in self._desks:
            self._desks[model.endpoint] = _Desk(model.endpoint, self._pool)
        desk = self._desks[model.endpoint]
        for attempt in count(1):
            try:
                await desk.may_send(asked)
                asked_at, start = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.monotonic()
                said = await (self._begin(desk, asked) if chat.stream else self._reply(desk, asked))
                self.breakers.answered(name)
                return Answered(asked, said, asked_at, start)
            except Failed as failure:
                failure.reason = desk.connection.without_key(failure.reason)
                self._on_failure(asked, failure)
                most = self.breakers.attempts(name, failure, ATTEMPTS)
                if not failure.transient or attempt >= most or failure.wait_s > _LONGEST_WAIT_S:
                    # What is wrong with one request is its client's, and no reason to let the model rest.
                    if failure.transient or failure.reach != "request":
                        self.breakers.gave_up(name, failure)
                    raise
                backoff_s = _FIRST_WAIT_S * 2 ** (attempt - 1)
                await asyncio.sleep(max(failure.wait_s, backoff_s + random.uniform(0, _FIRST_WAIT_S)))
        raise AssertionError

    async def _reply(self, desk: _Desk, asked: Order) -> dict[str, Any]:
        model, connection = self._pool.models[asked.arm.model], desk.connection
        async with desk.places:
            with self._budget.reserved(asked), connection.plainly():
                async with connection.opened(asked.body) as response:
                    content = await connection.content(response)
        if not 200 <= response.status < 300:
            raise connection.refused(response.status, content, model, response.headers.get("Retry-After"))
        reply = connection.read(content, model)
        connection.check_name(reply.get("model"), asked.arm.model, model)
        return reply

    async def _begin(self, desk: _Desk, asked: Order) -> Stream:
        """A stream that has begun to say something. It keeps its place at the endpoint until it is closed."""
        model, connection = self._pool.models[asked.arm.model], desk.connection
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(desk.places)
            stack.enter_context(self._budget.reserved(asked))
            with connection.plainly():
                response = await stack.enter_async_context(connection.opened(asked.body))
                if not 200 <= response.status < 300:
                    content = await connection.content(response)
                    raise connection.refused(response.status, content, model, response.headers.get("Retry-After"))
            stream = Stream(connection, model, asked)
            await stream.begin(response)
            stream.held = stack.pop_all()
        return stream


def _refusal(failures: Sequence[tuple[Arm, Failed]]) -> Refusal:
    said = "; ".join(f"{arm}: {failure.reason}" for arm, failure in failures)
    if failures[-1][1].moderated:
        return Refusal(400, "content_filter", said)
    if all(failure.kind in _REFUSED or failure.kind == "too long" for _, failure in failures):
        return Refusal(400, "invalid_request", f"no model takes the request: {said}")
    waits = all(failure.kind in ("429", "stopped") for _, failure in failures)
    return Refusal(503 if waits else 502, "no_answer", f"no model answered: {said}")
