"""A reply that arrives as server-sent events: read chunk by chunk, checked, and passed on as it comes."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from recal_bench.collection.connection import MOST_BYTES, Connection
from recal_bench.collection.failures import Failed
from recal_bench.gateway.chat import Order
from recal_bench.pools.pool import Model

if TYPE_CHECKING:
    import aiohttp

Chunk = dict[str, Any]
_BLOCK_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_EMPTY_DELTA: tuple[Any, ...] = (None, "", [], {})


class Stream:
    """The chunks of a reply. After `begin`, iterate once; then `reply` is what they add up to.

    `held` is what is kept for it until it is closed: the response, a place at the endpoint, room in the budget.
    """

    def __init__(self, connection: Connection, model: Model, order: Order) -> None:
        self._connection, self._model, self._order = connection, model, order
        self.held = AsyncExitStack()
        self._events: list[str] = []
        self._early: list[Chunk] = []
        self._rest: AsyncIterator[Chunk] | None = None

    def reply(self) -> dict[str, Any]:
        """The whole reply. Raises Failed where the stream broke off or says nothing that is known."""
        content = "".join(f"data: {each}\n\n" for each in self._events).encode()
        return self._connection.read(content, self._model)

    def failed(self, failure: Failed) -> str:
        """What a client may be told of a failure in the middle."""
        return self._connection.without_key(failure.reason)

    async def begin(self, response: aiohttp.ClientResponse) -> None:
        """Read up to the first chunk that says something; until then the request can be repeated unseen."""
        self._rest = self._checked(response)
        with self._connection.plainly():
            async for chunk in self._rest:
                self._early.append(chunk)
                if _says_something(chunk):
                    return
        # Whatever is wrong with a stream that says nothing is said as of any other reply.
        self.reply()

    async def chunks(self) -> AsyncIterator[Chunk]:
        """All chunks as they come. Raises Failed where one cannot be used."""
        for chunk in self._early:
            yield chunk
        assert self._rest is not None
        with self._connection.plainly():
            async for chunk in self._rest:
                yield chunk

    async def close(self) -> None:
        await self.held.aclose()

    async def _checked(self, response: aiohttp.ClientResponse) -> AsyncIterator[Chunk]:
        async for event in self._data(response):
            self._events.append(event)
            if event.strip() == "[DONE]":
                return
            try:
                chunk = json.loads(event)
            except (ValueError, RecursionError):
                raise self._malformed("an event of the stream is not JSON") from None
            if not isinstance(chunk, dict):
                raise self._malformed("an event of the stream is not a JSON object")
            self._connection.check_error(chunk, self._model)
            if chunk.get("choices"):
                self._connection.check_name(chunk.get("model"), self._order.arm.model, self._model)
            yield chunk

    async def _data(self, response: aiohttp.ClientResponse) -> AsyncIterator[str]:
        """The data of each event."""
        left, size = b"", 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > MOST_BYTES:
                raise self._connection.too_large()
            *blocks, left = _BLOCK_END.split(left + part)
            for block in blocks:
                if data := self._data_of(block):
                    yield data
        if data := self._data_of(left):
            yield data

    def _data_of(self, block: bytes) -> str:
        try:
            lines = block.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise self._malformed("an event of the stream is not UTF-8") from None
        return "\n".join(line[5:].removeprefix(" ") for line in lines if line.startswith("data:"))

    def _malformed(self, what: str) -> Failed:
        return Failed("malformed", f"{self._connection.name}: {what}", transient=True, billed=True)


def _says_something(chunk: Chunk) -> bool:
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") if isinstance(choice, dict) else None
        if isinstance(delta, dict) and any(
            value not in _EMPTY_DELTA for name, value in delta.items() if name != "role"
        ):
            return True
        if isinstance(choice, dict) and choice.get("finish_reason"):
            return True
    return False
