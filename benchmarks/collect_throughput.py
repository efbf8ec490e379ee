"""How fast `recal-bench collect` is, beside bare loops over the same client library and the same server.

    python benchmarks/collect_throughput.py [--documents 250] [--concurrency 32] [--rounds 3]

One `recal-bench serve-pool` answers all of them, over HTTP on this machine. The bare loops send the same messages:
httpx alone, and the openai client, which also parses each reply. `collect` is measured end to end, from reading the
pool file to the finished outcomes file: tasks, prompts, journal, grading. A small round before the first does the
imports of each and is not counted. The order rotates from round to round.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from recal_bench.collection.asking import Progress
from recal_bench.collection.collect import Collection, Wanted, collect
from recal_bench.collection.journal import Journal
from recal_bench.collection.requests import Request
from recal_bench.collection.spending import Spending
from recal_bench.tasks import load_tasks

SHIPPED = Path(__file__).parent.parent / "pools" / "embedded.yaml"


@contextmanager
def served_pool(folder: Path, concurrency: int, *options: str, timeout_s: float = 30.0) -> Iterator[Path]:
    """A server in a process of its own; gives a pool file that points at it."""
    command = [sys.executable, "-m", "recal_bench.cli", "serve-pool", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found is not None
            pool = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
            pool["endpoints"]["embedded"] |= {"base_url": found[0], "concurrency": concurrency, "timeout_s": timeout_s}
            path = folder / "pool.yaml"
            path.write_text(yaml.safe_dump(pool), encoding="utf-8")
            yield path
        finally:
            server.terminate()


def wanted(folder: Path, pool: Path, documents: int) -> Wanted:
    limits = dict.fromkeys(("train", "validation", "test"), documents)
    return Wanted(pool, folder / "outcomes.parquet", tuple(load_tasks()), limits=limits)


def messages(folder: Path, pool: Path, documents: int) -> tuple[str, list[Request]]:
    """The address and the requests of the same collection."""
    collection = Collection(wanted(folder, pool, documents))
    return collection.pool.endpoints["embedded"].base_url, list(collection.requests(collection.arms.models))


async def loop(send: Callable[[Request], Awaitable[None]], requests: list[Request], concurrency: int) -> None:
    open_requests = iter(requests)

    async def work() -> None:
        for request in open_requests:
            await send(request)

    await asyncio.gather(*(work() for _ in range(concurrency)))


def body(request: Request) -> dict[str, object]:
    return {"model": request.model, "messages": [{"role": "user", "content": request.message}], **request.extra}


async def bare_httpx(url: str, requests: list[Request], concurrency: int) -> None:
    import httpx2

    async with httpx2.AsyncClient(timeout=60, limits=httpx2.Limits(max_connections=concurrency)) as client:

        async def send(request: Request) -> None:
            reply = await client.post(f"{url}/chat/completions", json=body(request))
            assert reply.json()["choices"]

        await loop(send, requests, concurrency)


async def bare_openai(url: str, requests: list[Request], concurrency: int) -> None:
    import openai

    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

        async def send(request: Request) -> None:
            reply = await client.chat.completions.create(
                model=request.model,
                messages=[{"role": "user", "content": request.message}],
                extra_body=request.extra,
            )
            assert reply.choices

        await loop(send, requests, concurrency)


def collected(folder: Path, pool: Path, documents: int, profile: bool) -> tuple[float, int]:
    """Seconds and outcomes of one collection in a fresh folder."""
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        profiler = cProfile.Profile()
        start = time.perf_counter()
        if profile:
            profiler.enable()
        plan = Collection(wanted(Path(fresh), pool, documents))
        journal = Journal(Path(fresh) / "journal")

        def tell(progress: Progress, spending: Spending) -> None:
            spending.usd_to_go(progress.left)

        rows = collect(plan, journal, tell=tell).graded.rows
        journal.close()
        if profile:
            profiler.disable()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(5)
        return time.perf_counter() - start, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100, help="documents of each of the seven tasks")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="print cProfile's top five of a collection, apart")
    options = parser.parse_args()
    rates: dict[str, list[float]] = {"httpx": [], "openai": [], "collect": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with served_pool(folder, options.concurrency) as pool:
            url, requests = messages(folder, pool, options.documents)
            print(f"{len(requests):,} requests a round, {options.concurrency} at a time")

            def seconds_of(each: str, documents: int, asked: list[Request]) -> float:
                if each == "collect":
                    seconds, rows = collected(folder, pool, documents, profile=False)
                    assert rows == len(asked)
                    return seconds
                start = time.perf_counter()
                asyncio.run((bare_httpx if each == "httpx" else bare_openai)(url, asked, options.concurrency))
                return time.perf_counter() - start

            few = messages(folder, pool, 1)[1]
            for each in rates:
                seconds_of(each, 1, few)
            for round_ in range(options.rounds):
                order = list(rates)[round_ % 3 :] + list(rates)[: round_ % 3]
                for each in order:
                    rates[each].append(len(requests) / seconds_of(each, options.documents, requests))
                    print(f"round {round_ + 1}: {each:8} {rates[each][-1]:8,.0f} requests/s", flush=True)
            if options.profile:
                collected(folder, pool, options.documents, profile=True)
    for each, values in rates.items():
        print(
            f"{each:8} median {statistics.median(values):8,.0f} requests/s ({min(values):,.0f} to {max(values):,.0f})"
        )
    ratios = [ours / bare for ours, bare in zip(rates["collect"], rates["openai"], strict=True)]
    print(f"collect / openai: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
