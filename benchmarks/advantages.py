"""Time and memory of the advantage estimators, beside verl's where verl is installed (docs/peers.md).

    python benchmarks/advantages.py [--responses 100000] [--tokens 1] [--repetitions 9] [--small]

Both sides run in one process, on one thread, on the same rewards, in float32 as both trainers have them; every time is
the median of several calls after a warm-up. First the results are compared.

What is timed. Our estimators take arrays [Q, G, K], as the trainer of this project has them; where they want one reward
a response, summing the components is included, except in the rows "[Q, G]". verl's take a row a response, a column a
token, and the uid of the query of each row; with one token a response, the default, the token dimension costs nothing.
verl's `gdpo` gets its components as one array each. Ours is timed from these as well: "from columns" includes building
[Q, G, K] from rows sorted by query, "from rows in any order" also finds the groups by their uids, and gives token
advantages back in the order of the rows, so that it does all that verl's does.

TRL has no function to call: its formula is part of the trainer's step.

`--small` times one call on 8,000 responses, and takes the memory of `recal` alone: whether it works.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import uuid
import warnings
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tabulate import tabulate

from recal_bench.calibration import (
    ESTIMATORS,
    Batch,
    gdpo,
    grpo,
    rloo,
    weighted_sum,
)

GROUP_SIZE, N_DATASETS = 8, 7
COMPONENTS = ("format", "outcome", "cost")
WEIGHT_K = np.array([1.0, 1.0, 0.2], dtype=np.float32)
MEMORY_SIZES = (10_000, 100_000, 1_000_000)
HAS_VERL = find_spec("verl") is not None


class Rows(NamedTuple):
    """Rewards as they come from rollouts: a row a response, sorted by query."""

    column_KN: list[NDArray[np.float32]]
    uid_N: NDArray[np.object_]
    n_tokens: int


def draw(n_responses: int, n_tokens: int = 1) -> Rows:
    """Format almost always right, a right or wrong outcome, a cost that varies from call to call."""
    rng = np.random.default_rng(0)
    n_queries = n_responses // GROUP_SIZE
    shape = (n_queries, GROUP_SIZE)
    form_QG = rng.random(shape) < 0.98
    outcome_QG = form_QG & (rng.random(shape) < rng.random((n_queries, 1)))
    cost_QG = -np.where(form_QG, rng.gamma(2.0, 0.2, shape), 0.0)
    column_KN = [value_QG.astype(np.float32).reshape(-1) for value_QG in (form_QG, outcome_QG, cost_QG)]
    uid_Q = np.array([str(uuid.UUID(bytes=rng.bytes(16))) for _ in range(n_queries)], dtype=object)
    return Rows(column_KN, np.repeat(uid_Q, GROUP_SIZE), n_tokens)


# ---- ours


def arrays(rows: Rows, numpy: bool = False) -> Batch:
    reward_QGK = np.stack(rows.column_KN, axis=-1).reshape(-1, GROUP_SIZE, len(COMPONENTS))
    if numpy:
        reward_QGK = reward_QGK.astype(np.float64)
    n_queries = len(reward_QGK)
    parts = {
        "reward_QGK": reward_QGK,
        "weight_K": WEIGHT_K.astype(reward_QGK.dtype),
        "is_outcome_K": np.arange(len(COMPONENTS)) == COMPONENTS.index("outcome"),
        "outcome_QG": reward_QGK[..., 1].copy(),
        "share_QG": np.full_like(reward_QGK[..., 0], 1 / GROUP_SIZE),
        "dataset_Q": np.arange(n_queries) % N_DATASETS,
        "valid_QG": np.ones((n_queries, GROUP_SIZE), dtype=bool),
    }
    return Batch(**(parts if numpy else {name: torch.from_numpy(part) for name, part in parts.items()}))


def ours(name: str, rows: Rows, numpy: bool = False) -> Callable[[], Any]:
    batch = arrays(rows, numpy)
    like_D = batch.reward_QGK[:N_DATASETS, 0, 0]
    estimator = ESTIMATORS[name]
    settings = estimator.settings()
    state = estimator.start(0 * batch.weight_K, 0 * like_D, settings)
    return lambda: estimator.compute(batch, state, settings)[0]


def gdpo_from_columns(rows: Rows) -> torch.Tensor:
    reward_QGK = torch.from_numpy(np.stack(rows.column_KN, axis=-1).reshape(-1, GROUP_SIZE, len(COMPONENTS)))
    return gdpo(reward_QGK, torch.from_numpy(WEIGHT_K), torch.ones(reward_QGK.shape[:2], dtype=torch.bool), ddof=1)


def gdpo_from_any_order(rows: Rows, mask_NT: torch.Tensor) -> torch.Tensor:
    order_N = np.argsort(pd.factorize(rows.uid_N)[0], kind="stable")
    ordered = rows._replace(column_KN=[column_N[order_N] for column_N in rows.column_KN])
    advantage_N = torch.empty(len(order_N))
    advantage_N[torch.from_numpy(order_N)] = gdpo_from_columns(ordered).reshape(-1)
    return advantage_N[:, None] * mask_NT


# ---- verl


def verls(name: str, rows: Rows, integer_uids: bool = False) -> Callable[[], Any]:
    from verl.trainer.config import AlgoConfig
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn

    n_responses = len(rows.uid_N)
    mask_NT = torch.ones(n_responses, rows.n_tokens)
    reward_NT = torch.zeros_like(mask_NT)
    reward_NT[:, -1] = torch.from_numpy(weighted_sum(np.stack(rows.column_KN, axis=-1), WEIGHT_K))
    prompt_N1 = torch.ones(n_responses, 1, dtype=torch.long)
    uid_N = np.repeat(np.arange(n_responses // GROUP_SIZE), GROUP_SIZE) if integer_uids else rows.uid_N
    settings: dict[str, Any] = {}
    if name == "gdpo":
        settings = {
            "config": AlgoConfig(gdpo_reward_keys=list(COMPONENTS), gdpo_reward_weights=WEIGHT_K.tolist()),
            "non_tensor_batch": dict(zip(COMPONENTS, rows.column_KN, strict=True)),
            "batch": {"prompts": prompt_N1, "attention_mask": torch.cat([prompt_N1, mask_NT.long()], 1)},
        }
    estimator = get_adv_estimator_fn(name)
    return lambda: estimator(token_level_rewards=reward_NT, response_mask=mask_NT, index=uid_N, **settings)[0]


# ---- what is measured

COUNTERPARTS = {
    ("ours gdpo", "from rows in any order"): ("verl gdpo", "rows, uuid strings"),
    ("ours grpo", "[Q, G]"): ("verl grpo_vectorized", "rows, integers"),
    ("ours rloo", "[Q, G]"): ("verl rloo_vectorized", "rows, integers"),
}
"""The same formula from the same input: where one time may be divided by another."""


def milliseconds(call: Callable[[], Any], repetitions: int) -> float:
    times = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[1:]))


def largest_difference(rows: Rows) -> dict[str, float]:
    """Between our advantages and verl's; one token a response, where both mean the same."""
    batch = arrays(rows)
    total_QG = weighted_sum(batch.reward_QGK, batch.weight_K)
    pairs = {
        "grpo": (grpo(total_QG, batch.valid_QG, ddof=1), verls("grpo_vectorized", rows)()),
        "gdpo": (gdpo_from_columns(rows), verls("gdpo", rows)()),
    }
    return {name: float((mine.reshape(-1) - theirs[:, 0]).abs().max()) for name, (mine, theirs) in pairs.items()}


