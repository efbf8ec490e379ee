"""The command of the calibration study, end to end on worlds of the embedded pool and on a small log."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from small_log import write_small_log

from recal_bench.experiments.bench import load_bench
from recal_bench.experiments.trials import Search, tune
from recal_bench.experiments.tuning import write_tuned

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
calibration_study = pytest.importorskip("calibration_study", reason="benchmarks/ is not in this checkout")

FIXED = (("steps", 20), ("batch_size", 16), ("encoder", "tfidf"), ("prior.kind", "none"), ("trust", 1.0))
ROUTERS = ("grpo", "recal", "recal-unbiased", "ridge")


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: Any) -> tuple[Any, Any]:
    write_small_log(tmp_path / "log.parquet")
    parts = (
        calibration_study.Part("none", None, ROUTERS, FIXED),
        calibration_study.Part("nq500", "log.parquet", ROUTERS),
    )
    for name, value in {"PARTS": parts, "SEEDS": 3, "TRIALS": 2, "TUNING_WORLDS": (61,), "WORLDS": (62, 63)}.items():
        monkeypatch.setattr(calibration_study, name, value)
    monkeypatch.setitem(calibration_study.BOARDS, "nq500", "log.parquet")
    monkeypatch.setenv("RECAL_BENCH_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["calibration_study.py"])
    return parts


def test_the_study_tunes_runs_and_reports_and_finds_its_runs_again(
    parts: tuple[Any, Any], tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    with pytest.raises(SystemExit, match=r"lacks grpo, .* run `python benchmarks/boards.py nq500` first"):
        calibration_study.main()
    monkeypatch.setattr(sys, "argv", ["calibration_study.py", "--only", "none"])
    calibration_study.main()
    assert "**Not run yet**: log (logged)." in (tmp_path / "leaderboards/calibration-study/README.md").read_text()
    monkeypatch.setattr(sys, "argv", ["calibration_study.py"])
    bench = load_bench(tmp_path / "log.parquet")
    of_log = [tune(Search.of(bench, name, 1, "cpu", dict(FIXED) if name != "ridge" else {})) for name in ROUTERS]
    parts[1].tuned_path.parent.mkdir()
    write_tuned(of_log, parts[1].tuned_path)
    calibration_study.main()
    out = tmp_path / "leaderboards" / "calibration-study"
    report = (out / "README.md").read_text()
    assert "| recal-unbiased | grpo" in report
    assert "Not run yet" not in report
    assert "## log (logged)" in report
    assert any(above in report for above in ("| 0/2", "| 1/2", "| 2/2"))  # of two worlds
    assert "/3" in report  # of three seeds
    assert any(verdict in report for verdict in ("| wins", "| ties", "| loses"))
    assert {path.name for path in out.glob("*.png")} == {"none-training.png", "nq500-training.png"}
    tuned = json.loads((out / "tuned-none.json").read_text())
    assert [len(each["trials"]) for each in tuned] == [2] * 4
    assert all(trial["settings"]["steps"] == 20 for each in tuned[:3] for trial in each["trials"])
    numbers = json.loads((out / "study.json").read_text())
    assert numbers["nq500"]["recal"]["steadiness_vs_grpo"]["sd_ratio"]
    assert numbers["none"]["ridge"]["utility"][0] > numbers["none"]["random"]["utility"][0]

    records = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")}
    capsys.readouterr()
    calibration_study.main()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")} == records
    assert (out / "README.md").read_text() == report
