"""`recal-bench serve` in front of a pool that misbehaves, and what it adds to a request beside a plain proxy.

    python benchmarks/gateway.py [--requests 1000] [--concurrency 32] [--singles 200]

All over HTTP on this machine, each server in a process of its own. First the storm: the openai client, half of the
requests streamed, while the embedded pool (simulated) answers with 429, 500 and cut connections. Every answer's cost
is computed again from the pool file's prices; then each answer is scored, and `run` reads the log. Then the overhead:
the same requests one at a time to the pool itself, to a proxy that only passes bytes on, and to `serve`, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import aiohttp
import openai
import yaml

from recal_bench.pools.files import read_pool
from recal_bench.pools.pool import Pool
from recal_bench.scoring import exact_match
from recal_bench.simulation import embedded_questions

SHIPPED = Path(__file__).parent.parent / "pools" / "embedded.yaml"
FAULTS = "429=0.1,500=0.1,cut=0.1,retry-after=0.05"
EPSILON = 0.5
MODELS, STRATEGIES = ("brelune-8b", "corvale-8x22b"), ("direct", "cot")


class Got(NamedTuple):
    """An answer as the client saw it."""

    id: str
    arm: str
    text: str
    prompt_tokens: int
    completion_tokens: int


class Server(NamedTuple):
    """A server in a process of its own."""

    url: str
    pid: int

    def processor_ms(self) -> float:
        """Processor time that it has used so far (Linux)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return 1e3 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def started(*command: str) -> Iterator[Server]:
    """A server, at the address that its first line names."""
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found is not None, "the server did not start"
            yield Server(found[0], server.pid)
        finally:
            server.terminate()


def recal_bench(*words: str | Path) -> str:
    command = [sys.executable, "-m", "recal_bench.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def fitted(folder: Path, router: str) -> Path:
    """A run on what `collect` gets from a few arms: a log of single choices says more of few arms than of many."""
    with started("-m", "recal_bench.cli", "serve-pool", "--port", "0") as upstream:
        pool = pool_file(folder / "collect.yaml", upstream.url)
        arms = ("--models", ",".join(MODELS), "--strategies", ",".join(STRATEGIES))
        limits = ("--splits", "train,validation,test", "--limit", "train=150,validation=50,test=50")
        recal_bench("collect", "--pool", pool, *arms, *limits, "--out", folder / "outcomes.parquet")
    recal_bench("run", "--router", router, "--outcomes", folder / "outcomes.parquet", "--runs", folder / "runs")
    (run,) = (folder / "runs").glob(f"{router}-*")
    return run


def pool_file(path: Path, upstream: str) -> Path:
    """The embedded pool's file with another address."""
    pool = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    pool["endpoints"]["embedded"] |= {"base_url": upstream}
    path.write_text(yaml.safe_dump(pool), encoding="utf-8")
    return path


@contextmanager
def serving(folder: Path, name: str, run: Path, faults: str, *options: str) -> Iterator[tuple[Server, Server]]:
    """The embedded pool and `serve` in front of it."""
    with ExitStack() as stack:
        upstream = stack.enter_context(
            started("-m", "recal_bench.cli", "serve-pool", "--port", "0", "--faults", faults)
        )
        pool = pool_file(folder / f"{name}.yaml", upstream.url)
        words = ("-m", "recal_bench.cli", "serve", "--run", str(run), "--pool", str(pool), "--port", "0", *options)
        yield upstream, stack.enter_context(started(*words))


async def ask(client: openai.AsyncOpenAI, prompt: str, task: str, stream: bool) -> Got:
    asked: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
    asked["extra_headers"] = {"x-recal-task": task}
    if not stream:
        reply = await client.chat.completions.create(**asked)
        text, usage = reply.choices[0].message.content or "", reply.usage
        return Got(reply.id, reply.model, text, usage.prompt_tokens, usage.completion_tokens)
    text, last = "", None
    async for chunk in await client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    ):
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        last = chunk
    return Got(last.id, last.model, text, last.usage.prompt_tokens, last.usage.completion_tokens)


