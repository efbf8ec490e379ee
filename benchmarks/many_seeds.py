"""Training time of many seeds as one batch against one by one: the same policies, the same random streams.

    python benchmarks/many_seeds.py [--seeds 10] [--steps 200] [--repetitions 3] [--device cpu|cuda]
        [--batches 10,200]

Training alone is timed (encoding, prior and routing are the same for both and left out), on a CPU in CPU seconds; the
median of three. Besides: the largest difference between the parameters that both ways end with, and what of a step goes
into sampling, calibration, and backward and update; the rest is logging, looking at validation and checkpoints.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from tabulate import tabulate

from recal_bench import provenance, routers
from recal_bench.experiments.bench import Bench, load_bench
from recal_bench.routers import Context
from recal_bench.training import loop
from recal_bench.training.learner import Learner

PARTS = {"draw": "sampling", "judge": "calibration", "ascend": "backward and update"}


class Trained(NamedTuple):
    """Seconds in the training loop, those of them in each part of `PARTS`, and the parameters kept of each seed."""

    seconds: float
    in_part: dict[str, float]
    parameters: list[dict[str, torch.Tensor]]


def seconds_now(device: str) -> float:
    """CPU seconds of this process, or on a GPU wall seconds when all that was asked of it is done."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def trained(bench: Bench, seeds: Sequence[int], steps: int, device: str) -> Trained:
    made = [routers.create("recal", {"steps": steps}) for _ in seeds]
    spent: Counter[str] = Counter()

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            begin = seconds_now(device)
            result = call(*arguments)
            spent[name] += seconds_now(device) - begin
            return result

        return called

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(patch.object(loop, "train", timed("train", loop.train)))
        for part in PARTS:
            stack.enter_context(patch.object(Learner, part, timed(part, getattr(Learner, part))))
        # As `run` does it, each line of the log is written as JSON.
        log = stack.enter_context(open(Path(folder) / "metrics.jsonl", "w", encoding="utf-8"))  # noqa: PTH123
        contexts = [
            Context(seed, device, Path(folder) / str(seed), lambda line: print(json.dumps(line), file=log, flush=True))
            for seed in seeds
        ]
        type(made[0]).fit_seeds(made, bench.train, bench.validation, contexts)
    seconds = spent.pop("train")
    return Trained(seconds, dict(spent), [each._policy.state_dict() for each in made])


def shares(name: str, of_one: Trained) -> list[str]:
    """How the time of a training is split, in percent."""
    parts = [of_one.in_part[part] / of_one.seconds for part in PARTS]
    return [name, *(f"{share:.0%}" for share in (*parts, 1 - sum(parts)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batches", default="", help="further batch sizes, timed only as one batch: 20,200")
    arguments = parser.parse_args()
    routers.discover()
    bench, device, seeds = load_bench(), arguments.device, range(arguments.seeds)
    trained(bench, [0], 2, device)
    alone, together, difference = [], [], 0.0
    for _ in range(arguments.repetitions):
        singles = [trained(bench, [seed], arguments.steps, device) for seed in seeds]
        batch = trained(bench, seeds, arguments.steps, device)
        alone.append(sum(each.seconds for each in singles))
        together.append(batch.seconds)
        for each, of_batch in zip(singles, batch.parameters, strict=True):
            (single,) = each.parameters
            difference = max(difference, *(float((single[name] - of_batch[name]).abs().max()) for name in single))
    split = [shares("one", singles[-1]), shares(f"{len(seeds)} as one batch", batch)]
    rows = [
        [f"{len(seeds)} one by one", f"{median(alone):.2f}", f"{median(alone) / len(seeds):.2f}"],
        [f"{len(seeds)} as one batch", f"{median(together):.2f}", f"{median(together) / len(seeds):.2f}"],
    ]
    for size in [int(word) for word in arguments.batches.split(",") if word]:
        seconds = trained(bench, range(size), arguments.steps, device).seconds
        rows.append([f"{size} as one batch", f"{seconds:.2f}", f"{seconds / size:.3f}"])
    print(f"recal, embedded pool, {arguments.steps} steps, {provenance.device_name(device)}, one thread")
    print(tabulate(rows, ["seeds", "seconds", "a seed"], tablefmt="github", disable_numparse=True))
    print(tabulate(split, ["seeds", *PARTS.values(), "the rest"], tablefmt="github", disable_numparse=True))
    print(f"ratio {median(alone) / median(together):.2f}; largest difference of a parameter {difference:.1g}")


if __name__ == "__main__":
    main()
