"""What several jobs save: leaderboards made from nothing with 1 job and with 2, and whether their records are the same.

    RECAL_BENCH_DATA=folder python benchmarks/jobs.py    # five boards, every router at its defaults, one world
    python benchmarks/jobs.py --small                    # a few routers on two tasks of the embedded pool

Each number of jobs has empty run folders, and finds the encoders and worlds of the user's cache there alike: one router
makes them before the first is timed. `--runs FOLDER` keeps the records. Prints the seconds by the clock and those of
all processes' CPU, and their ratio. On a machine that does other work the ratio says nothing.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from boards import outcomes_of

BOARDS = ("embedded", "routerdc", "llmrouter14-by-prompt", "nq500", "bamboogle")
SMALL = ("run", "--router", "recal,grpo,mlp,ridge,gradient-boosting", "--set", "steps=100", "--tasks", "nq,musique")
UNTIMED = ("started", "fit_seconds", "route_us_per_query", "route_us_p95")


def make(folder: Path, jobs: int, small: bool) -> tuple[float, float]:
    """Seconds by the clock, and of CPU."""
    boards = [sys.executable, str(Path(__file__).with_name("boards.py")), *BOARDS, "--worlds", "1"]
    boards += ["--untuned", str(folder)]
    words = [sys.executable, "-m", "recal_bench.cli", *SMALL, "--runs", str(folder)] if small else boards
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*words, "--jobs", str(jobs)], check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begin, cpu


def warm_up(folder: Path, small: bool) -> None:
    """Makes what the user's cache keeps for every board."""
    for words in [SMALL[-2:]] if small else [outcomes_of(board, "run", 1) for board in BOARDS]:
        command = [sys.executable, "-m", "recal_bench.cli", "run", "--router", "ridge", *words, "--runs", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def contents(folder: Path) -> dict[str, str]:
    """The hash of each file of all run records, without what is timed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in inside.parts):
            continue
        if path.name == "run.json":
            record = json.loads(path.read_bytes())
            content = json.dumps({key: value for key, value in record.items() if key not in UNTIMED}).encode()
        elif path.suffix in (".npz", ".parquet", ".jsonl", ".safetensors") or "router" in inside.parts:
            content = path.read_bytes()
        else:
            continue  # tables and pictures, in which times stand
        found[str(inside)] = hashlib.sha256(content).hexdigest()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="under a minute")
    parser.add_argument(
        "--runs", type=Path, metavar="FOLDER", help="where the records are left; else a temporary folder"
    )
    asked = parser.parse_args()
    small = asked.small
    with tempfile.TemporaryDirectory() as temporary:
        scratch = asked.runs or Path(temporary)
        warm_up(Path(temporary) / "warm", small)
        wall, found = {}, []
        for jobs in (1, 2):
            wall[jobs], cpu = make(scratch / str(jobs), jobs, small)
            found.append(contents(scratch / str(jobs)))
            print(f"jobs {jobs}: {wall[jobs]:.1f} s, {cpu:.1f} CPU s", flush=True)
    differ = sorted(name for name in found[0].keys() | found[1].keys() if found[0].get(name) != found[1].get(name))
    print(f"ratio {wall[1] / wall[2]:.2f}; {len(found[0])} files, {len(differ)} differ {differ[:5]}")
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
