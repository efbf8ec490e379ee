"""A training whose process was killed goes on from its checkpoint, and ends as if nothing had been."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("trl", minversion="1.16", reason="TRL is not installed: it comes with the extra lm")

import preset_training as preset
import torch
from live_endpoint import LiveArms, live_arms

from recal_bench.experiments.work import METRICS, work_folder
from recal_bench.training import checkpoint_step

# TRL, transformers and torch warn of each other's deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveArms]:
    """A folder with a pool file, and the endpoint that answers for it."""
    with live_arms(tmp_path_factory.mktemp("killed")) as found:
        yield found


@pytest.fixture(scope="module")
def killed(arms: LiveArms) -> Path:
    """The folder, with the remains of `preset_training.killed`."""
    out = arms.folder
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "RECAL_BENCH_CACHE": str(out)}
    done = subprocess.run(
        [sys.executable, preset.__file__, "killed", str(out)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    return out


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_killed_training_ends_as_one_that_was_not(epochs: int, killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(killed))
    target = killed / f"killed-{epochs}"
    work, whole = work_folder(target), killed / f"whole-{epochs}"
    assert checkpoint_step(work) == 4
    assert len((work / METRICS).read_text(encoding="utf-8").splitlines()) == 6
    resumed, undisturbed = preset.Killed(target).fit(epochs=epochs), preset.Killed(whole).fit(epochs=epochs)
    lines, expected = ((folder / METRICS).read_text(encoding="utf-8") for folder in (work, work_folder(whole)))
    assert lines == expected
    assert len(lines.splitlines()) == 7
    # What went on was still learning.
    assert all(json.loads(line)["gradient_norm"] > 0.1 for line in lines.splitlines()[-2:])
    found, wanted = preset.weights(resumed), preset.weights(undisturbed)
    assert all(torch.equal(value, wanted[name]) for name, value in found.items())
    assert sorted(path.name for path in work.iterdir()) == [METRICS]


def test_a_killed_training_with_live_arms_goes_on_and_pays_for_no_answer_twice(
    killed: Path, arms: LiveArms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(killed))
    target, whole, live = killed / "killed-live", killed / "whole-live", {"live": str(arms.pool), "rounds": 2}
    work = work_folder(target)
    assert checkpoint_step(work) == 4
    before = len(arms.requests)
    resumed = preset.Killed(target).fit(**live)
    assert len(arms.requests) >= before > 0
    assert set(Counter(arms.asked()).values()) == {1}
    # Without its journal the undisturbed one asks, and pays for, the same again.
    for path in killed.glob("pool.journal*"):
        path.unlink() if path.is_file() else shutil.rmtree(path)
    undisturbed = preset.Killed(whole).fit(**live)
    assert set(Counter(arms.asked()).values()) == {2}
    lines, expected = ((folder / METRICS).read_text(encoding="utf-8") for folder in (work, work_folder(whole)))
    assert lines == expected
    found, wanted = preset.weights(resumed), preset.weights(undisturbed)
    assert all(torch.equal(value, wanted[name]) for name, value in found.items())
