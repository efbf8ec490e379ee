"""A headless Chromium, driven through the DevTools protocol: loads pages, evaluates expressions, takes pictures."""

import asyncio
import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOUND = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--remote-debugging-port=0",
)  # fmt: skip
_PATIENCE = 30.0


class Page:
    """One tab. `errors` holds what the console and the page complained about, `requests` every address asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: Any) -> None:
        self._loop, self._socket, self._number = loop, socket, 0
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._events: set[str] = set()
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, params), _PATIENCE))

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            message = await self._next()
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    async def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads((await self._socket.receive()).data)
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        if method:
            self._events.add(method)
        return message

    def open(self, address: str, width: int = 1280, height: int = 900) -> None:
        """Load an address and wait for it. Errors and requests are those from here on."""
        self.resize(width, height)
        self.errors.clear()
        self.requests.clear()
        self._events.discard("Page.loadEventFired")
        self.call("Page.navigate", url=address)
        self._loop.run_until_complete(asyncio.wait_for(self._loaded(), _PATIENCE))

    async def _loaded(self) -> None:
        while "Page.loadEventFired" not in self._events:
            await self._next()

    def resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, media: str = "", **features: str) -> None:
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", media=media, features=named)

    def run(self, expression: str) -> Any:
        """The value of an expression; a promise is awaited."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        self.run(
            f"new Promise((done) => {{ const look = () => ({expression}) ? done() : setTimeout(look, 10); look(); }})"
        )

    def press(self, key: str) -> None:
        texts = {"Enter": "\r", " ": " "}
        for kind in ("keyDown", "keyUp"):
            text = {"text": texts[key]} if key in texts and kind == "keyDown" else {}
            codes = {"Enter": 13, "Escape": 27, "Tab": 9, " ": 32}
            code = {"windowsVirtualKeyCode": codes[key]}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key if key != " " else "Space", **code, **text)

    def picture(self, path: Path, whole: bool = False) -> None:
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """One tab of a new browser, which ends with the block."""
    import aiohttp

    assert FOUND is not None
    command = [FOUND, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    loop = asyncio.new_event_loop()
    try:
        port = next(found[1] for line in process.stderr if (found := re.search(r"ws://127\.0\.0\.1:(\d+)/", line)))

        async def connect() -> tuple[Any, Any]:
            session = aiohttp.ClientSession()
            async with session.get(f"http://127.0.0.1:{port}/json/list") as reply:
                tabs = await reply.json()
            address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            return session, await session.ws_connect(address, max_msg_size=0)

        session, socket = loop.run_until_complete(connect())
        try:
            yield Page(loop, socket)
        finally:
            loop.run_until_complete(socket.close())
            loop.run_until_complete(session.close())
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()
        loop.close()
