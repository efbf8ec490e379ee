"""A gateway on real HTTP, before an endpoint that answers as a test says."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from collection.own_endpoint import TEXT, Asked, Respond, own_endpoint, reply

from recal_bench.gateway.gateway import Gateway, Settings
from recal_bench.gateway.server import running_gateway
from recal_bench.pools.files import read_pool

MODELS = ("atlas", "codex-iuris")


class Response(NamedTuple):
    """What a server sent back."""

    status: int
    headers: Message
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)


def fetch(url: str, content: bytes | None, headers: dict[str, str]) -> Response:
    asked = urllib.request.Request(url, content, headers)
    try:
        with urllib.request.urlopen(asked, timeout=30) as response:
            return Response(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Response(error.code, error.headers, error.read())


class Front(NamedTuple):
    """A gateway, its address, and what its endpoint was asked."""

    url: str
    gateway: Gateway
    asked: list[Asked]

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} | (headers or {})
        return fetch(self.url.replace("/v1", "") + path, content, given)

    def get(self, path: str, headers: dict[str, str] | None = None) -> Response:
        return fetch(self.url.replace("/v1", "") + path, None, headers or {})

    def ask(self, prompt: str = "which river?", **more: Any) -> Response:
        body = {"model": "auto", "messages": [{"role": "user", "content": prompt}]} | more
        return self.post("/v1/chat/completions", body)

    def rows(self, apart: bool = False) -> list[dict[str, Any]]:
        assert self.gateway.log is not None
        path = self.gateway.log.apart if apart else self.gateway.log.path
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def metrics(self) -> str:
        return self.get("/metrics").text


def pool_file(folder: Path, base_url: str, **endpoint: Any) -> Path:
    models = {
        name: {
            "endpoint": f"of-{name}",
            "served_model": name,
            "price": {"date": "2026-11-01", "input": 1.0 + number, "output": 2.0 + number},
            "context_length": 8192,
            "tokenizer": "words",
        }
        for number, name in enumerate(MODELS)
    }
    entry = {"base_url": base_url, "api_key_env": None, "concurrency": 8, "timeout_s": 20} | endpoint
    pool = {"pool": "p", "endpoints": {f"of-{name}": entry for name in MODELS}, "models": models}
    path = folder / "pool.yaml"
    path.write_text(yaml.safe_dump(pool), encoding="utf-8")
    return path


@contextmanager
def front(folder: Path, run: Path, respond: Respond | None = None, **settings: Any) -> Iterator[Front]:
    """A gateway that logs to `log.jsonl` in a folder."""
    endpoint = settings.pop("endpoint", {})
    with own_endpoint(respond or right) as (base_url, asked):
        pool = read_pool(pool_file(folder, base_url, **endpoint))
        given = Settings(run, pool, **({"log": folder / "log.jsonl"} | settings))
        with running_gateway(given) as (url, gateway):
            yield Front(url, gateway, asked)


def right(asked: Asked) -> tuple[int, Any]:
    """A right reply, streamed where that is asked for."""
    if asked.body.get("stream"):
        return 200, stream_of(asked), {"Content-Type": "text/event-stream"}
    return 200, reply(asked)


def stream_of(asked: Asked, texts: tuple[str, ...] = (TEXT[:9], TEXT[9:]), end: bool = True) -> bytes:
    head = {"id": "x", "model": asked.model, "object": "chat.completion.chunk"}
    deltas = [{"role": "assistant", "content": ""}, *({"content": text} for text in texts)]
    chunks: list[Any] = [head | {"choices": [{"index": 0, "delta": each, "finish_reason": None}]} for each in deltas]
    if end:
        chunks.append(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        chunks.append(head | {"choices": [], "usage": reply(asked)["usage"]})
    lines = [f"data: {json.dumps(each)}" for each in chunks] + (["data: [DONE]"] if end else [])
    return "".join(f"{line}\n\n" for line in lines).encode()


def events(response: Response) -> list[Any]:
    found = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in found]
