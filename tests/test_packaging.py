"""The wheel, as a user gets it: what lies in it, and whether it works with no checkout near."""

import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(REPOSITORY)], check=True)
    (path,) = folder.glob("*.whl")
    return path


def test_tasks_and_baselines_lie_inside_the_package_and_nothing_beside_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    package, information = sorted({name.partition("/")[0] for name in names})
    assert package == "recal_bench"
    assert information.endswith(".dist-info")
    assert f"{information}/licenses/LICENSE" in names
    assert not [name for name in names if name.endswith(".pyc")]
    page = {f"recal_bench/reporting/page/page.{ending}" for ending in ("html.j2", "js", "css")}
    assert page <= set(names)
    for kind, pattern in (("tasks", "*.yaml"), ("tasks", "*.py"), ("baselines", "*.py"), ("pools", "*.yaml")):
        there = {path.name for path in (REPOSITORY / kind).glob(pattern)}
        assert there
        assert there <= {name.rpartition("/")[2] for name in names if name.startswith(f"recal_bench/shipped/{kind}/")}


def test_the_version_has_its_section_in_the_changelog(wheel: Path) -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    version = re.escape(wheel.name.split("-")[1])
    assert re.search(rf"^## \[{version}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE)


def test_the_wheel_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Third-party packages are those of the running environment; ours comes from the wheel alone."""
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv/bin/python"
    (site,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    # Paths named in a .pth file are searched, but their own .pth files (an editable install's) are not read.
    elsewhere = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "third_party.pth").write_text("\n".join(elsewhere), encoding="utf-8")
    home = tmp_path / "empty"
    home.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV_"))}

    def call(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    options = ["--no-deps", "--no-index", "--no-compile", "--ignore-installed", "--quiet"]
    call(python, "-m", "pip", "install", *options, wheel)
    assert Path(call(python, "-c", "import recal_bench; print(recal_bench.__file__)").strip()).is_relative_to(site)
    recal_bench = python.with_name("recal-bench")
    assert call(recal_bench, "--version").split() == ["recal-bench,", "version", wheel.name.split("-")[1]]
    assert "bamboogle" in call(recal_bench, "tasks")
    assert "price book" in call(
        recal_bench, "collect", "--pool", "embedded", "--limit", "1", "--out", "o.parquet", "--dry-run"
    )
    shown = call(recal_bench, "run", "--router", "recal", "--set", "recal:steps=10", "--tasks", "nq", "--runs", "runs")
    assert "simulated" in shown
    assert "recal" in shown
    assert list(home.glob("runs/*/run.json"))
