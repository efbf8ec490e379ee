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
        self._rest: AsyncIterator[list[Chunk]] | None = None

    def reply(self) -> dict[str, Any]:
        """The whole reply. Raises Failed where the stream broke off or says nothing that is known."""
        content = "".join(f"data: {each}\n\n" for each in self._events).encode()
        return self._connection.read(content, self._model)

    def failed(self, failure: Failed) -> str:
        """What a client may be told of a failure in the middle."""
        return self._connection.without_key(failure.reason)

    async def begin(self, response: aiohttp.ClientResponse) -> None:
        """Read up to the first chunk that says something; until then the request can be repeated unseen.

        What comes as a whole reply, from an endpoint that does not stream, becomes chunks here.
        """
        if response.content_type != "text/event-stream":
            with self._connection.plainly():
                content = await self._connection.content(response)
            reply = self._connection.read(content, self._model)
            self._connection.check_name(reply.get("model"), self._order.arm.model, self._model)
            self._early = _as_chunks(reply)
            self._events = [*map(json.dumps, self._early), "[DONE]"]
            return
        self._rest = self._checked(response)
        with self._connection.plainly():
            async for chunks in self._rest:
                self._early += chunks
                if any(map(_says_something, chunks)):
                    return
        # Whatever is wrong with a stream that says nothing is said as of any other reply.
        self.reply()

    async def chunks(self) -> AsyncIterator[list[Chunk]]:
        """All chunks, those together that come together. Raises Failed where one cannot be used."""
        yield self._early
        if self._rest is not None:
            with self._connection.plainly():
                async for chunks in self._rest:
                    yield chunks

    async def close(self) -> None:
        await self.held.aclose()

    async def _checked(self, response: aiohttp.ClientResponse) -> AsyncIterator[list[Chunk]]:
        async for blocks in self._blocks(response):
            chunks: list[Chunk] = []
            for block in blocks:
                try:
                    event = self._data_of(block)
                    if event:
                        self._events.append(event)
                    if event.strip() == "[DONE]":
                        yield chunks
                        return
                    if event:
                        chunks.append(self._chunk(event))
                except Failed:
                    # What was right before it is not lost.
                    yield chunks
                    raise
            yield chunks

    def _chunk(self, event: str) -> Chunk:
        try:
            chunk = json.loads(event)
        except (ValueError, RecursionError):
            raise self._malformed("an event of the stream is not JSON") from None
        if not isinstance(chunk, dict):
            raise self._malformed("an event of the stream is not a JSON object")
        self._connection.check_error(chunk, self._model)
        if chunk.get("choices"):
            self._connection.check_name(chunk.get("model"), self._order.arm.model, self._model)
        return chunk

    async def _blocks(self, response: aiohttp.ClientResponse) -> AsyncIterator[list[bytes]]:
        """The events as they are sent, those together that come together."""
        left, size = b"", 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > MOST_BYTES:
                raise self._connection.too_large()
            *blocks, left = _BLOCK_END.split(left + part)
            yield blocks
        yield [left]

    def _data_of(self, block: bytes) -> str:
        try:
            lines = block.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise self._malformed("an event of the stream is not UTF-8") from None
        return "\n".join(line[5:].removeprefix(" ") for line in lines if line.startswith("data:"))

    def _malformed(self, what: str) -> Failed:
        return Failed("malformed", f"{self._connection.name}: {what}", transient=True, billed=True)


def _as_chunks(reply: dict[str, Any]) -> list[Chunk]:
    """A whole reply as the chunks of a stream: one with all that it says, and one with its usage."""
    head = {name: value for name, value in reply.items() if name not in ("choices", "usage")}
    head["object"] = "chat.completion.chunk"
    choice = {name: value for name, value in reply["choices"][0].items() if name != "message"}
    said = head | {"choices": [choice | {"delta": reply["choices"][0]["message"]}]}
    return [said, head | {"choices": [], "usage": reply.get("usage")}]


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
