"""Training curves for TensorBoard."""

import math
import shutil

import pytest
from click.testing import CliRunner

from recal_bench.cli import cli
from recal_bench.experiments.records import find_runs

RUN = ["run", "--router", "recal,ridge", "--set", "recal:steps=30", "--tasks", "nq"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("events") / "runs"
    result = CliRunner().invoke(cli, [*RUN, "--runs", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


def scalars(folder):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", exc_type=ImportError)
    read = events.EventAccumulator(str(folder), size_guidance={events.SCALARS: 0})
    read.Reload()
    return {name: [(each.step, each.value) for each in read.Scalars(name)] for name in read.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_what_was_logged_and_only_once(runs, tmp_path):
    pytest.importorskip("tensorboard")
    events = tmp_path / "some events"
    for _ in range(2):
        result = CliRunner().invoke(cli, [*RUN, "--runs", str(runs), "--tensorboard", str(events)])
        assert result.exit_code == 0, result.output
        assert f"1 training log in {events}/: tensorboard --logdir '{events}'" in result.stderr
    (run,) = [run for run in find_runs(runs).runs if run.record.configuration.router == "recal"]
    assert [path.name for path in events.iterdir()] == [run.folder.name]
    found = scalars(events / run.folder.name)
    logged = {}
    for line in run.metrics():
        for name, value in line.items():
            if name != "step" and isinstance(value, float | int) and math.isfinite(value):
                logged.setdefault(name, []).append((line["step"], pytest.approx(value, rel=1e-5, abs=1e-30)))
    assert "validation_utility" in found
    assert found == logged


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_runs_without_a_log_are_told(runs, tmp_path):
    pytest.importorskip("tensorboard")
    alone = tmp_path / "runs"
    words = [
        "run",
        "--router",
        "ridge",
        "--tasks",
        "nq",
        "--runs",
        str(alone),
        "--tensorboard",
        str(tmp_path / "events"),
    ]
    shutil.copytree(runs, alone)
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert "no router of these keeps a training log" in result.stderr
    assert not (tmp_path / "events").exists()


def test_a_missing_package_is_named_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    result = CliRunner().invoke(
        cli, [*RUN, "--runs", str(tmp_path / "runs"), "--tensorboard", str(tmp_path / "events")]
    )
    assert result.exit_code == 2
    assert (
        result.output.splitlines()[-1] == "Error: --tensorboard needs the package tensorboard: pip install tensorboard"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_file_is_refused_before_any_work(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "events").write_text("")
    result = CliRunner().invoke(
        cli, [*RUN, "--runs", str(tmp_path / "runs"), "--tensorboard", str(tmp_path / "events")]
    )
    assert result.exit_code == 2
    assert "is a file: name a folder" in result.output
    assert not (tmp_path / "runs").exists()
