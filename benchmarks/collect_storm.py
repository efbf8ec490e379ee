"""Does `recal-bench collect` lose or repeat anything when it is killed and its endpoint misbehaves?

    python benchmarks/collect_storm.py [--kills 100] [--documents 160] [--faults 429=0.1,...] [--collectors 1]

A quiet collection first, against an honest server. Then the same one in a storm: the server injects faults of every
kind, and the collector is killed (SIGKILL) at random instants, from its start to the writing of the outcomes file, and
started again, until all kills are done; then it may finish. With `--collectors 2`, two processes share the journal
and each kill takes one of them. Checked, and printed:

- the outcomes file equals that of the quiet collection, latencies and times of asking aside: scores, tokens, cost;
- nothing that the journal held at a kill was ever sent again (from the server's log of what it received);
- each kill left at most as many requests possibly billed as may be under way at once.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import pandas as pd
import yaml
from collect_throughput import served_pool

KINDS = (
    "429", "500", "503", "hang", "cut", "malformed", "truncated-utf8", "empty-choices", "wrong-model", "no-usage",
    "zero-usage", "error-200", "choice-error", "parts", "stream", "bom", "text-usage",
)  # fmt: skip
"""Every fault that says of itself that it is one, and every other form of the right reply.

A constant usage or hidden tokens are flagged, not asked again; a refusal, a call of a tool and a moderated prompt are
outcomes.
"""
TASKS = "nq,triviaqa,popqa,hotpotqa,2wiki,musique,bamboogle"
_TIMEOUT_S = 1.0
_CLI = [sys.executable, "-m", "recal_bench.cli"]


@dataclass
class Storm:
    """What a storm showed. `asked_again` must be empty, `differences` too."""

    kills: int = 0
    kills_while_asking: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    usd: float = 0.0
    quiet_usd: float = 0.0
    asked_again: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    most_in_doubt_after_a_kill: int = 0
    in_doubt: dict[str, int] = field(default_factory=dict)
    concurrency: int = 0


def collector(folder: Path, pool: Path, documents: int, tasks: str) -> subprocess.Popen[str]:
    options = ["--pool", str(pool), "--tasks", tasks, "--limit", str(documents), "--out", str(folder / "out.parquet")]
    return subprocess.Popen([*_CLI, "collect", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def held(journal: Path) -> set[str]:
    """The server's names of the requests that the journal has an answer to."""
    if not journal.exists():
        return set()
    with sqlite3.connect(journal, timeout=60) as database:
        try:
            bodies = database.execute("SELECT body FROM answers WHERE usage = 'reported'").fetchall()
        except sqlite3.OperationalError:  # Killed before it had made its tables.
            bodies = []
    database.close()
    return {json.loads(body)["id"].removeprefix("chatcmpl-")[:16] for (body,) in bodies}


def doubtful(journal: Path) -> dict[str, int]:
    """How many requests may have been billed without an answer, by reason; with those that are under way."""
    with sqlite3.connect(journal, timeout=60) as database:
        try:
            found = dict(database.execute("SELECT reason, count(*) FROM unsure GROUP BY reason"))
            found["under way"] = database.execute("SELECT count(*) FROM claims").fetchone()[0]
        except sqlite3.OperationalError:  # Killed before it had made its tables.
            found = {}
    database.close()
    return found


def finished(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"collect ended with {process.returncode}: {output}")
    return output


def storm(
    folder: Path,
    *,
    kills: int,
    documents: int,
    faults: str,
    tasks: str = TASKS,
    collectors: int = 1,
    concurrency: int = 32,
    latest_s: float = 8.0,
    seed: int = 0,
    latency_ms: float = 0.0,
) -> Storm:
    """Run both collections in `folder` and compare them. A kill comes at most `latest_s` after a start."""
    quiet, stormy = folder / "quiet", folder / "storm"
    quiet.mkdir()
    stormy.mkdir()
    with served_pool(quiet, concurrency, timeout_s=_TIMEOUT_S) as pool:
        finished(collector(quiet, pool, documents, tasks))
    found, draw = Storm(concurrency=concurrency), random.Random(seed)
    log, journal = stormy / "requests.jsonl", stormy / "out.journal"
    held_from: dict[str, int] = {}
    options = ["--faults", f"{faults},retry-after=0.05,seed={seed}", "--log", str(log), "--latency-ms", str(latency_ms)]
    with served_pool(stormy, concurrency, *options, timeout_s=_TIMEOUT_S) as pool:
        running = [collector(stormy, pool, documents, tasks) for _ in range(collectors)]
        while found.kills < kills:
            time.sleep(draw.uniform(0, latest_s))
            turn = found.kills % collectors
            victim = running[turn]
            if victim.poll() is None:
                victim.send_signal(signal.SIGKILL)
                victim.communicate()
                found.kills += 1
                _wait_for_what_was_sent(pool)
                _after_a_kill(log, journal, held_from, found)
            else:
                finished(victim)
            running[turn] = collector(stormy, pool, documents, tasks)
        for process in running:
            finished(process)
    _read_log(log, held_from, found)
    found.in_doubt = {reason: count for reason, count in doubtful(journal).items() if count}
    _compare(quiet / "out.parquet", stormy / "out.parquet", found)
    return found


