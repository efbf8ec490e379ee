"""A training by two processes that torchrun starts is that of one; the first of them alone logs and writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from small_log import write_small_log

pytest.importorskip("trl", minversion="1.16", reason="TRL is not installed: it comes with the extra lm")

import preset_training as preset
import torch

from recal_bench import read_runs
from recal_bench.cli import cli
from recal_bench.errors import SettingsError
from recal_bench.language_model.processes import require_world, share_of, world_size

# TRL, transformers and torch warn of each other's deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def both(folder: Path) -> list[dict[str, Any]]:
    """What each of the two processes left, beside the runs of a log of theirs."""
    write_small_log(folder / "log.parquet", queries=40)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONWARNINGS": "ignore",
        "RECAL_BENCH_CACHE": str(folder / "cache"),
    }
    done = subprocess.run(
        [sys.executable, *torchrun, preset.__file__, "two", str(folder)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stdout.count(f"run records in {folder / 'runs'}/") == 1
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_losses_gradients_parameters_and_state_are_those_of_one_process(
    both: list[dict[str, Any]], tmp_path: Path
) -> None:
    one = preset.train_ours("recal", {}, preset.two_process_rewards(), preset.TWO_PROCESS_WEIGHTS, tmp_path)
    close = {"atol": 1e-5, "rtol": 1e-5}
    for rank, two in enumerate(both):
        for mine, theirs in zip(one.steps, two["steps"], strict=True):
            assert any(value.abs().max() > 1e-3 for value in mine.gradient.values())
            torch.testing.assert_close(theirs["gradient"], mine.gradient, **close)
        torch.testing.assert_close(two["parameters"], one.parameters, **close)
        # The state is of tensors of all rollouts, which no sum over processes has blurred.
        assert all(torch.equal(*pair) for pair in zip(two["state"], one.trainer.advantages.pack(), strict=True))
        if rank == 0:
            for mine_logged, logged in zip(one.logs, two["logs"], strict=True):
                assert logged == pytest.approx(mine_logged, abs=1e-5, rel=1e-5, nan_ok=True)
    scale_D = one.trainer.advantages.state.scale_D
    assert (scale_D.count_N > 0).all()
    assert scale_D.value_N[0] != scale_D.value_N[1]


def test_the_first_process_alone_logs_and_both_end_with_what_is_kept(both: list[dict[str, Any]], folder: Path) -> None:
    first, second = both
    assert [line["step"] for line in first["lines"]] == list(range(7))
    assert [line["step"] for line in first["lines"] if "validation_utility" in line] == [0, 3, 6]
    assert second["lines"] == []
    assert list((folder / "fit").rglob("*")) == []
    assert first["weights"].keys() == second["weights"].keys()
    assert all(torch.equal(value, second["weights"][name]) for name, value in first["weights"].items())


@pytest.mark.usefixtures("both")
def test_the_command_train_leaves_one_run_which_is_shown_and_compared(folder: Path) -> None:
    """Started by torchrun as `-m recal_bench train`, but in the same two processes."""
    (run,) = [each for each in read_runs(folder / "runs") if each.record.configuration.router == "recal-lm"]
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert list((folder / "runs").glob(".recal-lm*")) == []
    for words in (["show", str(run.folder)], ["compare", str(folder / "runs")]):
        told = CliRunner().invoke(cli, words)
        assert told.exit_code == 0, told.output
        assert "recal-lm" in told.output


def test_processes_that_would_train_alone_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path))
    with pytest.raises(SettingsError, match=r"WORLD_SIZE=2 without RANK, .* by torchrun, or unset WORLD_SIZE"):
        preset.fitted(tmp_path, lambda line: None, warm_start="none")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    assert world_size() == 2
    with pytest.raises(SettingsError, match=r"2 processes were started, and each would train alone \(1 together\)"):
        require_world(1)
    with pytest.raises(SettingsError, match="a batch of 5 is not a multiple of 2 processes"):
        share_of(5, "a batch of 5")
    require_world(2)
