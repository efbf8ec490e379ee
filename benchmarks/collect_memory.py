"""How much memory `recal-bench collect` takes over a long collection.

    python benchmarks/collect_memory.py [--outcomes 1000000]

All questions of the embedded world, its six models, and as many strategies as it takes; they say the same and differ in
their token limit, which makes them different requests. Printed: the collector's resident memory on the way, its peak
while asking, and its peak after the outcomes file is written; the server runs in a process of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import yaml
from collect_throughput import served_pool

from recal_bench.collection.asking import Progress
from recal_bench.collection.collect import Collection, Wanted, collect
from recal_bench.collection.journal import Journal
from recal_bench.collection.spending import Spending
from recal_bench.pools.strategies import STRATEGIES
from recal_bench.tasks import load_tasks

QUESTIONS, MODELS = 11_900, 6


def megabytes(name: str) -> float:
    """`VmRSS`, the resident memory, or `VmHWM`, its peak."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outcomes", type=int, default=1_000_000)
    options = parser.parse_args()
    direct = STRATEGIES["direct"]
    own = {
        f"direct-{index}": {
            "description": direct.description,
            "instruction": direct.instruction,
            "max_tokens": direct.max_tokens + index,
        }
        for index in range(-(-options.outcomes // (QUESTIONS * MODELS)))
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with served_pool(folder, 32) as path:
            pool = yaml.safe_load(path.read_text(encoding="utf-8")) | {"strategies": own}
            path.write_text(yaml.safe_dump(pool), encoding="utf-8")
            splits = ("train", "validation", "test")
            collection = Collection(
                Wanted(path, folder / "out.parquet", tuple(load_tasks()), strategies=tuple(own), splits=splits)
            )
            journal, start, told = Journal(folder / "journal"), time.monotonic(), [0]

            def tell(progress: Progress, spending: Spending) -> None:
                if progress.answered >= told[0]:
                    told[0] += 100_000
                    print(
                        f"{progress.answered:>9,} of {progress.total:,}: {megabytes('VmRSS'):,.0f} MB, "
                        f"{progress.rate:,.0f} answers/s, peak {megabytes('VmHWM'):,.0f} MB",
                        flush=True,
                    )

            result = collect(collection, journal, tell=tell)
            journal.close()
            size, out = (folder / "journal").stat().st_size / 1e6, (folder / "out.parquet").stat().st_size / 1e6
    print(
        f"{result.graded.rows:,} outcomes in {time.monotonic() - start:,.0f} s, peak {megabytes('VmHWM'):,.0f} MB with "
        f"grading; journal {size:,.0f} MB, outcomes file {out:,.0f} MB"
    )


if __name__ == "__main__":
    main()
