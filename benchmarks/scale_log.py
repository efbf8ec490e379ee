"""Writes the log of a platform of any size: one row for each query and arm, prompts of twelve words.

    python benchmarks/scale_log.py FILE [--queries 1000000] [--arms 50]

Seeded. Five tasks with words of their own, mixed with words that all of them share; which model is good hangs on the
task, and costs are whole tokens times a price. Of ten queries eight are train, one is validation and one is test. The
parquet file is written row group by row group: 50,000,000 rows take some 300 MB.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

TASKS, WORDS, OWN_WORDS, PROMPT_WORDS = 5, 5_000, 1_000, 12
QUERIES_A_GROUP = 10_000
SPLITS = ("train",) * 8 + ("validation", "test")


def log_blocks(n_queries: int, n_arms: int, seed: int = 0) -> Iterator[Any]:
    """The log as arrow tables of at most `QUERIES_A_GROUP` queries, the rows of a query one after the other."""
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, size=rng.integers(2, 10))) for _ in range(WORDS)], dtype=object)
    chance_TA = np.clip(rng.normal(0.55, 0.15, (TASKS, n_arms)) + 0.2 * np.arange(n_arms) / n_arms, 0.05, 0.95)
    price_A = np.geomspace(1e-7, 1e-5, n_arms)
    models = [f"model-{arm // 2}" for arm in range(n_arms)]
    strategies = [("cot", "direct")[arm % 2] for arm in range(n_arms)]
    for start in range(0, n_queries, QUERIES_A_GROUP):
        query_Q = np.arange(start, min(start + QUERIES_A_GROUP, n_queries))
        task_Q = rng.integers(TASKS, size=len(query_Q))
        own_QW = task_Q[:, None] * OWN_WORDS + rng.integers(OWN_WORDS, size=(len(query_Q), PROMPT_WORDS))
        word_QW = np.where(rng.random(own_QW.shape) < 0.5, own_QW, rng.integers(WORDS, size=own_QW.shape))
        row_N = np.repeat(np.arange(len(query_Q), dtype=np.int32), n_arms)
        arm_N = np.tile(np.arange(n_arms, dtype=np.int32), len(query_Q))
        tokens_N = 20 + rng.integers(400, size=len(row_N))

        def coded(codes: Any, values: Any) -> Any:
            return pa.DictionaryArray.from_arrays(codes, pa.array(values))

        split_Q = query_Q // TASKS % len(SPLITS)
        yield pa.table(
            {
                "task": coded(task_Q.astype(np.int32)[row_N], [f"task{task}" for task in range(TASKS)]),
                "query_id": coded(row_N, [f"q{query:07d}" for query in query_Q.tolist()]),
                "prompt": coded(row_N, [" ".join(each) for each in words[word_QW].tolist()]),
                "model": coded(arm_N, models),
                "strategy": coded(arm_N, strategies),
                "score": (rng.random(len(row_N)) < chance_TA[task_Q[row_N], arm_N]).astype(np.float64),
                "cost_usd": tokens_N * price_A[arm_N],
                "latency_s": np.round(tokens_N * 0.01 * rng.choice([0.8, 1.0, 1.2], len(row_N)), 2),
                "split": coded(split_Q.astype(np.int32)[row_N], list(SPLITS)),
            }
        )


def write_log(path: Path, n_queries: int, n_arms: int) -> None:
    import pyarrow.parquet as pq

    blocks = log_blocks(n_queries, n_arms)
    first = next(blocks)
    with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for block in blocks:
            writer.write_table(block)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--arms", type=int, default=50)
    options = parser.parse_args()
    write_log(options.file, options.queries, options.arms)


if __name__ == "__main__":
    main()
