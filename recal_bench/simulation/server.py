"""The embedded pool behind an OpenAI-compatible server: what `recal-bench serve-pool` runs.

A reply is exactly that of `Pool.answer`, and the same request gets the same bytes. Tests start one with
`running_server`.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import Any

from recal_bench.errors import RecalBenchError, SettingsError
from recal_bench.simulation.server_faults import ERRORS, Attempts, parse_faults
from recal_bench.simulation.server_replies import Order, Refused, models_listed, replies_of, written

try:
    from aiohttp import web
except ModuleNotFoundError as error:
    raise SettingsError("the server needs aiohttp: pip install '.[collect]' in a checkout of recal-bench") from error

_METHODS = {"/v1/chat/completions": "POST", "/v1/models": "GET"}
_JSON = {"Content-Type": "application/json"}
_EVENTS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
_LOGGED = ("model", "body", "attempt", "fault", "status", "prompt_tokens", "completion_tokens")
_SHUTDOWN_S = 2.0
"""How long a shutdown waits for replies that are under way."""


class PoolServer:
    """Answers requests. `faults` as in `parse_faults`, `world_arms` as in `SimulatedPool`.

    `key` is what clients must send, `log` a file to add to.
    """

    def __init__(
        self,
        world_seed: int = 0,
        faults: str = "",
        key: str | None = None,
        log: Path | None = None,
        latency_s: float = 0.0,
        world_arms: str = "standard",
    ) -> None:
        if not 0 <= latency_s < math.inf:
            raise SettingsError(f"the latency is {latency_s:g} s: give a number of at least 0")
        self._faults = parse_faults(faults)
        self._replies = replies_of(world_seed, world_arms)
        self._key = None if key is None else key.encode()
        self._latency_s = latency_s
        # A line at a time, so that the file holds what was sent, also after a kill.
        self._log = log.open("a", buffering=1, encoding="utf-8") if log else None
        # Where neither faults nor a log are wanted, nothing is remembered of a request.
        self._attempts = Attempts(self._faults) if log or self._faults.shares else None
        self._closing = asyncio.Event()

    def release(self) -> None:
        """Let go of the clients that hang."""
        self._closing.set()

    def close(self) -> None:
        if self._log:
            self._log.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Any request."""
        try:
            method = _METHODS.get(request.path)
            if method is None:
                raise Refused(404, "not_found", "there are POST /v1/chat/completions and GET /v1/models")
            if request.method != method:
                raise Refused(405, "method_not_allowed", f"{request.path} takes {method}")
            if request.path == "/v1/chat/completions":
                return await self._chat(request)
            self._check_key(request)
            return web.Response(body=models_listed(), headers=_JSON)
        except Refused as refused:
            return _error(refused)
        except web.HTTPRequestEntityTooLarge:
            return _error(Refused(413, "too_large", "the request's body is too large"))

    def _check_key(self, request: web.BaseRequest) -> None:
        scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
        right = self._key is None or hmac.compare_digest(sent.strip().encode("utf-8", "surrogateescape"), self._key)
        if not right or (self._key is not None and scheme.lower() != "bearer"):
            raise Refused(401, "invalid_api_key", "the key is missing or wrong: send `Authorization: Bearer KEY`")

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        digest = sha256(body).hexdigest()
        entry: dict[str, Any] = dict.fromkeys(_LOGGED) | {"body": digest[:16]}
        try:
            self._check_key(request)
            order = self._replies.order(body)
        except Refused as refused:
            entry |= {"fault": "refused", "status": refused.status}
            self._note("received", entry)
            return await self._sent(request, _error(refused), entry)
        attempt, fault = self._attempts.next(digest[:16]) if self._attempts else (None, None)
        entry |= {"model": order.model, "attempt": attempt, "fault": fault or "ok"}
        said, error = self._replies.reply(order), ERRORS.get(fault or "")
        if error is None:
            entry |= {"prompt_tokens": said.prompt_tokens, "completion_tokens": said.completion_tokens}
        if fault != "hang":
            entry["status"] = error[0] if error else 200
        self._note("received", entry)
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        if error:
            wait = {"Retry-After": f"{self._faults.retry_after_s:g}"} if fault == "429" else {}
            return await self._sent(request, _error(Refused(*error), wait), entry)
        parts = written(order, said, digest, fault)
        if fault in ("hang", "cut"):
            return await self._broken_off(request, order, parts, hang=fault == "hang")
        if order.stream:
            return await self._sent(request, web.StreamResponse(headers=_EVENTS), entry, parts)
        return await self._sent(request, web.Response(body=parts[0], headers=_JSON), entry)

    async def _sent(
        self, request: web.BaseRequest, response: web.StreamResponse, entry: dict[str, Any], parts: Sequence[bytes] = ()
    ) -> web.StreamResponse:
        with suppress(ConnectionError):  # the client has gone: then it is not answered
            await response.prepare(request)
            for part in parts:
                await response.write(part)
            await response.write_eof()
            self._note("answered", entry)
        return response

    async def _broken_off(
        self, request: web.BaseRequest, order: Order, parts: list[bytes], *, hang: bool
    ) -> web.StreamResponse:
        """Half of the reply, then the end; silence before it where it hangs. A hanging body never begins."""
        response = web.StreamResponse(headers=_EVENTS if order.stream else _JSON)
        if order.stream:
            half = b"".join(parts[: len(parts) // 2])
        else:
            half = b"" if hang else parts[0][: len(parts[0]) // 2]
            response.content_length = len(parts[0])
        with suppress(ConnectionError):
            if half:
                await response.prepare(request)
                await response.write(half)
            if hang:
                await self._closing.wait()
            if request.transport:
                request.transport.close()
        return response

    def _note(self, event: str, entry: dict[str, Any]) -> None:
        if self._log:
            self._log.write(json.dumps({"time": round(time.time(), 6), "event": event} | entry) + "\n")


def _error(refused: Refused, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=refused.body, status=refused.status, headers=_JSON | (headers or {}))


async def _listen(
    server: PoolServer, host: str, port: int, ready: Callable[[str, asyncio.AbstractEventLoop, asyncio.Event], None]
) -> None:
    """Serve until the event is set that `ready` is given, with the base URL and the loop."""
    stop = asyncio.Event()
    # Cancelled with its client, or a reply that hangs would stay for ever.
    handler = web.Server(server.handle, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(handler, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise _cannot_listen(host, port, error) from error
        bound = runner.addresses[0][1]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{bound}/v1", asyncio.get_running_loop(), stop)
        await stop.wait()
    finally:
        server.release()
        await runner.cleanup()
        server.close()


def _cannot_listen(host: str, port: int, error: OSError) -> RecalBenchError:
    if error.errno == errno.EADDRINUSE:
        return SettingsError(f"port {port} of {host} is in use: choose another with --port (0 takes a free one)")
    reason = error.strerror or str(error)
    return SettingsError(f"cannot listen at {host}, port {port} ({reason}): check --host and --port")


def serve(server: PoolServer, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. `ready` is told the base URL. Raises SettingsError where it cannot listen."""

    def started(base_url: str, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
        with suppress(NotImplementedError):  # Windows: Ctrl-C comes as KeyboardInterrupt there
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop.set)
        ready(base_url)

    with suppress(KeyboardInterrupt):
        asyncio.run(_listen(server, host, port, started))


@contextmanager
def running_server(
    world_seed: int = 0,
    faults: str = "",
    key: str | None = None,
    log: Path | None = None,
    latency_s: float = 0.0,
    world_arms: str = "standard",
) -> Iterator[str]:
    """A server in a thread, on a free loopback port; gives its base URL. For tests and notebooks."""
    server = PoolServer(world_seed, faults, key, log, latency_s, world_arms)
    started: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    def run() -> None:
        try:
            asyncio.run(_listen(server, "127.0.0.1", 0, lambda *parts: started.set_result(parts)))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = Thread(target=run, daemon=True, name="serve-pool")
    thread.start()
    base_url, loop, stop = started.result()
    try:
        yield base_url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
