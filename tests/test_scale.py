"""The benchmark of large logs, small: that it runs, and that its figures are what they are called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from recal_bench.cli import cli

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
scale = pytest.importorskip("scale", reason="benchmarks/ is not in this checkout")


def test_the_log_part_runs_from_a_file_to_a_table_and_then_replays_arms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def in_this_process(command: list[str], cache: Path, limit: int | None = None) -> tuple[dict[str, Any], str]:
        monkeypatch.setenv("RECAL_BENCH_CACHE", str(cache))
        printed = ""
        if command[1] == "-m":
            result = CliRunner().invoke(cli, command[3:])
            assert result.exit_code == 0, result.output
            printed = result.output
        else:
            queries, arms = (int(command[command.index(name) + 1]) for name in ("--queries", "--arms"))
            scale.write_log(Path(command[2]), queries, arms)
        return {"cpu_s": 1.0, "wall_s": 1.0, "peak_mib": 1.0, "stopped": False}, printed

    monkeypatch.setattr(scale, "measured", in_this_process)
    scale.measure_log(tmp_path, 200, 3)
    told = capsys.readouterr().out
    assert "600 rows: file to table" in told
    assert "3 more routers" in told
    assert pq.read_metadata(tmp_path / "log.parquet").num_rows == 600
    made = {path.parent.name.split("-")[0] for path in tmp_path.glob("runs/*/run.json")}
    assert {"ridge", "knn", "oracle", "arm"} <= made


def test_growth_measures_a_router_on_the_train_queries_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "cache"))
    scale.write_log(tmp_path / "log.parquet", 150, 3)
    scale.child("ridge", tmp_path / "log.parquet")
    figures = json.loads(capsys.readouterr().out)
    assert figures["n_train"] == 120
    assert figures["fit_s"] > 0
    assert figures["route_us"] > 0


def test_a_table_holds_the_slope_and_what_was_stopped(tmp_path: Path) -> None:
    def row(size: int, stopped: bool = False) -> dict[str, Any]:
        figures = {} if stopped else {"fit_s": size**2 / 1e4, "route_us": 2.0 * size}
        return {"router": "knn", "size": size, "limit_s": 60, "stopped": stopped, "peak_mib": 100.0, **figures}

    rows = [row(100), row(1_000), row(10_000, stopped=True)]
    shown = scale.table(rows)
    assert "| knn | slope | 2.00 | 1.00 | 0.00 |" in shown
    assert "stopped at 60 s" in shown
    scale.draw(rows, tmp_path / "scale.svg")
    assert (tmp_path / "scale.svg").stat().st_size > 1_000


def test_a_command_over_its_limit_is_stopped_and_said_to_be(tmp_path: Path) -> None:
    figures, _ = scale.measured([sys.executable, "-c", "while True: pass"], tmp_path, limit=1)
    assert figures["stopped"]
    figures, printed = scale.measured([sys.executable, "-c", "print(bytes(10**8)[:1])"], tmp_path)
    assert printed.startswith("b")
    assert not figures["stopped"]
    assert figures["peak_mib"] > 90