async def storm(url: str, questions: list[Any], concurrency: int) -> tuple[list[Got | None], Counter[str]]:
    """Every question once, half of them streamed; an error is counted by its kind."""
    answers: list[Got | None] = [None] * len(questions)
    errors: Counter[str] = Counter()
    rows = iter(range(len(questions)))
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

        async def work() -> None:
            for row in rows:
                try:
                    answers[row] = await ask(client, questions[row].prompt, questions[row].task, stream=row % 2 == 0)
                except openai.APIStatusError as error:
                    errors[f"{error.status_code} {error.code}"] += 1
                except openai.APIError as error:  # within a stream
                    errors[f"in a stream: {error.code}"] += 1

        await asyncio.gather(*(work() for _ in range(concurrency)))
    return answers, errors


def drawn(count: int) -> list[Any]:
    """Questions of all tasks."""
    return Random(0).sample(embedded_questions(0), count)


def price(pool: Pool, got: Got) -> float:
    return pool.models[got.arm.partition("|")[0]].price.usd(got.prompt_tokens, got.completion_tokens)


async def send_feedback(url: str, pool: Pool, questions: list[Any], answers: list[Got | None]) -> int:
    """Score every answer as `collect` would; the number that the log knew."""
    known = 0
    async with aiohttp.ClientSession() as session:
        for question, got in zip(questions, answers, strict=True):
            if got is not None:
                said = pool.strategies[got.arm.partition("|")[2]].answer(got.text)
                body = {"id": got.id, "score": exact_match(said, question.gold)}
                async with session.post(f"{url}/feedback", json=body) as response:
                    known += response.status == 200
    return known


def show_storm(folder: Path, run: Path, n_requests: int, concurrency: int) -> None:
    questions = drawn(n_requests)
    log = folder / "traffic.jsonl"
    with serving(folder, "storm", run, FAULTS, "--log", str(log), "--epsilon", str(EPSILON)) as (_, server):
        url, pool = server.url, read_pool(folder / "storm.yaml")
        begin = time.perf_counter()
        answers, errors = asyncio.run(storm(url, questions, concurrency))
        took = time.perf_counter() - begin
        known = asyncio.run(send_feedback(url, pool, questions, answers))
    rows = {row["query_id"]: row for path in folder.glob("traffic*.jsonl") for row in read_lines(path)}
    got = [each for each in answers if each is not None]
    wrong = [each for each in got if abs(rows[each.id]["cost_usd"] - price(pool, each)) > 1e-15]
    reasons = (row["why_apart"] for row in rows.values() if "why_apart" in row)
    apart = dict(Counter(re.sub(r".* was chosen", "an arm was chosen", each) for each in reasons))
    silent = n_requests - len(got) - errors.total()
    print(f"Storm: {n_requests:,} requests, {concurrency} at a time, half streamed; faults {FAULTS}")
    print(f"  answered {len(got):,}; errors {dict(errors) or 0}; without either {silent}")
    print(f"  {took:.1f} s, {n_requests / took:.0f} requests/s")
    print(f"  cost by the log {sum(rows[each.id]['cost_usd'] for each in got):.10f} USD")
    print(f"  cost by the price book {sum(price(pool, each) for each in got):.10f} USD; rows that differ: {len(wrong)}")
    print(f"  rows {len(rows):,}, {len(read_lines(log)):,} of them in the log; apart: {apart}; scores: {known:,}")
    validated = recal_bench("validate", log)
    print("  validate:", next(line for line in validated.splitlines() if "single choices" in line))
    ran = recal_bench("run", "--router", "ridge", "--outcomes", log, "--runs", folder / "again", "--seeds", "1")
    shown = [line for line in ran.splitlines() if re.match(r"\W*(router|logged|ridge|best-single)\b", line)]
    print("  run on the log:", *shown, sep="\n    ")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


async def taken(session: aiohttp.ClientSession, url: str, body: bytes) -> float:
    begin = time.perf_counter()
    async with session.post(f"{url}/chat/completions", data=body) as response:
        content = await response.read()
    assert response.status == 200, content
    return (time.perf_counter() - begin) * 1e3


