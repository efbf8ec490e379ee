"""One endpoint: a request goes out, within its limits, and again where that can help; its reply is judged."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from itertools import count
from typing import Any, ClassVar

from recal_bench.collection.answer import Answer
from recal_bench.collection.connection import Connection
from recal_bench.collection.failures import SYSTEMATIC, Failed, StoppedError, WithoutUsageError
from recal_bench.collection.proxies import proxy_of
from recal_bench.collection.replies import ending_of, spoken_of, text_of
from recal_bench.collection.requests import Request
from recal_bench.collection.tokens import read_bill, read_tokens
from recal_bench.collection.usage import WITHOUT_USAGE, verdict
from recal_bench.errors import EndpointError
from recal_bench.outcomes import Arm
from recal_bench.pools.pool import Endpoint, Model, Pool

_MOST_SYSTEMATIC = 3
"""So many replies of a SYSTEMATIC kind to one request are enough. Each is billed, so no more are tried."""
_FIRST_WAIT_S, _LONGEST_BACKOFF_S = 0.25, 30.0


class Line:
    """A connection to an endpoint, for the models that it serves. Made and used within one event loop.

    It asks for chat completions, a subclass for something else. `estimates`: whether an answer without usage is taken.
    `stopping`: once it is set, no attempt is begun. `on_failure` is told of every failed attempt.
    """

    path: ClassVar[str] = "chat/completions"

    def __init__(
        self,
        name: str,
        pool: Pool,
        estimates: bool,
        stopping: asyncio.Event,
        on_failure: Callable[[Request, Failed], None],
    ) -> None:
        from aiolimiter import AsyncLimiter

        self._connection = Connection(name, pool, self.path)
        self.name, self.endpoint = name, self._connection.endpoint
        self._models, self._estimates, self._on_failure = pool.models, estimates, on_failure
        self._stopping = stopping
        per_minute, tokens = self.endpoint.requests_per_minute, self.endpoint.tokens_per_minute
        self._requests = AsyncLimiter(per_minute, 60) if per_minute else None
        self._tokens = AsyncLimiter(tokens, 60) if tokens else None
        self._resume_at = 0.0

    async def close(self) -> None:
        await self._connection.close()

    async def ask(self, request: Request, attempts: Callable[[Failed], int]) -> Answer:
        """The answer to a request. Raises Failed after as many attempts as `attempts` allows, or where none helps."""
        systematic = 0
        for attempt in count(1):
            try:
                return await self._attempt(request)
            except Failed as failure:
                # These alone are counted: between them, other attempts may have met a bad moment.
                systematic += failure.kind in SYSTEMATIC
                if systematic == _MOST_SYSTEMATIC:
                    failure.transient, failure.reach = False, "model"
                if not failure.transient or attempt >= attempts(failure) or self._stopping.is_set():
                    raise
                backoff_s = min(_FIRST_WAIT_S * 2.0 ** (attempt - 1), _LONGEST_BACKOFF_S)
                await self._unless_stopping(
                    asyncio.sleep(max(failure.wait_s, backoff_s + random.uniform(0, _FIRST_WAIT_S)))
                )
        raise AssertionError

    async def _attempt(self, request: Request) -> Answer:
        try:
            await self._may_send(request)
            return await self._send(request)
        except StoppedError:
            raise
        except Failed as failure:
            failure.reason = self._connection.without_key(failure.reason)
            self._resume_at = max(self._resume_at, time.monotonic() + failure.wait_s)
            self._on_failure(request, failure)
            raise

    async def _may_send(self, request: Request) -> None:
        if self._requests:
            await self._unless_stopping(self._requests.acquire())
        if self._tokens:
            needed = len(request.message) // 4 + request.most_completion
            await self._unless_stopping(self._tokens.acquire(min(needed, self._tokens.max_rate)))
        while (delay := self._resume_at - time.monotonic()) > 0:
            await self._unless_stopping(asyncio.sleep(delay))

    async def _unless_stopping(self, waiting: Awaitable[None]) -> None:
        """Wait, but not when the collection is ending. Raises StoppedError then."""
        tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(self._stopping.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        if self._stopping.is_set():
            raise StoppedError

    async def _send(self, request: Request) -> Answer:
        model, connection, arm = self._models[request.model], self._connection, Arm(request.model, request.strategy)
        body = json.dumps({"model": model.served_model, **self.asked(request), **request.extra}).encode()
        asked_at, start = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.monotonic()
        with connection.plainly():
            async with connection.opened(body) as response:
                content = await connection.content(response)
        latency_s = time.monotonic() - start
        if not 200 <= response.status < 300:
            raise connection.refused(response.status, content, arm, response.headers.get("Retry-After"))
        return self._answer(request, model, self.read(connection, content, arm), asked_at, latency_s)

    def asked(self, request: Request) -> dict[str, Any]:
        """What a request holds beside its model and its parameters."""
        return {"messages": [{"role": "user", "content": request.message}]}

    def read(self, connection: Connection, content: bytes, arm: Arm) -> dict[str, Any]:
        """The reply of a response, as it is kept. Raises Failed where it is none."""
        return connection.read(content, arm)

    def _answer(self, request: Request, model: Model, reply: dict[str, Any], asked_at: str, latency_s: float) -> Answer:
        self._connection.check_name(reply.get("model"), Arm(request.model, request.strategy))
        answer = answer_of(request, model, reply, asked_at, latency_s)
        if answer.usage in WITHOUT_USAGE and not self._estimates:
            raise WithoutUsageError(
                answer,
                f"{self.name} reports no tokens for {request.model}, so its cost is unknown: with "
                "--allow-estimated-usage they are counted by the tokenizer of the pool file",
            )
        return answer


def answer_of(request: Request, model: Model, reply: dict[str, Any], asked_at: str, latency_s: float) -> Answer:
    """A reply to a request, with the tokens that the endpoint reports and what they are worth."""
    tokens = read_tokens(reply.get("usage"))
    flag = verdict(tokens, request.message, spoken_of(reply), model)
    return Answer(
        request.key, request.model, request.strategy, json.dumps(reply, ensure_ascii=False), *tokens[:4], flag,
        len(request.message), len(text_of(reply)), ending_of(reply), latency_s, asked_at, tokens.written,
        read_bill(reply.get("usage")),
    )  # fmt: skip


def check_endpoints(pool: Pool, models: tuple[str, ...]) -> dict[str, Endpoint]:
    """The endpoints that serve the models.

    Raises EndpointError where a key is not set, a proxy cannot be used, or a package is missing.
    """
    try:
        import aiohttp  # noqa: F401
        import aiolimiter  # noqa: F401
    except ImportError as error:
        raise EndpointError(
            f"{error.name} is not installed: it comes with recal-bench[collect], which is "
            "pip install '.[collect]' in a checkout"
        ) from error
    endpoints = {pool.models[name].endpoint: pool.endpoint_of(name) for name in models}
    for endpoint in endpoints.values():
        endpoint.key()
        proxy_of(endpoint.base_url)
    return endpoints
