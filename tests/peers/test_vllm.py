"""`collect` against a real vLLM, as a server and as lm-eval's backend: see docs/vllm.md for an environment that has it.

RECAL_BENCH_VLLM names the python of that environment; without it all is skipped. A server takes half a minute to start.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from collection.tiny_model import write_tiny_model

from recal_bench.cli import cli

PYTHON = os.environ.get("RECAL_BENCH_VLLM", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="RECAL_BENCH_VLLM names no python with vllm: see docs/vllm.md")

LIMIT, LONGEST, PATIENCE_S = 24, 512, 1800
ENVIRONMENT = os.environ | {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "OMP_NUM_THREADS": "1",
}
TOLD = ["prompt_tokens", "completion_tokens", "finish_reason", "response", "cost_usd"]


class Server:
    """vLLM's server with a model of random weights, in a process group of its own."""

    def __init__(self, model: Path, log: Path) -> None:
        self.model, self._log = model, log
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        options = (
            f"--host 127.0.0.1 --port {self.port} --dtype float32 --max-model-len {LONGEST} --enforce-eager "
            "--enable-prompt-tokens-details --served-model-name tiny"
        )
        command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(self.model), *options.split()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=ENVIRONMENT, cwd=self._log.parent, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self._healthy():
            assert self._process.poll() is None, self._log.read_text(encoding="utf-8", errors="replace")[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.5)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """The server and its engine, which outlives it otherwise."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("vllm")
    server = Server(write_tiny_model(folder / "tiny", context_length=LONGEST), folder / "log.txt")
    try:
        server.start()
        yield server
    finally:
        server.kill()


class Desk:
    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server, self.out = folder, server, folder / "outcomes.parquet"
        self.pool()
        self.ask(5)

    def ask(self, count: int, *more: str) -> None:
        for task in ("nq", "popqa"):
            questions = [f"Who wrote the {task} book {number}?" for number in range(count)] + list(more)
            entries = [
                {"id": f"{task}-{row}", "question": each, "golden_answers": ["me"]}
                for row, each in enumerate(questions)
            ]
            text = "".join(json.dumps(entry) + "\n" for entry in entries)
            self.folder.joinpath(f"{task}.jsonl").write_text(text, encoding="utf-8")

    def pool(self, **changes: Any) -> None:
        model = {
            "endpoint": "here",
            "served_model": "tiny",
            "price": {"date": "2025-06-10", "input": 1.0, "output": 2.0, "cached": 0.5},
            "context_length": LONGEST,
            "sampling": {"temperature": 0.0, "max_tokens": LIMIT},
            "tokenizer": f"hf:{self.server.model}",
        }
        pool = {
            "pool": "tiny",
            "questions": str(self.folder),
            "endpoints": {"here": {"base_url": self.server.base_url, "api_key_env": None, "concurrency": 8}},
            "models": {"tiny": model | changes},
        }
        (self.folder / "pool.yaml").write_text(yaml.safe_dump(pool), encoding="utf-8")

    def words(self, *options: str) -> list[str]:
        words = ["collect", "--pool", str(self.folder / "pool.yaml"), "--out", str(self.out)]
        return [*words, "--tasks", "nq,popqa", "--strategies", "direct,cot", *options]

    def run(self, *options: str) -> Result:
        result = CliRunner().invoke(cli, self.words(*options))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def collected(self, *options: str) -> pd.DataFrame:
        result = self.run(*options)
        assert result.exit_code == 0, result.output
        return pd.read_parquet(self.out)


@pytest.fixture
def desk(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "cache"))
    return Desk(tmp_path, server)


def one_line(result: Result) -> str:
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


def test_the_server_and_lm_eval_with_transformers_say_the_same(desk: Desk) -> None:
    served = desk.collected()
    assert set(served["usage"]) == {"reported"}
    assert set(served["served_model"]) == {"tiny"}
    assert set(served["finish_reason"]) == {"stop", "length"}
    pytest.importorskip("accelerate")
    desk.pool(served_model=str(desk.server.model))
    desk.out.unlink()
    here = desk.collected("--backend", "lm-eval:hf", "--journal", str(desk.folder / "hf.journal"))
    pd.testing.assert_frame_equal(served[TOLD], here[TOLD])


def test_cached_prompt_tokens_are_reported_and_priced(desk: Desk) -> None:
    desk.ask(0, *("x" * 300 + f" {number}" for number in range(4)))
    frame = desk.collected()
    assert frame["cached_tokens"].max() >= 128
    unpaid = 0.5 * frame["cached_tokens"]
    paid = 1e-6 * (frame["prompt_tokens"] - unpaid + 2.0 * frame["completion_tokens"])
    assert frame["cost_usd"].tolist() == pytest.approx(paid.tolist())


def test_another_name_is_not_found(desk: Desk) -> None:
    desk.pool(served_model="tinny")
    line = one_line(desk.run())
    assert "404" in line
    assert "`tinny` does not exist" in line


def test_a_prompt_that_is_too_long_is_refused_and_the_others_are_kept(desk: Desk) -> None:
    desk.ask(3, "y" * 2 * LONGEST)
    result = desk.run()
    assert "12 of 16 outcomes" in one_line(result)
    assert f"400: This model's maximum context length is {LONGEST} tokens" in result.output
    assert set(pd.read_parquet(desk.out)["query_id"]) == {
        f"{task}-{row}" for task in ("nq", "popqa") for row in range(3)
    }


def _answers(journal: Path) -> int:
    if not journal.exists():
        return 0
    with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as database:
        try:
            return int(database.execute("SELECT count(*) FROM answers").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def test_a_server_that_is_killed_and_started_again_loses_nothing(desk: Desk) -> None:
    desk.ask(200)
    command = [sys.executable, "-m", "recal_bench.cli", *desk.words()]
    collecting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    journal = desk.out.with_suffix(".journal")
    while _answers(journal) < 40:
        assert collecting.poll() is None
        time.sleep(0.05)
    desk.server.kill()
    said, _ = collecting.communicate(timeout=PATIENCE_S)
    assert collecting.returncode == 2, said
    assert "the same command goes on" in said
    kept = _answers(journal)
    assert 40 <= kept < 800
    desk.server.start()
    again = desk.run()
    assert again.exit_code == 0, again.output
    assert f"{800 - kept} asked now" in again.output
    assert "may have been billed twice: cut" in again.output
    frame = pd.read_parquet(desk.out)
    assert len(frame) == 800
    assert set(frame["usage"]) == {"reported"}


def test_lm_evals_vllm_says_the_same_as_its_server(desk: Desk) -> None:
    needed = "import lm_eval, recal_bench; from importlib.metadata import version; version('vllm')"
    if subprocess.run([PYTHON, "-c", needed], capture_output=True, check=False).returncode:
        pytest.skip("the environment of RECAL_BENCH_VLLM has no recal-bench with lm-eval, or no package named vllm")
    served = desk.collected()
    arguments = {"dtype": "float32", "max_model_len": LONGEST, "enforce_eager": True}
    desk.pool(served_model=str(desk.server.model), lm_eval_args=arguments)
    desk.out.unlink()
    options = ["--backend", "lm-eval:vllm", "--journal", str(desk.folder / "vllm.journal")]
    command = [PYTHON, "-m", "recal_bench.cli", *desk.words(*options)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=desk.folder, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    here = pd.read_parquet(desk.out)
    assert set(here["usage"]) == {"counted"}
    alike = ["prompt_tokens", "completion_tokens", "finish_reason", "response"]
    pd.testing.assert_frame_equal(served[alike], here[alike])
