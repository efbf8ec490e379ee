"""Progress: bars with the time left on a terminal, nothing elsewhere."""

import io
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress
from terminal import on_terminal

from recal_bench import routers
from recal_bench.cli.progress import RunBar
from recal_bench.encoders import fit_encoder
from recal_bench.encoders.watching import PART, in_parts, watched

RUN = ["run", "--router", "recal", "--set", "recal:steps=25", "--tasks", "nq", "--seeds", "2"]
TUNE = ["tune", "--router", "ridge", "--trials", "2", "--tasks", "nq"]


def command(*words):
    return [sys.executable, "-m", "recal_bench.cli", *map(str, words)]


def stderr_on_terminal(*words):
    """What a command writes to stderr where that is a terminal, without its movements and colours."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", on_terminal(120, *words, stdout_too=False))


def test_run_shows_steps_and_the_time_left(tmp_path):
    shown = stderr_on_terminal(*RUN, "--runs", tmp_path / "runs")
    assert re.search(r"recal, 2 seeds .*step \d+ of 25 .*left: ", shown)


def test_tune_shows_the_time_left(tmp_path):
    assert re.search(r"ridge .*left: ", stderr_on_terminal(*TUNE, "--out", tmp_path / "tuned.json"))


def test_a_pipe_gets_no_progress_even_where_colours_are_forced(tmp_path):
    words = command("run", "--router", "ridge", "--tasks", "nq", "--runs", tmp_path / "runs")
    result = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"FORCE_COLOR": "1"})
    assert result.returncode == 0
    assert result.stderr == ""


def test_the_bar_counts_seeds_under_way_by_their_steps_and_never_goes_back():
    routers.discover()
    progress = Progress(console=Console(file=io.StringIO()))
    recal = routers.create("recal", {"steps": "100"})
    ridge = routers.create("ridge", {})
    plans = [
        SimpleNamespace(name="ridge", router=ridge, seeds=[0]),
        SimpleNamespace(name="recal", router=recal, seeds=[0, 1, 2, 3]),
        SimpleNamespace(name="ridge", router=ridge, seeds=[0]),
    ]
    bar, seen = RunBar(progress, plans), []

    def look():
        seen.append(progress.tasks[0].completed)

    bar.begin(plans[0])  # refused: no seed of it is ever done
    bar.begin(plans[1])
    look()
    for step in (25, 50, 100):
        bar.step({"step": step})
        look()
    for _ in range(4):
        bar.seed()
        look()
    bar.begin(plans[2])
    bar.step({"step": None})
    bar.seed()
    look()
    assert seen == [1, 2, 3, 5, 5, 5, 5, 5, 6]
    assert progress.tasks[0].total == seen[-1] == 6


@given(st.integers(0, 40), st.integers(1, 10))
def test_a_long_encoding_is_the_same_in_parts_and_told_of(count, part):
    prompts = [f"{number} apples" for number in range(count)]
    seen = []

    def encode(some):
        return np.array([[len(prompt), int(prompt.split()[0])] for prompt in some], dtype=np.float32).reshape(-1, 2)

    with watched(lambda done, total: seen.append((done, total))):
        found = in_parts(encode, prompts, part)
    assert np.array_equal(found, encode(prompts))
    assert seen == ([] if count <= part else [*((done, count) for done in range(0, count, part)), (count, count)])


def test_tfidf_encodes_the_same_in_parts(tmp_path, monkeypatch):
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path))
    prompts = [f"question {number % 37} about rivers {number}" for number in range(PART + 100)]
    encoder, seen = fit_encoder("tfidf", prompts[:200]), []
    with watched(lambda done, total: seen.append((done, total))):
        whole = encoder.encode(prompts)
    assert np.array_equal(whole, np.concatenate([encoder.encode(prompts[:1000]), encoder.encode(prompts[1000:])]))
    assert seen == [(0, PART + 100), (PART, PART + 100), (PART + 100, PART + 100)]