def timings(rows: Rows, repetitions: int) -> list[list[Any]]:
    """`[function, input, ms]`, verl's rows first."""
    table: list[list[Any]] = []
    if HAS_VERL:
        few = min(repetitions, 3)
        table += [
            ["verl gdpo", "rows, uuid strings", milliseconds(verls("gdpo", rows), few)],
            ["verl grpo", "rows, uuid strings", milliseconds(verls("grpo", rows), few)],
            ["verl grpo_vectorized", "rows, uuid strings", milliseconds(verls("grpo_vectorized", rows), repetitions)],
            ["verl grpo_vectorized", "rows, integers", milliseconds(verls("grpo_vectorized", rows, True), repetitions)],
            ["verl rloo_vectorized", "rows, uuid strings", milliseconds(verls("rloo_vectorized", rows), repetitions)],
            ["verl rloo_vectorized", "rows, integers", milliseconds(verls("rloo_vectorized", rows, True), repetitions)],
        ]
    shuffled_N = np.random.default_rng(1).permutation(len(rows.uid_N))
    anyhow = rows._replace(
        column_KN=[column_N[shuffled_N] for column_N in rows.column_KN], uid_N=rows.uid_N[shuffled_N]
    )
    mask_NT = torch.ones(len(rows.uid_N), rows.n_tokens)
    batch = arrays(rows)
    total_QG = weighted_sum(batch.reward_QGK, batch.weight_K)
    table += [
        ["ours gdpo", "from columns", milliseconds(lambda: gdpo_from_columns(rows), repetitions)],
        [
            "ours gdpo",
            "from rows in any order",
            milliseconds(lambda: gdpo_from_any_order(anyhow, mask_NT), repetitions),
        ],
        ["ours grpo", "[Q, G]", milliseconds(lambda: grpo(total_QG, batch.valid_QG, ddof=1), repetitions)],
        ["ours rloo", "[Q, G]", milliseconds(lambda: rloo(total_QG, batch.valid_QG), repetitions)],
    ]
    for numpy, kind in ((False, "[Q, G, K]"), (True, "[Q, G, K], numpy float64")):
        table += [[f"ours {name}", kind, milliseconds(ours(name, rows, numpy), repetitions)] for name in ESTIMATORS]
    return table


