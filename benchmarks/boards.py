"""Makes a leaderboard again: tunes every router on validation, runs it with five seeds, writes the tables.

    python benchmarks/boards.py routerdc             # one of BOARDS, or several: tuned, into leaderboards/
    python benchmarks/boards.py --untuned runs/plain # all of them, every router at its defaults, into that folder
    python benchmarks/boards.py --jobs 8             # as of `recal-bench run`; --backend too

It only calls `recal-bench tune`, `run` and `leaderboard`, each command printed before it is run. What was run before
with the same code is found again; what is in tuned.json, or was tuned alike by the calibration study, is not tuned
again. All but `embedded` need the folder of the logs in the environment variable RECAL_BENCH_DATA.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

BOARDS = {
    "embedded": None,
    "strategies": "mot_gpt4_strategies.parquet",
    "routerdc": "routerdc_7llm.parquet",
    "llmrouter14": "llmrouter_default14.parquet",
    "llmrouter14-by-prompt": "llmrouter_default14.parquet",
    "mmlu-pro": "mmlu_pro.parquet",
    "zeroeval": "zeroeval_crux_gsm_math.parquet",
    "nq500": "routerr1_pool_nq500.parquet",
    "bamboogle": "bamboogle_model_x_strategy.parquet",
}
# The log has train prompts in test: here its split is made again, by prompt.
SPLIT_AGAIN = ("llmrouter14-by-prompt",)
MISSING = {"zeroeval": "restrict"}
SEEDS, TRIALS = 5, 8
# Settings are tuned on other worlds than those of the board, of which none was looked at while routers were developed.
WORLDS = {"tune": ["--world-seed", "61", "--worlds", "3"], "run": ["--world-seed", "71", "--worlds", "5"]}
# The slowest first, so that all jobs end together.
ROUTERS = (
    *("recal", "recal-plain", "recal-from-knn", "expected", "grpo", "dr-grpo", "gdpo", "dvao", "hero"),
    *("gradient-boosting", "graphrouter", "irt", "routellm-mf", "embedllm", "rtr", "routerdc", "svm", "mlp", "linucb"),
    *("thompson", "pilot", "uniroute", "avengers", "carrot", "hybrid-llm", "logistic", "hierarchy", "ridge-tasks"),
    *("knn", "ridge", "routellm-bt", "elo", "borda"),
)
# What the calibration study tuned with the same trials, also for estimators on other priors.
STUDY = Path("leaderboards/calibration-study")
PRIORS = {"embedded": ("knn", "none")}
ON_PRIORS = ("grpo", "dr-grpo", "gdpo", "dvao", "hero", "expected")
# These read what the arms answered, or need what only the embedded pool has.
READ_ANSWERS = ("frugal-gpt", "automix", "cascade-routing")
ONLY_ON = {"embedded": (*READ_ANSWERS, "prompt-llm", "dearest"), "nq500": (*READ_ANSWERS, "dearest")}
ONLY_ON["bamboogle"] = READ_ANSWERS


def log_of(board: str) -> Path:
    """The file of a board's outcomes; for one that is split again, a copy of it in `runs`."""
    folder, file = os.environ.get("RECAL_BENCH_DATA"), BOARDS[board]
    if not folder:
        sys.exit(f"board {board} needs {file}: name its folder in the environment variable RECAL_BENCH_DATA")
    path = Path(folder) / file
    if board not in SPLIT_AGAIN:
        return path
    import pandas as pd

    rows = pd.read_parquet(path)
    rows["query_id"] = rows.pop("split").astype(str) + ":" + rows["query_id"].astype(str)
    # What is in two splits is one query.
    rows = rows.drop_duplicates(["task", "prompt", "model", "strategy"])
    copy = Path("runs") / f"{path.stem}-split-by-prompt.parquet"
    copy.parent.mkdir(exist_ok=True)
    rows.to_parquet(copy, index=False)
    return copy


