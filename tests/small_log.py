"""A small outcomes file to run on: words of a query decide which arm is right, and the better arm is dearer."""

from pathlib import Path

import numpy as np
import pandas as pd

WORDS = {"geo": "river mountain island capital border", "law": "court statute clause judge verdict"}


def small_log(queries: int = 120, cost: bool = True, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(queries):
        task = ("geo", "law")[number % 2]
        prompt = f"question {number}: " + " ".join(rng.choice(WORDS[task].split(), size=4))
        for model, strategy, right, usd in (
            ("atlas", "direct", {"geo": 0.9, "law": 0.1}, 1e-4),
            ("codex-iuris", "direct", {"geo": 0.1, "law": 0.9}, 2e-4),
            ("codex-iuris", "cot", {"geo": 0.2, "law": 0.95}, 8e-4),
        ):
            rows.append(
                {
                    "task": task,
                    "query_id": f"q{number:04d}",
                    "prompt": prompt,
                    "model": model,
                    "strategy": strategy,
                    "score": float(rng.random() < right[task]),
                    "split": ("train", "train", "train", "validation", "test")[number // 2 % 5],
                }
                | ({"cost_usd": usd * rng.uniform(0.5, 1.5)} if cost else {})
            )
    return pd.DataFrame(rows)


def write_small_log(path: Path, **kwargs: object) -> Path:
    small_log(**kwargs).to_parquet(path, index=False)
    return path
