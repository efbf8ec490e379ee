"""What it costs to read and check a log of a platform: CPU time and peak memory, by the operating system's own count.

    python benchmarks/reading.py [--queries 100000] [--arms 20] [--rounds 3] [--old CHECKOUT]

Writes a log (seeded; prompts of twelve words, one row for each query and arm) as a parquet file of many row groups, as
one whose rows are shuffled, as a folder of twenty files, and as CSV. Measured, each in a process of its own and in
turns: `recal-bench validate` of each, and `pyarrow.parquet.read_table` of the columns that it reads. `--old` measures
another checkout of recal-bench on the first file too. Printed: the median of the rounds with their range.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COLUMNS = ("task", "query_id", "prompt", "model", "strategy", "score", "cost_usd", "latency_s", "split")
FILES = 20
_READ = "import sys, pyarrow.parquet as pq; pq.read_table(sys.argv[1], columns=sys.argv[2].split(','))"
_HERE = Path(__file__).resolve().parents[1]


def log_blocks(n_queries: int, n_arms: int, n_blocks: int = FILES, seed: int = 0) -> Iterator[Any]:
    """A log of five tasks as arrow tables, the rows of a query one after the other."""
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, size=rng.integers(2, 10))) for _ in range(5_000)])
    for query_Q in np.array_split(np.arange(n_queries), n_blocks):
        prompts = pa.array([" ".join(each) for each in rng.choice(words, size=(len(query_Q), 12)).tolist()])
        row_N, arm_N = np.repeat(np.arange(len(query_Q)), n_arms), np.tile(np.arange(n_arms), len(query_Q))
        texts = {
            "task": pa.array([f"task{query % 5}" for query in query_Q]),
            "query_id": pa.array([f"q{query:07d}" for query in query_Q]),
            "prompt": prompts,
            "split": pa.array([("train", "train", "train", "validation", "test")[query // 5 % 5] for query in query_Q]),
        }
        columns = {name: text.take(pa.array(row_N)) for name, text in texts.items()}
        columns["model"] = pa.array([f"model-{arm // 2}" for arm in range(n_arms)]).take(pa.array(arm_N))
        columns["strategy"] = pa.array([("cot", "direct")[arm % 2] for arm in range(n_arms)]).take(pa.array(arm_N))
        columns["score"] = (rng.random(len(row_N)) < 0.3 + 0.4 * arm_N / n_arms).astype(float)
        columns["cost_usd"] = rng.lognormal(-7, 0.5, len(row_N)) * (1 + arm_N)
        columns["latency_s"] = rng.lognormal(0, 0.5, len(row_N))
        yield pa.table({name: columns[name] for name in COLUMNS})


def write_logs(folder: Path, n_queries: int, n_arms: int) -> None:
    """The log in each of its forms."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    blocks = list(log_blocks(n_queries, n_arms))
    (folder / "log").mkdir()
    with pq.ParquetWriter(folder / "log.parquet", blocks[0].schema, compression="zstd") as writer:
        for number, block in enumerate(blocks):
            writer.write_table(block)
            pq.write_table(block, folder / "log" / f"part-{number:02d}.parquet", compression="zstd")
    whole = pa.concat_tables(blocks)
    pyarrow.csv.write_csv(whole, folder / "log.csv")
    order = np.random.default_rng(1).permutation(len(whole))
    pq.write_table(whole.take(pa.array(order)), folder / "shuffled.parquet", compression="zstd")


def cost_of(command: list[str], checkout: Path | None = None) -> tuple[float, float]:
    """CPU seconds and peak resident megabytes of a command, by the count of the operating system."""
    environment = {**os.environ, **({"PYTHONPATH": str(checkout)} if checkout else {})}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment, cwd=checkout)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--arms", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--old", type=Path, metavar="CHECKOUT", help="Another checkout of recal-bench to measure.")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write_logs(options.write, options.queries, options.arms)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = ["--queries", str(options.queries), "--arms", str(options.arms)]
        # In a process of its own: what a parent has held at its peak counts as its children's.
        subprocess.run([sys.executable, __file__, *sizes, "--write", name], check=True)
        validate = [sys.executable, "-m", "recal_bench", "validate"]
        read = [sys.executable, "-c", _READ, str(folder / "log.parquet"), ",".join(COLUMNS)]
        measured: dict[str, tuple[list[str], Path | None]] = {"read_table of log.parquet": (read, None)}
        for form in ("log.parquet", "shuffled.parquet", "log", "log.csv"):
            measured[f"validate {form}"] = ([*validate, str(folder / form)], _HERE)
        if options.old:
            measured["validate log.parquet, old"] = ([*validate, str(folder / "log.parquet")], options.old.resolve())
        found: dict[str, list[tuple[float, float]]] = {what: [] for what in measured}
        for _ in range(options.rounds):
            for what, (command, checkout) in measured.items():
                found[what].append(cost_of(command, checkout))
        print(f"{options.queries * options.arms:,} rows, {(folder / 'log.parquet').stat().st_size / 1e6:,.0f} MB")
    for what, each in found.items():
        cpu = [seconds for seconds, _ in each]
        peak = max(megabytes for _, megabytes in each)
        print(f"{what:28} CPU {statistics.median(cpu):6.2f} s ({min(cpu):.2f} to {max(cpu):.2f})  peak {peak:6,.0f} MB")
    median = {what: statistics.median(seconds for seconds, _ in each) for what, each in found.items()}
    now = median["validate log.parquet"]
    print(f"validate takes {now / median['read_table of log.parquet']:.1f} times the CPU of read_table")
    if options.old:
        print(f"the old checkout takes {median['validate log.parquet, old'] / now:.1f} times the CPU of this one")


if __name__ == "__main__":
    main()