def outcomes_of(board: str, command: str, worlds: int | None = None) -> list[str]:
    """The options of a command that name a board's outcomes; `worlds` of the embedded pool instead of all."""
    if BOARDS[board] is None:
        return [*WORLDS[command][:-1], str(worlds)] if worlds else WORLDS[command]
    missing = ["--missing", MISSING[board]] if board in MISSING else []
    return ["--outcomes", str(log_of(board)), *missing]


def start(*words: str) -> "subprocess.Popen[bytes]":
    print(shlex.join(["recal-bench", *words]), flush=True)
    return subprocess.Popen([sys.executable, "-m", "recal_bench.cli", *words], stdout=subprocess.DEVNULL)


def finish(process: "subprocess.Popen[bytes]") -> None:
    if process.wait():
        sys.exit("a command failed, see above")


def call(*words: str) -> None:
    """Run a `recal-bench` command; stop where it fails."""
    finish(start(*words))


def tuned_so_far(board: str, routers: list[str], file: Path) -> set[str]:
    """The routers that are in a board's tuned.json, after what the study tuned for it was put there."""
    study = STUDY / f"tuned-{'hierarchy' if board == 'embedded' else board}.json"
    entries = {}
    for path in (study, file):
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        entries |= {each["router"]: each for each in found if each["router"] in routers}
    if entries:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([entries[name] for name in sorted(entries)], indent=1) + "\n", encoding="utf-8")
    return set(entries)


def make(board: str, tuned: bool, runs: Path, out: Path, jobs: list[str], worlds: int | None = None) -> list[str]:
    """Tune and run a board's routers. Returns the words of the command that writes its tables."""
    routers = [*ROUTERS, *ONLY_ON.get(board, ())]
    shared = words = [*outcomes_of(board, "run", worlds), "--seeds", str(SEEDS), "--runs", str(runs), *jobs]
    if tuned:
        file = out / "tuned.json"
        there = tuned_so_far(board, routers, file)
        untuned = [name for name in routers if name not in there]
        if untuned:
            trials = ["--trials", str(TRIALS), "--out", str(file)]
            call("tune", "--router", ",".join(untuned), *outcomes_of(board, "tune"), *trials, *jobs)
        words = [*words, "--tuned", str(file)]
    call("run", "--router", ",".join(routers), *words)
    for prior in PRIORS.get(board, ()) if tuned else ():
        call("run", "--router", ",".join(ON_PRIORS), *shared, "--tuned", str(STUDY / f"tuned-{prior}.json"))
    # The rows of real logs are not ours to publish, and those of the embedded pool are 18 MB.
    return ["leaderboard", str(runs), "--out", str(out), "--no-queries"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "boards", nargs="*", metavar="BOARD", help=f"any of {', '.join(BOARDS)}; all where none is named"
    )
    parser.add_argument("--untuned", type=Path, metavar="FOLDER", help="every router at its defaults, into this folder")
    parser.add_argument("--worlds", type=int, help="fewer worlds of the embedded pool than the board has")
    parser.add_argument("--jobs", default="2", help="fits done at once")
    parser.add_argument("--backend", default="loky", help="loky, threading, ray or dask")
    asked = parser.parse_args()
    jobs = ["--jobs", asked.jobs, *(["--backend", asked.backend] if asked.jobs != "1" else [])]
    for board in asked.boards or BOARDS:
        if board not in BOARDS:
            sys.exit(f"there is no board {board}: it is one of {', '.join(BOARDS)}")
    written = []
    for board in asked.boards or BOARDS:
        begin = time.monotonic()
        if asked.untuned:
            words = make(board, False, asked.untuned / board / "runs", asked.untuned / board, jobs, asked.worlds)
        else:
            words = make(board, True, Path("runs") / board, Path("leaderboards") / board, jobs, asked.worlds)
        written.append(start(*words))
        if asked.jobs == "1":
            finish(written[-1])
        print(f"{board}: {time.monotonic() - begin:.0f} s", flush=True)
    # With more jobs, a board's tables are written while the next one is loaded.
    for process in written:
        finish(process)


if __name__ == "__main__":
    main()
