"""Small sources in the forms in which other projects really write them, and how they are imported."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from recal_bench.cli import cli
from recal_bench.outcomes.files import check_file

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """The command `import`, as a user types it."""

    def invoke(*words: object) -> Result:
        result = CliRunner().invoke(cli, ["import", *map(str, words)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


@pytest.fixture
def imported(run: Run, tmp_path: Path) -> Callable[..., pd.DataFrame]:
    """Imports what must go well; the rows of a file that `validate` takes. The output is in `attrs["output"]`."""

    def rows(*words: object) -> pd.DataFrame:
        out = tmp_path / "out" / "imported.parquet"
        result = run(*words, "--out", out)
        assert result.exit_code == 0, result.output
        assert result.output.splitlines()[-1] == f"{out} is written: recal-bench validate {out}"
        assert not check_file(out).problems
        frame = pd.read_parquet(out)
        frame.attrs["output"] = result.output
        return frame

    return rows


@pytest.fixture
def refused(run: Run, tmp_path: Path) -> Callable[..., str]:
    """Imports what must be refused: the one line that says why. No file is left."""

    def message(*words: object) -> str:
        out = tmp_path / "refused.parquet"
        result = run(*words, "--out", out)
        assert result.exit_code == 2, result.output
        assert not out.exists()
        (line,) = result.output.splitlines()
        assert line.startswith("Error: ")
        return line.removeprefix("Error: ")

    return message
