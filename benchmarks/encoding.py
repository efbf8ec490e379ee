"""What it costs to encode texts with MiniLM: ours, sentence-transformers' own `encode`, and the transformer alone.

    python benchmarks/encoding.py FILE [--sample 500] [--rounds 1] [--threads 1]
    python benchmarks/encoding.py --small    # 90 made-up texts, to see that it works

FILE is a parquet file with a column `prompt`; of its distinct prompts a seeded sample is encoded (0: all). All ways are
measured in one process, in turns, in CPU seconds (user and system) of the encoding alone: imports, the loading of the
model and, of the transformer alone, the tokenizer are not counted. With several rounds the median is printed.

ours         `fit_encoder("minilm", ...).encode(texts)`, with an empty cache, which it fills
cached       the same once more
library      sentence-transformers' `encode` with batches of 32 (its default) and of 64
transformer  the forward of the BERT model on ready tokens, sorted by length, padded in batches of 16; no pooling
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH = 16


def texts_of(path: Path | None, sample: int) -> list[str]:
    """Distinct prompts of a file, or made-up ones."""
    import numpy as np

    rng = np.random.default_rng(0)
    if path is None:
        words = ["river", "court", "oven", "island", "clause", "flour", "capital", "judge", "butter", "valley"]
        return [" ".join(rng.choice(words, size=rng.integers(3, 40))) for _ in range(90)]
    import pyarrow.parquet as pq

    texts = sorted(pq.read_table(path, columns=["prompt"])["prompt"].unique().to_pylist())
    if not 0 < sample < len(texts):
        return texts
    return [texts[row] for row in sorted(rng.choice(len(texts), size=sample, replace=False))]


def forward(model: Any, texts: list[str]) -> Callable[[], Any]:
    """The forward of the transformer within a model of sentence-transformers."""
    import torch

    tokens = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    tokens.sort(key=len)
    batches = [
        model.tokenizer.pad({"input_ids": tokens[start : start + BATCH]}, return_tensors="pt")
        for start in range(0, len(tokens), BATCH)
    ]

    def run() -> None:
        with torch.inference_mode():
            for batch in batches:
                model[0].auto_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--sample", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ways", help="some of ours, cached, library, transformer; else all")
    parser.add_argument("--cache", help="the folder that ours fills, which must be empty; else a temporary one")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    if arguments.small == (arguments.file is not None):
        parser.error("give a FILE, or --small")
    import torch

    from recal_bench.encoders import fit_encoder
    from recal_bench.encoders.minilm import _model

    torch.set_num_threads(arguments.threads)
    texts = texts_of(arguments.file, arguments.sample)
    fitted, model = fit_encoder("minilm", []), _model()
    model.encode(["one"], show_progress_bar=False)
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: fitted.encode(texts),
        "cached": lambda: fitted.encode(texts),
        "library, 32": lambda: model.encode(texts, batch_size=32, show_progress_bar=False),
        "library, 64": lambda: model.encode(texts, batch_size=64, show_progress_bar=False),
        "transformer": forward(model, texts),
    }
    asked = arguments.ways.split(",") if arguments.ways else [way.partition(",")[0] for way in ways]
    ways = {way: encode for way, encode in ways.items() if way.partition(",")[0] in asked}
    cpu_s_of: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as cache:
            os.environ["RECAL_BENCH_CACHE"] = arguments.cache or cache
            for way, encode in ways.items():
                started = time.process_time()
                encode()
                cpu_s_of[way].append(time.process_time() - started)
    read = sum(map(len, texts)) / len(texts)
    print(f"{len(texts):,} texts of {read:,.0f} characters on average, threads: {arguments.threads}")
    print(f"{'':12} {'CPU s':>8} {'ms a text':>10} {'of the transformer':>19}")
    alone = statistics.median(cpu_s_of.get("transformer", [math.nan]))
    for way, found in cpu_s_of.items():
        cpu_s = statistics.median(found)
        print(f"{way:12} {cpu_s:8.2f} {1000 * cpu_s / len(texts):10.2f} {cpu_s / alone:19.2f}")


if __name__ == "__main__":
    main()
