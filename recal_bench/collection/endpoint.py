"""One endpoint: a request goes out over HTTP, and again where that can help; its reply is judged."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from recal_bench import __version__
from recal_bench.collection.answer import Answer
from recal_bench.collection.failures import SYSTEMATIC, Failed, StoppedError, WithoutUsageError
from recal_bench.collection.hints import misnamed, refused_by_arm
from recal_bench.collection.proxies import proxy_of
from recal_bench.collection.replies import (
    ending_of,
    error_of,
    first_message,
    has_known_content,
    read_reply,
    spoken_of,
    text_of,
)
from recal_bench.collection.requests import Request
from recal_bench.collection.tokens import read_bill, read_tokens
from recal_bench.collection.usage import WITHOUT_USAGE, verdict
from recal_bench.errors import EndpointError
from recal_bench.pools.pool import Endpoint, Model, Pool
from recal_bench.wording import show

if TYPE_CHECKING:
    import aiohttp

MOST_BYTES = 32 * 2**20
"""A reply that is larger, unpacked, is not read further."""
_MOST_SYSTEMATIC = 3
"""So many replies of a SYSTEMATIC kind to one request are enough. Each is billed, so no more are tried."""
_FIRST_WAIT_S, _LONGEST_BACKOFF_S = 0.25, 30.0
_MOST_HOPS = 3
_SHORTEST_SECRET = 8
"""A shorter key is a word such as EMPTY or test, which local servers take: it is no secret."""


class Line:
    """A connection to an endpoint, for the models that it serves. Made and used within one event loop.

    `estimates`: whether an answer without usage is taken. `stopping`: once it is set, no attempt is begun.
    `on_failure` is told of every failed attempt.
    """

    def __init__(
        self,
        name: str,
        pool: Pool,
        estimates: bool,
        stopping: asyncio.Event,
        on_failure: Callable[[Request, Failed], None],
    ) -> None:
        import aiohttp
        from aiolimiter import AsyncLimiter

        self.name, self.endpoint = name, pool.endpoints[name]
        self._pool, self._models = pool, pool.models
        self._estimates, self._on_failure = estimates, on_failure
        self._stopping = stopping
        self._where = f"{name} ({self.endpoint.base_url})"
        self._url = f"{self.endpoint.base_url}/chat/completions"
        self._key, self._proxy = self.endpoint.key(), proxy_of(self._url)
        headers = {"Content-Type": "application/json", "User-Agent": f"recal-bench/{__version__}"}
        self._session = aiohttp.ClientSession(
            headers=headers | ({"Authorization": f"Bearer {self._key}"} if self._key else {}),
            timeout=aiohttp.ClientTimeout(total=self.endpoint.timeout_s),
            connector=aiohttp.TCPConnector(limit=0, ssl=_trusted()),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        per_minute, tokens = self.endpoint.requests_per_minute, self.endpoint.tokens_per_minute
        self._requests = AsyncLimiter(per_minute, 60) if per_minute else None
        self._tokens = AsyncLimiter(tokens, 60) if tokens else None
        self._resume_at = 0.0

    async def close(self) -> None:
        await self._session.close()

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
            failure.reason = self._without_key(failure.reason)
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
        import aiohttp

        model = self._models[request.model]
        asked = {"model": model.served_model, "messages": [{"role": "user", "content": request.message}]}
        asked_at, start = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.monotonic()
        try:
            status, content, retry_after = await self._post(json.dumps(asked | request.extra).encode())
        except asyncio.TimeoutError:
            reason = f"{self.name}: no answer within {self.endpoint.timeout_s:g} s (timeout_s)"
            raise Failed("timeout", reason, transient=True, billed=True) from None
        except aiohttp.ClientError as error:
            raise self._connection(error) from None
        latency_s = time.monotonic() - start
        if not 200 <= status < 300:
            raise self._refused(request, _error_in(content), status, retry_after)
        return self._answer(request, model, self._read(content, request), asked_at, latency_s)

    async def _post(self, body: bytes) -> tuple[int, bytes, str | None]:
        """Status, content and Retry-After. A redirect is followed on the same host only: prompts go nowhere else."""
        url = self._url
        for _ in range(_MOST_HOPS):
            async with self._session.post(url, data=body, proxy=self._proxy, allow_redirects=False) as response:
                if not 300 <= response.status < 400:
                    return response.status, await self._content(response), response.headers.get("Retry-After")
                target = urljoin(url, response.headers.get("Location", ""))
            if response.status not in (307, 308) or urlsplit(target)[:2] != urlsplit(url)[:2]:
                break
            url = target
        raise Failed(
            f"{response.status}",
            f"{self._where} redirects to {show(target, 200)} ({response.status}), which is not followed: if that is "
            "the address you mean, put it into base_url",
            reach="endpoint",
        )

    async def _content(self, response: aiohttp.ClientResponse) -> bytes:
        content = bytearray()
        async for part in response.content.iter_any():
            content += part
            if len(content) > MOST_BYTES:
                response.close()
                raise Failed("too large", f"{self.name}: a reply is larger than {MOST_BYTES // 2**20} MiB", billed=True)
        return bytes(content)

    def _refused(self, request: Request, error: Any, status: int, retry_after: str | None = None) -> Failed:
        return refused_by_arm(self._where, error, status, request, self._pool, retry_after)

    def _read(self, content: bytes, request: Request) -> dict[str, Any]:
        try:
            reply = read_reply(content)
        except ValueError as error:
            begins = show(content[:80].decode("utf-8", "replace").strip(), 60)
            raise Failed("malformed", f"{self.name}: {error}: {begins}", transient=True, billed=True) from None
        message, said = first_message(reply), error_of(reply)
        if said is not None:
            failure = self._refused(request, said, 200)
            # What is an error as a whole was not answered, and nothing is charged for it.
            failure.billed = message is not None
            raise failure
        if message is None:
            reason = f"{self.name}: the reply holds no choice with a message"
            raise Failed("malformed", reason, transient=True, billed=True)
        if not has_known_content(reply):
            shown = show(json.dumps(message.get("content")), 80)
            raise Failed("unknown content", f"{self.name}: the reply's content is not text: {shown}", billed=True)
        return reply

    def _answer(self, request: Request, model: Model, reply: dict[str, Any], asked_at: str, latency_s: float) -> Answer:
        served = reply.get("model")
        if served not in (model.served_model, *model.served_as):
            raise Failed(
                "wrong model", misnamed(self.name, request, model.served_model, served), transient=True, billed=True
            )
        tokens = read_tokens(reply.get("usage"))
        flag = verdict(tokens, request.message, spoken_of(reply), model)
        answer = Answer(
            request.key, request.model, request.strategy, json.dumps(reply, ensure_ascii=False), *tokens[:4], flag,
            len(request.message), len(text_of(reply)), ending_of(reply), latency_s, asked_at, tokens.written,
            read_bill(reply.get("usage")),
        )  # fmt: skip
        if flag in WITHOUT_USAGE and not self._estimates:
            raise WithoutUsageError(
                answer,
                f"{self.name} reports no tokens for {request.model}, so its cost is unknown: with "
                "--allow-estimated-usage they are counted by the tokenizer of the pool file",
            )
        return answer

    def _connection(self, error: aiohttp.ClientError) -> Failed:
        import aiohttp

        cause = getattr(error, "os_error", None) or error
        said = show(" ".join(str(cause).split()) or type(error).__name__, 200)
        if isinstance(error, (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError)):
            reason = f"{self.name} cannot be reached through the proxy that the environment names ({said}): check it"
            return Failed("connection", reason, transient=True)
        if not isinstance(error, aiohttp.ClientConnectorError):
            return Failed("cut", f"{self.name}: the connection broke ({said})", transient=True, billed=True)
        # Before there is a connection, nothing has been sent.
        here = urlsplit(self.endpoint.base_url).hostname in ("localhost", "127.0.0.1", "::1")
        what = "that its server is running" if here else "the network"
        reason = f"{self.name} cannot be reached at {self.endpoint.base_url} ({said}): check base_url, and {what}"
        return Failed("connection", reason, transient=True)

    def _without_key(self, text: str) -> str:
        """For reasons alone: a reply is kept as it came."""
        return text.replace(self._key, "***") if self._key and len(self._key) >= _SHORTEST_SECRET else text


def _error_in(content: bytes) -> Any:
    """The error object of a failed request's body, or its beginning where it holds none."""
    try:
        return error_of(read_reply(content)) or {"message": content[:300].decode("utf-8", "replace")}
    except ValueError:
        return {"message": content[:300].decode("utf-8", "replace")}


def _trusted() -> Any:
    """TLS by the system's certificates, and by certifi's where that is installed: small images have none."""
    import ssl
    from contextlib import suppress

    context = ssl.create_default_context()
    with suppress(ImportError):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


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
