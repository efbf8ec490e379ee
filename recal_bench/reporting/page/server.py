"""Serves one folder to this machine alone."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from recal_bench.errors import SettingsError

_HOST = "127.0.0.1"


def page_server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of a folder on loopback, not started yet; port 0 takes a free one.

    Raises SettingsError where the port is taken.
    """
    try:
        return ThreadingHTTPServer((_HOST, port), partial(_Files, directory=str(folder)))
    except OSError as error:
        raise SettingsError(
            f"port {port} is taken ({error.strerror}): name another one, or none for a free one"
        ) from error


class _Files(SimpleHTTPRequestHandler):
    def send_head(self) -> Any:
        # Another site's name that is made to resolve to loopback must not read what is served here.
        name = self.headers.get("Host", "").rpartition(":")[0]
        if name not in (_HOST, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN)
            return None
        return super().send_head()

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""
