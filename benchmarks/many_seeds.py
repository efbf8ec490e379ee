"""Training time of many seeds as one batch against one by one: the same policies, the same random streams.

    python benchmarks/many_seeds.py [--seeds 10] [--steps 200] [--device cpu|cuda] [--batches 10,200]

Training alone is timed (encoding, prior and routing are the same for both and left out); the median of three. Besides,
the largest difference between the parameters that both ways end with.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from tabulate import tabulate

from recal_bench import provenance, routers
from recal_bench.experiments.bench import Bench, load_bench
from recal_bench.routers import Context
from recal_bench.training import loop

REPETITIONS = 3


def trained(bench: Bench, seeds: Sequence[int], steps: int, device: str) -> tuple[float, list[dict[str, torch.Tensor]]]:
    """Seconds in the training loop, and the parameters kept of each seed."""
    made = [routers.create("recal", {"steps": steps}) for _ in seeds]
    seconds = 0.0
    run_loop = loop.train

    def timed(*arguments: object) -> object:
        nonlocal seconds
        begin = time.perf_counter()
        result = run_loop(*arguments)  # type: ignore[arg-type]
        if device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
        return result

    with tempfile.TemporaryDirectory() as folder, patch.object(loop, "train", timed):
        contexts = [Context(seed, device, Path(folder) / str(seed), lambda line: None) for seed in seeds]
        type(made[0]).fit_seeds(made, bench.train, bench.validation, contexts)
    return seconds, [each._policy.state_dict() for each in made]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batches", default="", help="further batch sizes, timed only as one batch: 20,200")
    arguments = parser.parse_args()
    routers.discover()
    bench, device, seeds = load_bench(), arguments.device, range(arguments.seeds)
    trained(bench, [0], 2, device)
    alone, together, difference = [], [], 0.0
    for _ in range(REPETITIONS):
        singles = [trained(bench, [seed], arguments.steps, device) for seed in seeds]
        batch_seconds, batch = trained(bench, seeds, arguments.steps, device)
        alone.append(sum(seconds for seconds, _ in singles))
        together.append(batch_seconds)
        for (_, (single,)), of_batch in zip(singles, batch, strict=True):
            difference = max(difference, *(float((single[name] - of_batch[name]).abs().max()) for name in single))
    rows = [
        [f"{len(seeds)} one by one", f"{median(alone):.2f}", f"{median(alone) / len(seeds):.2f}"],
        [f"{len(seeds)} as one batch", f"{median(together):.2f}", f"{median(together) / len(seeds):.2f}"],
    ]
    for size in [int(word) for word in arguments.batches.split(",") if word]:
        seconds, _ = trained(bench, range(size), arguments.steps, device)
        rows.append([f"{size} as one batch", f"{seconds:.2f}", f"{seconds / size:.3f}"])
    print(f"recal, embedded pool, {arguments.steps} steps, {provenance.device_name(device)}, one thread")
    print(tabulate(rows, ["seeds", "seconds", "a seed"], tablefmt="github", disable_numparse=True))
    print(f"ratio {median(alone) / median(together):.2f}; largest difference of a parameter {difference:.1g}")


if __name__ == "__main__":
    main()