def _wait_for_what_was_sent(pool: Path) -> None:
    """Until the server has read what the killed one had sent: on a busy machine it may lie before it for a second."""
    base_url = yaml.safe_load(pool.read_text(encoding="utf-8"))["endpoints"]["embedded"]["base_url"]
    for _ in range(2):
        with urlopen(f"{base_url}/models", timeout=60) as answer:
            answer.read()


def _after_a_kill(log: Path, journal: Path, held_from: dict[str, int], found: Storm) -> None:
    """What the journal holds now must not be received by the server from here on."""
    if not journal.exists():
        return
    under_way = doubtful(journal).get("under way", 0)
    found.kills_while_asking += under_way > 0
    found.most_in_doubt_after_a_kill = max(found.most_in_doubt_after_a_kill, under_way)
    answered = held(journal)
    size = log.stat().st_size
    for digest in answered:
        held_from.setdefault(digest, size)


def _read_log(log: Path, held_from: dict[str, int], found: Storm) -> None:
    position = 0
    with log.open("rb") as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["event"] == "received":
                found.faults[entry["fault"]] += 1
                if position >= held_from.get(entry["body"], sys.maxsize):
                    found.asked_again.append(entry["body"])
            position += len(line)


def _compare(quiet: Path, stormy: Path, found: Storm) -> None:
    left, right = pd.read_parquet(quiet), pd.read_parquet(stormy)
    found.rows, found.usd, found.quiet_usd = len(right), right["cost_usd"].sum(), left["cost_usd"].sum()
    timed = ["latency_s", "asked_at"]
    if len(left) != len(right):
        found.differences.append(f"{len(right)} rows instead of {len(left)}")
        return
    for column in left.columns.drop(timed):
        if not left[column].equals(right[column]):
            found.differences.append(column)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--documents", type=int, default=160, help="documents of each of the seven tasks")
    parser.add_argument("--faults", default=",".join(f"{kind}={0.4 / len(KINDS):.4f}" for kind in KINDS))
    parser.add_argument("--collectors", type=int, default=1)
    parser.add_argument("--latest", type=float, default=8.0, help="seconds from a start to the latest kill")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="of the server")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        found = storm(
            Path(name),
            kills=options.kills,
            documents=options.documents,
            faults=options.faults,
            collectors=options.collectors,
            latest_s=options.latest,
            latency_ms=options.latency_ms,
            seed=options.seed,
        )
    injected = {kind: count for kind, count in sorted(found.faults.items()) if kind != "ok"}
    seconds = time.monotonic() - start
    print(f"{found.kills} kills, {found.kills_while_asking} of them while requests were under way, {seconds:,.0f} s")
    print(f"{sum(injected.values()):,} faults: {', '.join(f'{kind} {count:,}' for kind, count in injected.items())}")
    print(f"{found.faults['ok']:,} honest answers for {found.rows:,} outcomes; in doubt: {found.in_doubt}")
    print(
        f"at most {found.most_in_doubt_after_a_kill} requests in doubt after one kill ({found.concurrency} at a time)"
    )
    print(f"cost {found.usd:.6f} USD, quiet {found.quiet_usd:.6f} USD")
    print(
        f"asked again although answered: {len(found.asked_again)}; columns that differ: {found.differences or 'none'}"
    )
    if found.asked_again or found.differences or round(found.usd, 2) != round(found.quiet_usd, 2):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
