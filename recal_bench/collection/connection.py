"""HTTP to one endpoint: what goes out, what comes back, and what went wrong, as one kind of failure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from recal_bench import __version__
from recal_bench.collection.failures import Failed
from recal_bench.collection.hints import misnamed, refused_by_arm
from recal_bench.collection.proxies import proxy_of
from recal_bench.collection.replies import error_of, first_message, has_known_content, read_reply
from recal_bench.outcomes import Arm
from recal_bench.pools.pool import Pool
from recal_bench.wording import show

if TYPE_CHECKING:
    import aiohttp

MOST_BYTES = 32 * 2**20
"""A reply that is larger, unpacked, is not read further."""
_MOST_HOPS = 3
_SHORTEST_SECRET = 8
"""A shorter key is a word such as EMPTY or test, which local servers take: it is no secret."""


class Connection:
    """A connection to an endpoint of a pool. Made and used within one event loop.

    `path` follows its address.
    """

    def __init__(self, name: str, pool: Pool, path: str = "chat/completions") -> None:
        import aiohttp

        self.name, self.endpoint, self._pool = name, pool.endpoints[name], pool
        self.where = f"{name} ({self.endpoint.base_url})"
        self._url = f"{self.endpoint.base_url}/{path}"
        self._key, self._proxy = self.endpoint.key(), proxy_of(self._url)
        headers = {"Content-Type": "application/json", "User-Agent": f"recal-bench/{__version__}"}
        self._session = aiohttp.ClientSession(
            headers=headers | ({"Authorization": f"Bearer {self._key}"} if self._key else {}),
            timeout=aiohttp.ClientTimeout(total=self.endpoint.timeout_s),
            connector=aiohttp.TCPConnector(limit=0, ssl=_trusted()),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._session.close()

    @asynccontextmanager
    async def opened(self, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to a body. A redirect is followed on the same host only: prompts go nowhere else."""
        url = self._url
        for _ in range(_MOST_HOPS):
            async with self._session.post(url, data=body, proxy=self._proxy, allow_redirects=False) as response:
                if not 300 <= response.status < 400:
                    yield response
                    return
                target = urljoin(url, response.headers.get("Location", ""))
            if response.status not in (307, 308) or urlsplit(target)[:2] != urlsplit(url)[:2]:
                break
            url = target
        raise Failed(
            f"{response.status}",
            f"{self.where} redirects to {show(target, 200)} ({response.status}), which is not followed: if that is "
            "the address you mean, put it into base_url",
            reach="endpoint",
        )

    async def content(self, response: aiohttp.ClientResponse) -> bytes:
        """All of a response. Raises Failed where it is larger than MOST_BYTES."""
        content = bytearray()
        async for part in response.content.iter_any():
            content += part
            if len(content) > MOST_BYTES:
                response.close()
                raise self.too_large()
        return bytes(content)

    def too_large(self) -> Failed:
        return Failed("too large", f"{self.name}: a reply is larger than {MOST_BYTES // 2**20} MiB", billed=True)

    @contextmanager
    def plainly(self) -> Iterator[None]:
        """Turns what breaks in between into Failed."""
        import aiohttp

        try:
            yield
        except asyncio.TimeoutError:
            reason = f"{self.name}: no answer within {self.endpoint.timeout_s:g} s (timeout_s)"
            raise Failed("timeout", reason, transient=True, billed=True) from None
        except aiohttp.ClientError as error:
            raise self._broken(error) from None

    def refused(self, status: int, content: bytes, arm: Arm, retry_after: str | None) -> Failed:
        """The failure that a response of another status than 2xx stands for."""
        return refused_by_arm(self.where, _error_in(content), status, arm, self._pool, retry_after)

    def read(self, content: bytes, arm: Arm) -> dict[str, Any]:
        """The chat reply of a response of status 2xx. Raises Failed where it is none."""
        reply = self.read_object(content, arm)
        message = first_message(reply)
        if message is None:
            raise self.malformed("the reply holds no choice with a message")
        if not has_known_content(reply):
            shown = show(json.dumps(message.get("content")), 80)
            raise Failed("unknown content", f"{self.name}: the reply's content is not text: {shown}", billed=True)
        return reply

    def read_object(self, content: bytes, arm: Arm) -> dict[str, Any]:
        """The object of a response of status 2xx. Raises Failed where it is none, or an error."""
        try:
            reply = read_reply(content)
        except ValueError as error:
            begins = show(content[:80].decode("utf-8", "replace").strip(), 60)
            raise self.malformed(f"{error}: {begins}") from None
        self.check_error(reply, arm)
        return reply

    def malformed(self, what: str) -> Failed:
        """That a reply is not what was asked for."""
        return Failed("malformed", f"{self.name}: {what}", transient=True, billed=True)

    def check_error(self, reply: dict[str, Any], arm: Arm) -> None:
        """Raises Failed where a reply of status 2xx holds an error."""
        said = error_of(reply)
        if said is not None:
            failure = refused_by_arm(self.where, said, 200, arm, self._pool)
            # What is an error as a whole was not answered, and nothing is charged for it.
            failure.billed = first_message(reply) is not None
            raise failure

    def check_name(self, served: Any, arm: Arm) -> None:
        """Raises Failed where a reply is of another model than was asked."""
        model = self._pool.models[arm.model]
        if served not in (model.served_model, *model.served_as):
            reason = misnamed(self.name, arm.model, model.served_model, served)
            raise Failed("wrong model", reason, transient=True, billed=True)

    def without_key(self, text: str) -> str:
        """For reasons alone: a reply is kept as it came."""
        return text.replace(self._key, "***") if self._key and len(self._key) >= _SHORTEST_SECRET else text

    def _broken(self, error: aiohttp.ClientError) -> Failed:
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