async def overhead(
    folder: Path, upstream: Server, proxy: Server, server: Server, prompts: list[str]
) -> dict[str, list[float]]:
    """Milliseconds of each request, in turns, of whole replies and of streams."""
    times: dict[str, list[float]] = {}
    pool, url = read_pool(folder / "quiet.yaml"), server.url
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:
        for turn, prompt in enumerate(prompts):
            routed = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
            async with session.post(f"{url}/chat/completions", json=routed) as response:
                model, _, strategy = (await response.json())["model"].partition("|")
            message = pool.strategies[strategy].message(prompt)
            plain = {"model": model, "messages": [{"role": "user", "content": message}]}
            for stream in (False, True):
                more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
                targets = [
                    ("the pool itself", upstream.url, plain),
                    ("plain proxy", proxy.url, plain),
                    ("serve", url, routed),
                ]
                for name, target, body in targets[turn % 3 :] + targets[: turn % 3]:
                    key = f"{name}{', streamed' if stream else ''}"
                    times.setdefault(key, []).append(await taken(session, target, json.dumps(body | more).encode()))
    return times


def show_overhead(folder: Path, run: Path, singles: int) -> None:
    prompts = [question.prompt for question in drawn(singles + 10)]
    with (
        serving(folder, "quiet", run, "", "--log", str(folder / "quiet.jsonl")) as (upstream, server),
        started(__file__, "--proxy", upstream.url) as proxy,
    ):
        asyncio.run(overhead(folder, upstream, proxy, server, prompts[:10]))
        before = [each.processor_ms() for each in (proxy, server)]
        times = asyncio.run(overhead(folder, upstream, proxy, server, prompts[10:]))
        used = [each.processor_ms() - its for each, its in zip((proxy, server), before, strict=True)]
        metrics = asyncio.run(fetched(server.url.replace("/v1", "/metrics")))
    print(f"\nOverhead: {singles} requests one at a time, in turns (milliseconds)")
    print(f"  {'':28} {'median':>8} {'p95':>8} {'median more than the proxy':>28}")
    for name in sorted(times, key=lambda name: (name.endswith("streamed"), name)):
        each = sorted(times[name])
        other = times["plain proxy, streamed" if name.endswith("streamed") else "plain proxy"]
        more = statistics.median(mine - its for mine, its in zip(times[name], other, strict=True))
        print(f"  {name:28} {statistics.median(each):8.2f} {each[int(0.95 * len(each))]:8.2f} {more:28.2f}")
    total, count = (
        float(re.search(rf"^recal_bench_routing_seconds_{what} (\S+)", metrics, re.MULTILINE)[1])
        for what in ("sum", "count")
    )
    # `serve` gets a third request for each prompt, which tells the arm.
    print(f"  processor time a request: proxy {used[0] / singles / 2:.2f}, serve {used[1] / singles / 3:.2f}")
    print(f"  the router alone, on average (/metrics): {total / count * 1e3:.2f}")
    print(f"  load of the machine (1 minute, {os.cpu_count()} processors): {os.getloadavg()[0]:.1f}")


async def fetched(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()


def run_proxy(upstream: str) -> None:
    """Starlette and aiohttp, as `serve` has them, and nothing in between: bytes in, bytes out."""
    import socket
    from contextlib import asynccontextmanager

    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    sessions: list[aiohttp.ClientSession] = []

    @asynccontextmanager
    async def living(app: Starlette) -> Any:
        async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:
            sessions.append(session)
            yield

    async def passed_on(request: Request) -> StreamingResponse:
        response = await sessions[0].post(f"{upstream}/chat/completions", data=await request.body())
        return StreamingResponse(response.content.iter_any(), response.status, media_type=response.content_type)

    app = Starlette(routes=[Route("/v1/chat/completions", passed_on, methods=["POST"])], lifespan=living)
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.bind(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{bound.getsockname()[1]}/v1", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False)).run([bound])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--singles", type=int, default=200)
    parser.add_argument("--router", default="ridge", help="one that reads TF-IDF, as most do by default")
    parser.add_argument("--proxy", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.proxy:
        run_proxy(options.proxy)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = fitted(folder, options.router)
        arms = f"{', '.join(MODELS)} x {', '.join(STRATEGIES)}"
        print(f"Router {options.router}, fitted on outcomes of {arms} (simulated)\n")
        show_storm(folder, run, options.requests, options.concurrency)
        show_overhead(folder, run, options.singles)


if __name__ == "__main__":
    main()
