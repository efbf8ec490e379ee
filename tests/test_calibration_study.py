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
boards = pytest.importorskip("boards", reason="benchmarks/ is not in this checkout")
calibration_report = pytest.importorskip("calibration_report", reason="benchmarks/ is not in this checkout")

FIXED = (("steps", 20), ("batch_size", 16), ("encoder", "tfidf"), ("prior.kind", "none"), ("trust", 1.0))
ROUTERS = ("grpo", "recal", "recal-unbiased", "ridge")


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: Any) -> tuple[Any, Any]:
    write_small_log(tmp_path / "log.parquet")
    parts = (
        calibration_study.Part("none", None, ROUTERS, FIXED),
        calibration_study.Part("routerdc", "log.parquet", tuple(name for name in ROUTERS if name != "recal-unbiased")),
    )
    for name, value in {"PARTS": parts, "SEEDS": 3, "TRIALS": 2, "TUNING_WORLDS": (61,), "WORLDS": (62, 63)}.items():
        monkeypatch.setattr(calibration_study, name, value)
    published = {"in distribution": (("geo",), 58.54), "out of distribution": (("law",), 45.85)}
    monkeypatch.setattr(calibration_report, "ROUTERDC", published)
    monkeypatch.setitem(calibration_study.BOARDS, "routerdc", "log.parquet")
    monkeypatch.setenv("RECAL_BENCH_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["calibration_study.py"])
    return parts


def test_the_study_tunes_runs_and_reports_and_finds_its_runs_again(
    parts: tuple[Any, Any], tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(sys, "argv", ["calibration_study.py", "--only", "none"])
    calibration_study.main()
    out = tmp_path / "leaderboards" / "calibration-study"
    assert "**Not run yet**: log (logged)." in (out / "README.md").read_text()
    of_worlds = {path: path.read_text() for path in out.glob("none.*")}
    assert {path.suffix for path in of_worlds} == {".md", ".json"}
    monkeypatch.setattr(sys, "argv", ["calibration_study.py", "--only", "routerdc", "--runs", "elsewhere"])
    bench = load_bench(tmp_path / "log.parquet")
    of_board = [tune(Search.of(bench, name, 1, "cpu", dict(FIXED))) for name in ("grpo", "recal")]
    board = tmp_path / "leaderboards" / "routerdc" / "tuned.json"
    board.parent.mkdir()
    write_tuned(of_board, board)
    calibration_study.main()
    # A part that ran on another day, or machine, keeps its report.
    assert {path: path.read_text() for path in out.glob("none.*")} == of_worlds
    index = (out / "README.md").read_text()
    assert "Not run yet" not in index
    (headers,) = [line for line in index.splitlines() if line.startswith("| recal less")]
    assert "[none](none.md)" in headers
    assert "[routerdc](routerdc.md)" in headers
    report = of_worlds[out / "none.md"] + (out / "routerdc.md").read_text()
    assert "| recal-unbiased | grpo" in report
    assert "# log (logged)" in report
    assert "| out of distribution | recal" in report
    assert any(above in report for above in ("| 0/2", "| 1/2", "| 2/2"))  # of two worlds
    assert "/3" in report  # of three seeds
    assert any(verdict in report for verdict in ("| wins", "| ties", "| loses"))
    assert {path.name for path in out.glob("*.png")} == {"none-training.png", "routerdc-training.png"}
    (ridge,) = json.loads((out / "tuned-routerdc.json").read_text())  # the others are those of the board
    assert (ridge["router"], len(ridge["trials"])) == ("ridge", 2)
    tuned = {each["router"]: each for each in json.loads((out / "tuned-none.json").read_text())}
    assert {name: len(each["trials"]) for name, each in tuned.items()} == dict.fromkeys(ROUTERS, 2)
    trained = [tuned[name] for name in ROUTERS if name != "ridge"]
    assert all(trial["settings"]["steps"] == 20 for each in trained for trial in each["trials"])
    numbers = {name: json.loads((out / f"{name}.json").read_text()) for name in ("none", "routerdc")}
    assert numbers["routerdc"]["recal"]["steadiness_vs_grpo"]["sd_ratio"]
    assert numbers["none"]["ridge"]["utility"][0] > numbers["none"]["random"]["utility"][0]

    records = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")}
    capsys.readouterr()
    calibration_study.main()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")} == records
    assert (out / "README.md").read_text() == index

    # The board, made again, does not tune what the study did.
    assert boards.tuned_so_far("routerdc", ["ridge", "grpo", "irt"], board) == {"ridge", "grpo"}
    assert [each["router"] for each in json.loads(board.read_text())] == ["grpo", "ridge"]
