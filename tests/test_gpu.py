"""The benchmark of a GPU, small and on the CPU: that it runs, and that its figures are what they are called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
gpu = pytest.importorskip("gpu", reason="benchmarks/ is not in this checkout")


def test_it_runs_whole_and_writes_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "cache"))
    gpu.main(["--device", "cpu", "--small", "--out", str(tmp_path / "board")])
    report = json.loads((tmp_path / "board" / "gpu.json").read_text(encoding="utf-8"))
    assert [row["seeds"] for row in report["seeds"]] == list(gpu.SMALL.seeds)
    assert [tuple(row[name] for name in gpu.Size._fields) for row in report["sweep"]] == list(gpu.SMALL.sweep)
    assert all(0 < row["flop_share"] < 1 for row in report["sweep"])
    assert report["parity"]["apart"] == dict.fromkeys(gpu.TOLERANCE, 0.0)
    written = (tmp_path / "board" / "gpu.md").read_text(encoding="utf-8")
    assert written.strip() == capsys.readouterr().out.strip()
    assert "python benchmarks/gpu.py --device cpu --small" in written
    assert torch.__version__ in written
    assert "within the tolerance" in written
    if isinstance(report["encoder"], str):
        assert "not installed" in written
    else:
        assert all(row["texts"] == gpu.SMALL.texts for row in report["encoder"])


def test_the_flop_of_a_step_are_those_that_torch_counts() -> None:
    learner = gpu.learner_of(gpu.Size(3, 32, 6), "cpu", 100, 50)
    rollouts = learner.draw()
    judged = learner.judge(rollouts)
    with FlopCounterMode(display=False) as forward:
        learner.policy(*rollouts.seen)
    with FlopCounterMode(display=False) as backward:
        learner.ascend(rollouts, judged.advantage_SQG)
    assert gpu.flop_of_step(learner.policy, 32) == forward.get_total_flops() + backward.get_total_flops()


def test_trainings_that_differ_are_found_apart() -> None:
    size = gpu.Size(2, 32, 4)
    one, same = (gpu.outcome_of(gpu.learner_of(size, "cpu", 400, 100), 5) for _ in range(2))
    assert not any(gpu.apart(one, same).values())
    other = gpu.learner_of(size, "cpu", 400, 100)
    other.generators[1].manual_seed(9)
    found = gpu.apart(one, gpu.outcome_of(other, 5))
    assert found["drawn_apart"] > gpu.TOLERANCE["drawn_apart"]
    assert found["parameter_rms"] > 0


def test_a_size_beyond_the_memory_is_told_and_the_rest_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def swept(size: Any, *told: Any) -> dict[str, Any]:
        if size.arms > 4:
            raise torch.OutOfMemoryError
        return {"steps_per_second": 2.0, "memory_mib": 1.0, "flop_share": 0.5}

    monkeypatch.setattr(gpu, "swept", swept)
    monkeypatch.setattr(gpu, "matrix_product", lambda *told: 1e12)
    rows = gpu.sweep("cpu", gpu.SMALL)
    assert [row.get("out_of_memory", False) for row in rows] == [False, True]


def test_without_a_gpu_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--device cpu" in capsys.readouterr().err
