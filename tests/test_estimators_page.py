"""docs/estimators.md: its files, written out of the page, do in a real run what the page says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_log import small_log

PAGE = (Path(__file__).parent.parent / "docs" / "estimators.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```python\n# plugins/(\w+\.py)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
SMALL = ("steps=8", "batch_size=16", "group_size=4", "prior.k=10")
OWN = (*SMALL, "calibration.decay=0.9", "components=latency:0.3", "encoder=tfidf+shape")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files in `plugins`, and a log of 120 queries whose latency is not always known."""
    tmp_path = tmp_path_factory.mktemp("page")
    (tmp_path / "plugins").mkdir()
    for name, text in FILES.items():
        (tmp_path / "plugins" / name).write_text(text, encoding="utf-8")
    rng = np.random.default_rng(0)
    log = small_log()
    latency_N = np.where(log["strategy"] == "cot", 20.0, 2.0) * rng.uniform(0.5, 1.5, len(log))
    log["latency_s"] = np.where(rng.random(len(log)) < 0.1, np.nan, latency_N)
    log.to_parquet(tmp_path / "log.parquet", index=False)
    return tmp_path


# A run of a process of its own, in which few queries are timed.
RUN = """
from recal_bench.cli import main
from recal_bench.experiments import latency
latency.TIMED_QUERIES, latency.REPEATS = 3, 1
main()
"""


def run(folder: Path, *words: str, settings: tuple[str, ...] = ()) -> None:
    """`recal-bench run` on the log, with the plug-ins."""
    command = [sys.executable, "-c", RUN, "run", "--include-path", "plugins", "--outcomes", "log.parquet"]
    sets = [part for each in settings for part in ("--set", each)]
    done = subprocess.run([*command, *words, *sets], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def records(folder: Path, router: str) -> list[dict[str, Any]]:
    found = sorted((folder / "runs").glob(f"{router}-*/run.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in found]


def metrics(folder: Path, router: str) -> list[dict[str, Any]]:
    (path,) = (folder / "runs").glob(f"{router}-*/metrics.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """The same folder with a run of all three plug-ins."""
    run(folder, "--router", "steady", settings=OWN)
    return folder


def test_the_page_shows_one_file_of_each_kind() -> None:
    assert sorted(FILES) == ["latency.py", "shape.py", "steady.py"]
    assert PAGE.count("```python") == len(FILES)
    assert all(text.count("\n") < 25 for text in FILES.values())


def test_an_estimator_a_component_and_an_encoder_of_ones_own_in_one_run(trained: Path) -> None:
    (record,) = records(trained, "steady")
    configuration = record["configuration"]
    assert configuration["settings"]["estimator"] == "steady"
    assert configuration["settings"]["calibration.decay"] == 0.9
    assert configuration["settings"]["components"] == "latency:0.3"
    assert set(configuration["columns"]) == {"latency_s"}
    assert record["encoder"] == "tfidf+shape"
    assert not any(key.startswith("calibration.") for key in configuration["settings"] if key != "calibration.decay")
    lines = metrics(trained, "steady")
    assert len(lines) == 9
    assert all(np.isfinite(value) for line in lines for value in line.values())
    assert lines[-1]["component_mean/latency"] < 0
    assert lines[-1]["spread_share/latency"] > 0.5

    # What is saved is found again by `route`, which needs the encoder's class alone.
    (kept,) = (trained / "runs").glob("steady-*")
    words = ["route", "--run", str(kept), "--include-path", "plugins", "question 7: river lake"]
    routed = subprocess.run(
        [sys.executable, "-m", "recal_bench.cli", *words], cwd=trained, capture_output=True, text=True, check=False
    )
    assert routed.returncode == 0, routed.stderr
    assert "|" in routed.stdout


def test_an_edited_plug_in_is_run_again_and_an_unchanged_one_is_not(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    run(folder, "--router", "steady", settings=OWN)
    assert len(records(folder, "steady")) == 1
    path = folder / "plugins" / "latency.py"
    path.write_text(path.read_text(encoding="utf-8").replace("/ 10", "/ 20"), encoding="utf-8")
    run(folder, "--router", "steady", settings=OWN)
    assert len(records(folder, "steady")) == 2


def test_a_baseline_encodes_with_an_encoder_of_ones_own(folder: Path) -> None:
    run(folder, "--router", "ridge", settings=("encoder=shape",))
    assert [record["encoder"] for record in records(folder, "ridge")] == ["shape"]


def test_what_is_not_there_is_refused_in_one_line(folder: Path) -> None:
    code = """
import sys
from pathlib import Path
from recal_bench.errors import SettingsError
from recal_bench.routers import create, discover

discover((Path("plugins"),))
for word in sys.argv[1:]:
    try:
        create("recal", dict(part.split("=") for part in word.split()))
    except SettingsError as error:
        print(error)
"""
    wrong = {
        "components=latncy": "no component is called latncy (did you mean latency?)",
        "components=latency:fast": "the weight of latency is a number, as in latency:0.1",
        "components=latency,latency:1": "names latency twice",
        "components=latency reward=router-r1": "reward=router-r1 is one number",
        "estimator=stead": "no estimator is called stead (did you mean steady?)",
        "estimator=steady": "estimator steady has settings of its own: use the router steady instead",
        "encoder=tfidf+shap": "no encoder is called shap (did you mean shape?)",
        "encoder=shape+shape": "names a part twice",
    }
    done = subprocess.run([sys.executable, "-c", code, *wrong], cwd=folder, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(wrong)
    for line, message in zip(lines, wrong.values(), strict=True):
        assert message in line
