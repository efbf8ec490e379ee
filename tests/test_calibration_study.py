"""The command of the calibration study, end to end on a small log."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from small_log import write_small_log

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
calibration_study = pytest.importorskip("calibration_study", reason="benchmarks/ is not in this checkout")


def test_the_study_tunes_runs_and_reports_and_finds_its_runs_again(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    write_small_log(tmp_path / "log.parquet")
    part = calibration_study.Part(
        "nq500",
        "log.parquet",
        routers=("grpo", "recal", "recal-unbiased", "ridge"),
        fixed=(("steps", "20"), ("batch_size", "16"), ("encoder", "tfidf"), ("prior.kind", "none")),
        trials=2,
    )
    monkeypatch.setattr(calibration_study, "PARTS", (part,))
    monkeypatch.setattr(calibration_study, "SEEDS", 3)
    monkeypatch.setenv("RECAL_BENCH_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["calibration_study.py"])
    calibration_study.main()
    out = tmp_path / "leaderboards" / "calibration-study"
    report = (out / "README.md").read_text()
    assert "| recal-unbiased | grpo" in report
    assert "/3" in report
    assert any(verdict in report for verdict in ("| wins", "| ties", "| loses"))
    assert (out / "nq500-training.png").exists()
    tuned = json.loads((out / "tuned-nq500.json").read_text())
    assert [len(each["trials"]) for each in tuned] == [2] * 4
    assert all(trial["settings"]["steps"] == "20" for each in tuned[:3] for trial in each["trials"])
    numbers = json.loads((out / "study.json").read_text())["nq500"]
    assert numbers["recal"]["steadiness_vs_grpo"]["sd_ratio"]

    records = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")}
    capsys.readouterr()
    calibration_study.main()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")} == records
    assert (out / "README.md").read_text() == report
