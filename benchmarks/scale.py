"""What a large log costs: CPU time, wall time and peak memory, by the operating system's own count.

    python benchmarks/scale.py log [--queries 1000000] [--arms 50] [--folder DIR]
    python benchmarks/scale.py growth [--sizes 5000,50000,500000] [--limit 900] [--out DIR]
    python benchmarks/scale.py log growth --small

`log`: from the file that `scale_log.py` writes to a table of comparison with best-single, ridge, knn and the
references; then, from the dense arrays that were kept, ten more routers (one arm each) replayed into the same table.
`growth`: what it takes routers to fit to more and more train queries, and to route: a table, and with `--out` a
picture. The texts' encoding is the same for all of them: it has a row of its own, and is in no other. The slope is that
of the logarithms between the two largest sizes: 1 grows as the queries do, 2 as their square. A router that takes more
CPU time than `--limit` is stopped, and reported so. Everything runs in processes of their own, on `--cores` cores, with
an empty cache.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scale_log import write_log

HERE = Path(__file__).resolve()
ENCODER = "tfidf (all texts)"
ROUTERS = ("knn", "svm", "mlp", "ridge", "recal")
SIZES, SMALL_SIZES = (5_000, 50_000, 500_000), (120, 240)
GROWTH_ARMS, ROUTED = 10, 10_000
LEAST_TIMED = 0.3
"""CPU seconds: where a routing takes less it is done again, for the clock is coarse."""
TRAIN_SHARE = 0.8
"""Of the queries of a log that `scale_log.py` writes."""


def measured(
    command: list[str], cache: Path, limit: int | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[dict[str, Any], str]:
    """CPU and wall seconds and peak MiB of a command, and what it prints. `limit` is of its CPU seconds."""

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))

    environment = {**environment, "PYTHONPATH": str(HERE.parents[1]), "RECAL_BENCH_CACHE": str(cache)}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=limited)
    assert process.stdout is not None
    with process.stdout:
        printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    # The kernel's count of seconds and this one differ a little; what was killed earlier was not stopped by the limit.
    over = limit is not None and process.returncode != 0 and (process.returncode == -signal.SIGXCPU or cpu >= limit - 1)
    if process.returncode and not over:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    figures = {"cpu_s": cpu, "wall_s": time.perf_counter() - start, "peak_mib": usage.ru_maxrss / 1024}
    return figures | {"stopped": over}, printed


def told(what: str, figures: dict[str, Any]) -> str:
    cpu, wall, peak = (figures[name] for name in ("cpu_s", "wall_s", "peak_mib"))
    return f"{what:44} CPU {cpu:7.1f} s  wall {wall:7.1f} s  peak {peak:7,.0f} MiB"


def measure_log(folder: Path, n_queries: int, n_arms: int) -> None:
    log, runs, cache = folder / "log.parquet", folder / "runs", folder / "cache"
    write = [sys.executable, str(HERE.with_name("scale_log.py")), str(log)]
    # In a process of its own: what a parent has held at its peak counts as its children's.
    figures, _ = measured([*write, "--queries", str(n_queries), "--arms", str(n_arms)], cache)
    print(told(f"the log, {log.stat().st_size / 1e6:,.0f} MB, is written", figures), flush=True)
    run = [sys.executable, "-m", "recal_bench", "run", "--outcomes", str(log), "--runs", str(runs)]
    figures, printed = measured([*run, "--router", "best-single,ridge,knn"], cache)
    print(told(f"{n_queries * n_arms:,} rows: file to table", figures), flush=True)
    arms = [f"arm:model-{arm // 2}|{('cot', 'direct')[arm % 2]}" for arm in range(min(10, n_arms))]
    named = [part for arm in arms for part in ("--router", arm)]
    figures, _ = measured([*run, *named], cache)
    print(told(f"{len(arms)} more routers, dense arrays kept", figures))
    print("\n" + printed)


def child(router_name: str, log: Path) -> None:
    """Fits a router and lets it route: prints its figures. Loading the log is not among them.

    The router `ENCODER` is none: it fits the encoder and encodes all splits, which the others then find in the cache.
    """
    import numpy as np

    from recal_bench import routers
    from recal_bench.encoders import fit_encoder
    from recal_bench.experiments.bench import load_bench, queries_of
    from recal_bench.routers import Context, decide
    from recal_bench.toolbox.targets import in_fixed_order

    routers.discover(())
    bench = load_bench(log)
    train, validation = bench.train, bench.validation
    test = bench.splits.test.take(np.arange(min(ROUTED, len(bench.splits.test))))
    router = None if router_name == ENCODER else routers.create(router_name, {})
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory() as work:
        start = time.process_time()
        if router is None:
            encoder = fit_encoder("tfidf", train.queries.prompt)
            # In the order in which routers ask for train.
            encoder.encode(in_fixed_order(train).queries.prompt)
            encoder.encode(validation.queries.prompt)
        else:
            router.fit(train, validation, Context(0, "cpu", Path(work), lambda line: None))
        fit = time.process_time() - start
    times, spent, start = 0, 0.0, time.process_time()
    while not times or (router is not None and spent < LEAST_TIMED):  # what was encoded comes from the cache
        if router is None:
            encoder.encode(queries_of(test).prompt)
        else:
            decide(router, queries_of(test), bench.calls(test, router))
        times, spent = times + 1, time.process_time() - start
    route = spent / times / len(test) * 1e6
    print(json.dumps({"n_train": len(train.queries.prompt), "loaded_mib": loaded, "fit_s": fit, "route_us": route}))


def measure_growth(folder: Path, sizes: tuple[int, ...], names: tuple[str, ...], limit: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    stopped: set[str] = set()
    for size in sizes:
        log = folder / f"log-{size}.parquet"
        write_log(log, math.ceil(size / TRAIN_SHARE), GROWTH_ARMS)
        for name in (each for each in (ENCODER, *names) if each not in stopped):
            command = [sys.executable, str(HERE), "--child", name, "--log", str(log)]
            figures, printed = measured(command, folder / f"cache-{size}", limit)
            row = {"router": name, "size": size, "limit_s": limit, **figures}
            row |= json.loads(printed) if not figures["stopped"] else {}
            stopped |= {name} if figures["stopped"] else set()
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    return rows


def slope(rows: list[dict[str, Any]], what: str) -> float | None:
    """Between the two largest sizes that were measured."""
    known = [(row["size"], row[what]) for row in rows if not row["stopped"]][-2:]
    if len(known) < 2:
        return None
    (size, value), (larger, more) = known
    return math.log(more / value) / math.log(larger / size)


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| router | train queries | fit, CPU s | route, CPU us a query | peak, MiB |", "|---|--:|--:|--:|--:|"]
    for name in dict.fromkeys(row["router"] for row in rows):
        own = [row for row in rows if row["router"] == name]
        for row in own:
            values = (
                f"stopped at {row['limit_s']:,} s | | {row['peak_mib']:,.0f}"
                if row["stopped"]
                else f"{row['fit_s']:,.1f} | {row['route_us']:,.0f} | {row['peak_mib']:,.0f}"
            )
            lines.append(f"| {name} | {row['size']:,} | {values} |")
        found = [slope(own, what) for what in ("fit_s", "route_us", "peak_mib")]
        lines.append(
            f"| {name} | slope | " + " | ".join("" if each is None else f"{each:.2f}" for each in found) + " |"
        )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    labels = {"fit_s": "fit, CPU s", "route_us": "route, CPU µs a query", "peak_mib": "peak memory, MiB"}
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, (what, label) in zip(axes, labels.items(), strict=True):
        for name in dict.fromkeys(row["router"] for row in rows):
            own = [row for row in rows if row["router"] == name and not row["stopped"]]
            axis.loglog([row["size"] for row in own], [row[what] for row in own], marker="o", label=name)
        axis.set(xlabel="train queries", title=label)
    axes[2].legend(loc="upper left")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="log|growth")
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--arms", type=int, default=50)
    parser.add_argument("--sizes", type=lambda text: tuple(map(int, text.split(","))), default=SIZES)
    parser.add_argument("--routers", type=lambda text: tuple(text.split(",")), default=ROUTERS)
    parser.add_argument("--limit", type=int, default=900, help="CPU seconds of one router on one size")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the logs and runs are left; else a temporary folder")
    parser.add_argument("--out", type=Path, help="where scale.json, scale.md and scale.svg of `growth` go")
    parser.add_argument("--small", action="store_true", help="a log of 300 queries, for a test")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if set(options.parts) - {"log", "growth"} or not (options.parts or options.child):
        parser.error("name log, growth, or both")
    if options.child:
        child(options.child, options.log)
        return
    if options.small:
        options.queries, options.arms, options.sizes, options.routers = 300, 4, SMALL_SIZES, ("ridge",)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if "log" in options.parts:
            measure_log(folder, options.queries, options.arms)
        if "growth" in options.parts:
            rows = measure_growth(folder, options.sizes, options.routers, options.limit)
            print(table(rows))
            if options.out:
                options.out.mkdir(parents=True, exist_ok=True)
                (options.out / "scale.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
                (options.out / "scale.md").write_text(table(rows) + "\n", encoding="utf-8")
                draw(rows, options.out / "scale.svg")


if __name__ == "__main__":
    main()