def peak_mb(side: str, name: str, n_responses: int) -> float:
    """MB that a call needs beyond its input at its highest, in a process of its own (Linux)."""
    command = [sys.executable, "-W", "ignore", __file__, "--peak", side, name, "--responses", str(n_responses)]
    # Arrays are mapped and given back one by one: what was freed before is then not used again unseen.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "0"}
    finished = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(finished.stdout.split()[-1])


def measure_peak(side: str, name: str, n_responses: int) -> float:
    def resident(field: str) -> float:
        with open("/proc/self/status") as status:  # noqa: PTH123
            return next(float(line.split()[1]) / 1024 for line in status if line.startswith(field))

    make = ours if side == "ours" else verls
    make(name, draw(10 * GROUP_SIZE))()
    call = make(name, draw(n_responses))
    with open("/proc/self/clear_refs", "w") as clear:  # noqa: PTH123
        clear.write("5")  # the peak counts from here
    before = resident("VmRSS:")
    result = call()
    peak = resident("VmHWM:") - before
    del result
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of the advantage estimators, beside verl's.")
    parser.add_argument("--responses", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--peak", nargs=2, metavar=("SIDE", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if options.peak:
        print(measure_peak(*options.peak, options.responses))
        return

    sizes, cases = MEMORY_SIZES, [("ours", name) for name in ESTIMATORS]
    cases += [("verl", name) for name in ("grpo_vectorized", "gdpo")] if HAS_VERL else []
    if options.small:
        options.responses, options.repetitions, sizes, cases = 8_000, 1, MEMORY_SIZES[:1], [("ours", "recal")]
    rows = draw(options.responses, options.tokens)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", *(["verl"] if HAS_VERL else [])))
    size = f"{len(rows.uid_N):,} responses of {options.tokens} token(s), groups of {GROUP_SIZE}"
    print(f"{size}, {len(COMPONENTS)} components")
    print(f"{versions}; one thread, median of {options.repetitions} calls (verl gdpo and grpo: 3)\n")
    if HAS_VERL:
        differences = largest_difference(draw(8_000)).items()
        print("largest difference to verl's advantages:", ", ".join(f"{name} {gap:.1e}" for name, gap in differences))
    else:
        print("verl is not installed: ours alone. docs/peers.md tells how to have both.")

    table = timings(rows, options.repetitions)
    headers = ["function", "input", "ms"]
    shown = [[function, given, f"{taken:,.2f}"] for function, given, taken in table]
    if HAS_VERL:
        headers += ["like for like", "takes ... times as long"]
        milliseconds_of = {(function, given): taken for function, given, taken in table}
        for row, (function, given, taken) in zip(shown, table, strict=True):
            theirs = COUNTERPARTS.get((function, given))
            row += [", ".join(theirs), f"{milliseconds_of[theirs] / taken:,.2f}"] if theirs else ["", ""]
    print(tabulate(shown, headers, disable_numparse=True, colalign=("left", "left", *["right"] * (len(headers) - 2))))

    memory = [[f"{side} {name}", *(peak_mb(side, name, size) for size in sizes)] for side, name in cases]
    print("\nPeak memory of a call beyond its input, MB:")
    print(tabulate(memory, ["function", *(f"{size:,} responses" for size in sizes)], floatfmt=".1f"))


if __name__ == "__main__":
    main()
