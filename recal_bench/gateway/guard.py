"""Who may ask: the key, and on loopback nobody but programs of this machine."""

from __future__ import annotations

import hmac
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from recal_bench.gateway.refusals import Refusal

OPEN = ("/health",)
"""What needs no key."""


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Refuses requests before anything is done. `local`: it is bound to loopback.

    A page in a browser of this machine can reach loopback too. It cannot send JSON to another site unasked, and its
    site's name, if made to resolve to loopback, shows in `Host`.
    """

    def __init__(self, app: ASGIApp, key: str | None, local: bool) -> None:
        self._app, self._key, self._local = app, None if key is None else key.encode(), local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope["method"], scope["path"], Headers(scope=scope))
            except Refusal as refusal:
                await JSONResponse(refusal.body, status_code=refusal.status)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, method: str, path: str, headers: Headers) -> None:
        if self._local and not is_loopback(_name_of(headers.get("host", ""))):
            raise Refusal(403, "forbidden", "this server is asked by the name of this machine: localhost or 127.0.0.1")
        if self._key is not None and path not in OPEN:
            scheme, _, sent = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(sent.strip().encode("utf-8", "surrogateescape"), self._key)
            if scheme.lower() != "bearer" or not right:
                raise Refusal(401, "invalid_api_key", "the key is missing or wrong: send `Authorization: Bearer KEY`")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if method == "POST" and kind != "application/json":
            raise Refusal(415, "not_json", "send JSON, with the header `Content-Type: application/json`")


def _name_of(host: str) -> str:
    """The name in a Host header, without the port."""
    return host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
