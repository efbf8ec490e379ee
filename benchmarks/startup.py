"""What commands cost from start to end on a warm machine, and one query in process.

    python benchmarks/startup.py [--repetitions 3] [--small]

Each command runs in a process of its own with one thread, after one run that fills the caches and is not counted:
`run` of ReCal on the embedded pool into a fresh folder, and `route` of one question with a trained ridge, knn and
recal. CPU seconds are user and system time by the operating system's count, the median; wall seconds mean something on
an idle machine only. `route` in process is one question after the other, all of them new, in CPU milliseconds.
`--small` has ridge in the place of all three, once: whether it works.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tabulate import tabulate

ROUTERS = "ridge", "knn", "recal"
LATENCY = """
import statistics, sys, time
from recal_bench import load_router
router = load_router(sys.argv[1])
questions = [f"who wrote opera number {number} of the theatre in {1700 + number}?" for number in range(200)]
router.route(questions[:1])
taken = []
for question in questions[1:]:
    begin = time.process_time()
    router.route([question])
    taken.append(time.process_time() - begin)
print(1000 * statistics.median(taken))
"""


def spent(words: list[str]) -> tuple[float, float, str]:
    """CPU and wall seconds of a Python process, and what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True, env=environment)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    repetitions, routers = (1, ("ridge",)) if options.small else (options.repetitions, ROUTERS)
    command = ["-m", "recal_bench"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trained = [word for router in routers for word in ("--router", router)]
        spent([*command, "run", *trained, "--runs", str(folder / "trained")])
        runs = {router: str(next((folder / "trained").glob(f"{router}-*"))) for router in routers}
        measured = {
            f"run --router {routers[-1]}": [
                spent([*command, "run", "--router", routers[-1], "--runs", str(folder / str(number))])
                for number in range(repetitions)
            ]
        }
        for router, run in runs.items():
            words = [*command, "route", "--run", run, "who wrote the opera that opened the theatre?"]
            measured[f"route, {router}"] = [spent(words) for _ in range(repetitions)]
        latency = [[router, spent(["-c", LATENCY, run])[2].strip()] for router, run in runs.items()]
    rows = [
        [what, median(cpu for cpu, _, _ in each), median(wall for _, wall, _ in each)]
        for what, each in measured.items()
    ]
    print(tabulate(rows, ["command", "CPU s", "wall s"], tablefmt="github", floatfmt=".2f"))
    print()
    print(tabulate(latency, ["one query in process", "CPU ms"], tablefmt="github", floatfmt=".2f"))


if __name__ == "__main__":
    main()
