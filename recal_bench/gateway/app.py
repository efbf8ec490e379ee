"""What is served: chat completions, models, feedback, health, metrics and the reload of the run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from recal_bench.errors import RecalBenchError
from recal_bench.gateway.chat import AUTO, read_chat
from recal_bench.gateway.exchange import Exchange
from recal_bench.gateway.gateway import Gateway
from recal_bench.gateway.guard import Guard, is_loopback
from recal_bench.gateway.refusals import Refusal

ARM_HEADER, TASK_HEADER = "x-recal-arm", "x-recal-task"
_MOST_BODY = 16 * 2**20
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def make_app(gateway: Gateway, host: str, lifespan: Callable[[], Any] | None = None) -> Starlette:
    """The application that serves a gateway at a host. `lifespan` is entered when it has started."""

    @asynccontextmanager
    async def living(app: Starlette) -> AsyncIterator[None]:
        await gateway.open()
        try:
            if lifespan is not None:
                lifespan()
            yield
        finally:
            await gateway.close()

    async def chat(request: Request) -> Response:
        content = await _body(request)
        gateway.under_way += 1
        exchange = None
        try:
            try:
                exchange = await gateway.begin(read_chat(content), request.headers.get(TASK_HEADER))
            except Refusal:
                gateway.metrics.count("requests_total", outcome="refused")
                raise
            await exchange.ask()
            headers = {ARM_HEADER: quote(str(exchange.arm), safe="|/:@ ,+()[]=")}
            if exchange.chat.stream:
                gateway.under_way += 1
                return _Streamed(exchange, gateway, headers)
            return JSONResponse(await exchange.whole(), headers=headers)
        finally:
            gateway.under_way -= 1

    async def feedback(request: Request) -> Response:
        query_id, score = _feedback(await _body(request))
        if gateway.log is None:
            raise Refusal(404, "no_log", "nothing is logged, so a score has no place: start serve with --log FILE")
        if not gateway.feedback(query_id, score):
            raise Refusal(404, "unknown_id", f"the log has no request {query_id[:80]!r}: send the `id` of the answer")
        return JSONResponse({"id": query_id, "score": score})

    async def models(request: Request) -> Response:
        arms = gateway.live.router.arms
        names = [AUTO, *dict.fromkeys(arm.model for arm in arms), *map(str, arms)]
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": gateway.pool.pool} for name in names]
        return JSONResponse({"object": "list", "data": listed})

    async def health(request: Request) -> Response:
        found = gateway.health()
        return JSONResponse(found, status_code=200 if found["status"] == "ok" else 503)

    async def metrics(request: Request) -> Response:
        return PlainTextResponse(gateway.metrics.text(gateway.gauges()), media_type=_METRICS_TYPE)

    async def reload(request: Request) -> Response:
        if request.client is None or not is_loopback(request.client.host):
            raise Refusal(403, "forbidden", "a run is reloaded from this machine only, or by SIGHUP")
        try:
            return JSONResponse({"router": await gateway.reload()})
        except RecalBenchError as error:
            raise Refusal(409, "not_reloaded", f"{error}; the router of before goes on") from error

    def post(path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
        return Route(path, endpoint, methods=["POST"])

    app = Starlette(
        routes=[
            post("/v1/chat/completions", chat),
            post("/v1/feedback", feedback),
            post("/admin/reload", reload),
            Route("/v1/models", models),
            Route("/health", health),
            Route("/metrics", metrics),
        ],
        exception_handlers={Refusal: _refused, RecalBenchError: _failed, HTTPException: _not_there},
        lifespan=living,
    )
    app.add_middleware(Guard, key=gateway.settings.key, local=is_loopback(host))
    return app


class _Streamed(StreamingResponse):
    """A stream that is let go of whether or not its client waits for the end."""

    def __init__(self, exchange: Exchange, gateway: Gateway, headers: dict[str, str]) -> None:
        super().__init__(exchange.events(), media_type="text/event-stream", headers=headers)
        self.headers["cache-control"] = "no-store"
        self._exchange, self._gateway = exchange, gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._gateway.under_way -= 1
            await self._exchange.close()


async def _body(request: Request) -> bytes:
    content, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        if size <= _MOST_BODY:
            content += part
        elif size > 2 * _MOST_BODY:
            break
    # Answered while it still sends, a client may see a broken connection instead: so as much again is read first.
    if size > _MOST_BODY:
        raise Refusal(413, "too_large", f"the request is larger than {_MOST_BODY // 2**20} MiB")
    return bytes(content)


def _feedback(content: bytes) -> tuple[str, float]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    query_id, score = (found.get("id"), found.get("score")) if isinstance(found, dict) else (None, None)
    if not isinstance(query_id, str) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise Refusal(
            400, "invalid_request", 'send {"id": the id of the answer, "score": a number from 0 to 1, or true or false}'
        )
    return query_id, float(score)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse(error.body, status_code=error.status)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse(Refusal(500, "router_failed", str(error)).body, status_code=500)


async def _not_there(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path[:80]}: there are POST /v1/chat/completions and GET /v1/models"
    return JSONResponse(Refusal(error.status_code, "not_found", what).body, status_code=error.status_code)
