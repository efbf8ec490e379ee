"""A board's figures, made again by pandas alone, agree with the report."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from small_log import small_log

from recal_bench.cli import cli

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "recompute.py"


@pytest.mark.parametrize("logged", [False, True])
def test_a_board_is_recomputed(tmp_path: Path, logged: bool) -> None:
    frame = small_log(900 if logged else 200)
    if logged:
        drawn = frame.groupby("query_id").sample(1, random_state=0).assign(propensity=1 / 3)
        several = frame["query_id"].isin(sorted(set(frame["query_id"]))[::3])
        frame = pd.concat([frame[several], drawn[~drawn["query_id"].isin(frame[several]["query_id"])]])
    frame.to_parquet(tmp_path / "log.parquet", index=False)
    words = [
        "run",
        "--router",
        "knn",
        "--seeds",
        2,
        "--outcomes",
        tmp_path / "log.parquet",
        "--runs",
        tmp_path / "runs",
    ]
    done = CliRunner().invoke(cli, [*map(str, words)])
    assert done.exit_code == 0, done.output
    command = [sys.executable, str(SCRIPT), str(tmp_path / "runs")]
    command += [] if logged else ["--outcomes", str(tmp_path / "log.parquet")]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.strip().endswith("0 differ")
