from pathlib import Path

import pytest
from small_log import write_small_log

from recal_bench import load_bench, run

pytest.importorskip("uvicorn", reason="needs the extra serve")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs on a small log with three arms, by their routers."""
    folder = tmp_path_factory.mktemp("gateway")
    bench = load_bench(write_small_log(folder / "log.parquet"))
    found = run(bench, ["ridge", "logistic", "random", "arm:codex-iuris|cot"], runs=folder / "runs")
    return {each.record.configuration.router: each.folder for each in found}
