"""The language model's benchmark at its smallest: what is written for a GPU runs on a CPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl", minversion="1.16", reason="TRL is not installed: it comes with the extra lm")

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
lm_policy = pytest.importorskip("lm_policy", reason="benchmarks/ is not in this checkout")

# TRL, transformers and torch warn of each other's deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_part_for_a_gpu_runs_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "cache"))
    said: list[str] = []
    lm_policy.main(
        ["gpu-tiny", "--small", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")], said.append
    )
    told = json.loads((tmp_path / "out" / "gpu-tiny.json").read_text(encoding="utf-8"))
    rows = told["rows"]
    assert list(rows) == ["start", "recal"]
    assert told["simulated"]
    assert rows["recal"]["sampled_less_start"]["low"] <= rows["recal"]["sampled_less_start"]["high"]
    assert rows["start"]["speed"] is None
    speed = rows["recal"]["speed"]
    assert speed["tokens_per_second"] == pytest.approx(speed["tokens"] / speed["step_seconds"])
    assert 0 < speed["utilisation"] < 1
    # 16 rollouts of at least a prompt and a token each.
    assert speed["tokens"] > 16 * 2
    assert speed["flop"] > 8 * 500_000 * speed["tokens"]
    page = (tmp_path / "out" / "gpu-tiny.md").read_text(encoding="utf-8")
    assert "| a step of" in page
    assert "Simulated" in page
    assert "recal-lm" in (tmp_path / "out" / "gpu-tiny-stability.md").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "gpu-tiny-training.svg").exists()
