"""Serving a gateway: the socket, the signals, and a server in a thread for tests and notebooks."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from recal_bench.errors import RecalBenchError, SettingsError

try:
    import uvicorn

    from recal_bench.gateway.app import make_app
    from recal_bench.gateway.gateway import Gateway, Settings
    from recal_bench.gateway.guard import is_loopback
except ModuleNotFoundError as error:
    raise SettingsError(
        f"{error.name} is not installed: it comes with recal-bench[serve], which is pip install '.[serve]' in a "
        "checkout"
    ) from error

_BACKLOG = 2_048
_SHUTDOWN_S = 30
"""How long requests that are under way are waited for when the server ends."""


def check_host(host: str, remote: bool, key: str | None) -> None:
    """Raises SettingsError where a server would let other machines in without being told to, or without a key."""
    if is_loopback(host):
        return
    if not remote:
        raise SettingsError(
            f"--host {host} lets other machines ask your models: if you mean it, give --allow-remote and --key-env NAME"
        )
    if key is None:
        raise SettingsError(f"--host {host} needs a key: put one into an environment variable and give --key-env NAME")


def serve(
    settings: Settings, host: str, port: int, ready: Callable[[str, Gateway], None], tell: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM; SIGHUP reloads the run. `ready` is told the base URL, `tell` what happens later.

    Requests under way are finished first; a second signal ends them. Raises RecalBenchError where it cannot be served.
    """
    with _bound(host, port) as bound:
        gateway = Gateway(settings)
        tasks: set[asyncio.Task[None]] = set()

        def started() -> None:
            loop = asyncio.get_running_loop()
            with suppress(NotImplementedError, AttributeError):  # Windows
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.add_signal_handler(number, server.handle_exit, number, None)
                loop.add_signal_handler(signal.SIGHUP, lambda: tasks.add(loop.create_task(_reload(gateway, tell))))
            ready(_base_url(host, bound), gateway)

        server = _Server(_configuration(gateway, host, started))
        with suppress(KeyboardInterrupt):
            server.run([bound])


@contextmanager
def running_gateway(settings: Settings) -> Iterator[tuple[str, Gateway]]:
    """A gateway in a thread, on a free loopback port; gives its base URL. For tests and notebooks."""
    with _bound("127.0.0.1", 0) as bound:
        gateway = Gateway(settings)
        started = Event()
        server = _Server(_configuration(gateway, "127.0.0.1", started.set))
        thread = Thread(target=server.run, args=([bound],), daemon=True, name="serve")
        thread.start()
        started.wait()
        try:
            yield _base_url("127.0.0.1", bound), gateway
        finally:
            server.should_exit = True
            thread.join()


class _Server(uvicorn.Server):
    """Leaves the signals to `serve`: uvicorn would raise them again when it has ended in good order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _reload(gateway: Gateway, tell: Callable[[str], None]) -> None:
    try:
        tell(f"reloaded: {await gateway.reload()}")
    except RecalBenchError as error:
        tell(f"not reloaded: {error}; the router of before goes on")


def _configuration(gateway: Gateway, host: str, started: Callable[[], None]) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(gateway, host, started),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )


def _base_url(host: str, bound: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}/v1"


def _bound(host: str, port: int) -> socket.socket:
    # With the protocol named, asyncio sends small parts at once: else each waits for the client's acknowledgement.
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(_BACKLOG)
        return bound
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(
                f"port {port} of {host} is in use: choose another with --port (0 takes a free one)"
            ) from error
        reason = error.strerror or str(error)
        raise SettingsError(f"cannot listen at {host}, port {port} ({reason}): check --host and --port") from error
