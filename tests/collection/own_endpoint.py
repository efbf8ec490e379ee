"""An endpoint that answers as a test says, over real HTTP, and a desk that collects from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any, NamedTuple

import pandas as pd
import yaml
from click.testing import CliRunner, Result

from recal_bench.cli import cli

TEXT = "Thinking it over.\nAnswer: Paris"


class Asked(NamedTuple):
    """A request as it came; `number` counts from 1."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def message(self) -> str:
        return str(self.body["messages"][0]["content"])


Respond = Callable[[Asked], tuple[int, Any] | tuple[int, Any, dict[str, str]]]


def reply(asked: Asked, **changes: Any) -> dict[str, Any]:
    """A right reply, whose tokens are words; `message`, `choice` and `usage` change its parts."""
    message = {"role": "assistant", "content": TEXT} | changes.pop("message", {})
    choice = {"index": 0, "message": message, "finish_reason": "stop"} | changes.pop("choice", {})
    prompt, completion = len(asked.message.split()), len(TEXT.split())
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    usage |= changes.pop("usage", {})
    return {"id": "x", "model": asked.model, "choices": [choice], "usage": usage} | changes


@contextmanager
def own_endpoint(respond: Respond) -> Iterator[tuple[str, list[Asked]]]:
    """Gives the base URL, and all that was asked. A body that is neither bytes nor text is sent as JSON."""
    requests: list[Asked] = []
    lock = Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                asked = Asked(len(requests) + 1, self.path, dict(self.headers), body)
                requests.append(asked)
            status, said, *more = respond(asked)
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(more[0] if more else {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            try:
                self.wfile.write(data)
            except ConnectionError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None: ...

    with Server(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", requests
        finally:
            server.shutdown()


class Desk:
    """A folder with questions, a pool file that points at an endpoint, and the command."""

    def __init__(self, folder: Path, base_url: str, models: str = "m", questions: int = 4, **endpoint: Any) -> None:
        self.folder, self.out = folder, folder / "o.parquet"
        self.entry: dict[str, Any] = {"base_url": base_url, "api_key_env": None, "concurrency": 2, "timeout_s": 20}
        self.entry |= endpoint
        self.models: dict[str, dict[str, Any]] = {
            name: {
                "endpoint": "e",
                "served_model": name,
                "price": {"date": "2026-11-01", "input": 1.0, "output": 2.0},
                "context_length": 8192,
                "tokenizer": "words",
            }
            for name in models.split()
        }
        self.strategies: dict[str, dict[str, Any]] = {}
        self.ask([f"What is the capital of country number {each}?" for each in range(questions)])

    def ask(self, questions: list[str]) -> None:
        entries = [{"id": str(n), "question": each, "golden_answers": ["Paris"]} for n, each in enumerate(questions)]
        (self.folder / "nq.jsonl").write_text("".join(json.dumps(each) + "\n" for each in entries), encoding="utf-8")

    def words(self, *options: str) -> list[str]:
        pool: dict[str, Any] = {"pool": "p", "endpoints": {"e": self.entry}, "models": self.models}
        pool |= {"strategies": self.strategies} if self.strategies else {}
        (self.folder / "pool.yaml").write_text(yaml.safe_dump(pool, sort_keys=False), encoding="utf-8")
        words = ["collect", "--pool", str(self.folder / "pool.yaml"), "--questions", str(self.folder), "--tasks", "nq"]
        return [*words, "--strategies", "direct", "--out", str(self.out), *options]

    def collect(self, *options: str) -> Result:
        result = CliRunner().invoke(cli, self.words(*options))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def collected(self, *options: str) -> pd.DataFrame:
        """The outcomes, of a collection that gets all of them."""
        result = self.collect(*options)
        assert result.exit_code == 0, result.output
        return self.frame

    @property
    def frame(self) -> pd.DataFrame:
        return pd.read_parquet(self.out)


def error_of(result: Result) -> str:
    """The error: exit code 2 and one line, the last."""
    assert result.exit_code == 2, result.output
    *_, last = result.output.splitlines()
    assert last.startswith("Error: "), result.output
    assert sum(line.startswith("Error: ") for line in result.output.splitlines()) == 1
    return last
