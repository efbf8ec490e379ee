"""Runs through the command line: records, found again, resumed after a kill, honest about what a router may see."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from small_log import small_log, write_small_log

from recal_bench.cli import cli
from recal_bench.experiments.records import read_run, read_runs

QUICK = ["--set", "recal:steps=30"]
COMMAND = [sys.executable, "-m", "recal_bench.cli"]


def invoke(*words):
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert "Traceback" not in result.output
    return result


def run(log, runs, *words, router="knn"):
    result = invoke("run", "--router", router, "--outcomes", log, "--runs", runs, *words)
    assert result.exit_code == 0, result.output
    return result


def decisions(runs, router):
    (folder,) = runs.glob(f"{router}-*")
    return pd.read_parquet(folder / "decisions.parquet")


@pytest.fixture
def log(tmp_path):
    return write_small_log(tmp_path / "log.parquet")


def test_a_run_leaves_a_complete_record(log, tmp_path):
    runs = tmp_path / "runs"
    result = run(log, runs, *QUICK, "--seeds", 2, router="recal")
    assert "recal" in result.output
    assert "best-single" in result.output
    names = [each.record.configuration.router for each in read_runs(runs)]
    assert names.count("recal") == 2
    assert {"best-single", "random", "cheapest", "knn", "oracle", "task-best", "best-accuracy"} < set(names)
    folder = next(runs.glob("recal-*-s0"))
    record = read_run(folder).record
    assert record.configuration.settings["steps"] == 30
    assert "--set steps=30" in record.command
    assert record.packages["numpy"]
    assert record.steps == 30
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 31  # the untrained policy's line comes first
    frame = pd.read_parquet(folder / "decisions.parquet")
    assert set(frame["split"]) == {"test"}
    alpha, cost_ref = record.configuration.data.alpha, record.configuration.data.cost_ref
    assert frame["utility"].to_numpy() == pytest.approx(frame["score"] - alpha * frame["cost_usd"] / cost_ref)
    assert not list(runs.glob(".*-s?"))


def test_steps_are_the_last_step_of_the_log_and_not_its_lines(tmp_path):
    log, runs = write_small_log(tmp_path / "log.parquet"), tmp_path / "runs"
    run(log, runs, router="linucb")
    (chosen,) = [each for each in read_runs(runs) if each.record.configuration.router == "linucb"]
    lines = chosen.metrics()
    assert chosen.record.steps == lines[-1]["step"] == chosen.record.configuration.data.n_queries["train"]
    assert len(lines) < chosen.record.steps
    assert invoke("stability", runs).exit_code == 0
    torn = (chosen.folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (chosen.folder / "metrics.jsonl").write_text("".join(torn[:-1]))
    assert "no run here keeps a complete training log" in invoke("stability", runs).output


def test_the_same_configuration_is_found_again_and_fresh_recomputes(log, tmp_path):
    runs = tmp_path / "runs"
    run(log, runs)
    (folder,) = runs.glob("knn-*")
    before = (folder / "run.json").stat().st_mtime_ns
    run(log, runs)
    assert (folder / "run.json").stat().st_mtime_ns == before
    run(log, runs, "--fresh")
    assert (folder / "run.json").stat().st_mtime_ns > before


def test_another_alpha_is_another_table(log, tmp_path):
    runs = tmp_path / "runs"
    run(log, runs)
    run(log, runs, "--alpha", 0.5)
    rows = json.loads(invoke("compare", runs, "--format", "json").output)
    assert {row["alpha"] for row in rows if row["router"] == "knn"} == {0.2, 0.5}
    assert invoke("compare", runs).output.count("best-single") >= 2


def test_the_order_of_the_rows_changes_nothing(tmp_path):
    frame = small_log()
    for name, rows in (("a", frame), ("b", frame.sample(frac=1, random_state=1))):
        (tmp_path / name).mkdir()
        rows.to_parquet(tmp_path / name / "log.parquet", index=False)
        run(tmp_path / name / "log.parquet", tmp_path / name / "runs", *QUICK, router="recal")
    for router in ("recal", "knn", "best-single", "random"):
        pd.testing.assert_frame_equal(decisions(tmp_path / "a/runs", router), decisions(tmp_path / "b/runs", router))


def test_no_router_reads_a_test_score(tmp_path):
    frame = small_log()
    poisoned = frame.copy()
    test = poisoned["split"] == "test"
    poisoned.loc[test, "score"] = 1 - poisoned.loc[test, "score"]
    poisoned.loc[test, "cost_usd"] *= 100
    routers = ("recal", "knn", "ridge", "best-single", "cheapest")  # test_every_router asks it of each
    named = [word for name in routers for word in ("--router", name)]
    for name, rows in (("a", frame), ("b", poisoned)):
        (tmp_path / name).mkdir()
        rows.to_parquet(tmp_path / name / "log.parquet", index=False)
        outcomes, runs = tmp_path / name / "log.parquet", tmp_path / name / "runs"
        assert invoke("run", *named, "--set", "steps=20", "--outcomes", outcomes, "--runs", runs).exit_code == 0
    for router in routers:
        assert list(decisions(tmp_path / "a/runs", router)["arm"]) == list(
            decisions(tmp_path / "b/runs", router)["arm"]
        ), router


def test_a_killed_run_goes_on_to_the_same_result(log, tmp_path):
    steps = ("--set", "recal:steps=250")
    run(log, tmp_path / "calm", *steps, router="recal")
    broken = tmp_path / "broken"
    command = [*COMMAND, "run", "--router", "recal", "--outcomes", log, *steps, "--runs", broken]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        logs = list(broken.glob(".recal-*/metrics.jsonl"))
        if logs and len(logs[0].read_text().splitlines()) > 101:  # the first checkpoint is kept at step 100
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    assert process.wait() == -signal.SIGKILL
    assert not list(broken.glob("recal-*"))
    run(log, broken, *steps, router="recal")
    pd.testing.assert_frame_equal(decisions(tmp_path / "calm", "recal"), decisions(broken, "recal"))
    calm, resumed = (read_run(next(runs.glob("recal-*-s0"))).metrics() for runs in (tmp_path / "calm", broken))
    assert calm == resumed


def test_missing_outcomes_need_a_rule(tmp_path):
    frame = small_log()
    frame = frame[~((frame["model"] == "atlas") & (frame["query_id"].str[-1] == "0"))]
    frame.to_parquet(tmp_path / "log.parquet", index=False)
    refused = invoke("run", "--router", "knn", "--outcomes", tmp_path / "log.parquet", "--runs", tmp_path / "runs")
    assert refused.exit_code == 2
    assert "--missing restrict" in refused.output
    run(tmp_path / "log.parquet", tmp_path / "restrict", "--missing", "restrict")
    assert decisions(tmp_path / "restrict", "random")["score"].notna().all()
    run(tmp_path / "log.parquet", tmp_path / "zero", "--missing", "zero")
    assert decisions(tmp_path / "zero", "random")["cost_usd"].notna().all()


def test_without_cost_the_utility_is_the_score(tmp_path):
    log = write_small_log(tmp_path / "log.parquet", cost=False)
    run(log, tmp_path / "runs", *QUICK, router="recal")
    frame = decisions(tmp_path / "runs", "recal")
    assert (frame["utility"] == frame["score"]).all()
    assert frame["cost_usd"].isna().all()
    assert not list((tmp_path / "runs").glob("cheapest-*"))
    refused = invoke("run", "--router", "dearest", "--outcomes", log, "--runs", tmp_path / "runs")
    assert refused.exit_code == 2
    assert "cost" in refused.output


def test_where_cost_is_partly_missing_there_is_no_utility(tmp_path):
    frame = small_log()
    frame.loc[frame.index[:70], "cost_usd"] = None
    frame.to_parquet(tmp_path / "log.parquet", index=False)
    run(tmp_path / "log.parquet", tmp_path / "runs")
    assert decisions(tmp_path / "runs", "knn")["utility"].isna().all()
    rows = json.loads(invoke("compare", tmp_path / "runs", "--format", "json").output)
    assert all(row["utility"] is None for row in rows)
    assert all(row["accuracy_macro"] is not None for row in rows)


def test_a_trained_router_answers_new_questions(log, tmp_path):
    runs = tmp_path / "runs"
    run(log, runs, *QUICK, router="recal")
    for router, source in (("recal", "mean score on train"), ("knn", "expected score")):
        result = invoke("route", "--run", next(runs.glob(f"{router}-*")), "which river has an island?", "which judge?")
        assert result.exit_code == 0, result.output
        assert "which judge?" in result.output
        assert "|direct" in result.output
        assert source in result.output
    shown = invoke("show", next(runs.glob("recal-*")))
    assert shown.exit_code == 0, shown.output
    assert "geo" in shown.output


ROUTER = '''
from dataclasses import dataclass
from typing import ClassVar
import json
from recal_bench.routers import router

@router("first-word")
@dataclass
class FirstWord:
    """Sends every query to one arm and bills ten cents for the advice."""
    arm: int = 0
    deterministic: ClassVar[bool] = True

    def fit(self, train, validation, context): ...

    def route(self, queries, calls):
        for row in range(len(queries.prompt)):
            calls.bill(row, 0.1)
        import numpy as np
        from recal_bench.routers import Decisions
        return Decisions(np.full(len(queries.prompt), self.arm))

    def save(self, folder): (folder / "arm.json").write_text(json.dumps(self.arm))
    def load(self, folder): self.arm = json.loads((folder / "arm.json").read_text())
'''


def test_a_router_of_ones_own_runs_like_the_shipped_ones(log, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "first_word.py").write_text(ROUTER)
    runs = tmp_path / "runs"
    run(log, runs, "--include-path", tmp_path / "mine", "--set", "arm=1", router="first-word")
    frame = decisions(runs, "first-word")
    assert frame["arm"].nunique() == 1
    assert (frame["router_cost_usd"] == 0.1).all()
    refused = invoke(
        *("run", "--router", "first-word", "--outcomes", log, "--include-path", tmp_path / "mine"),
        *("--set", "arm=9", "--runs", runs),
    )
    assert refused.exit_code == 2
    assert "one arm index" in refused.output


def test_settings_are_tuned_on_validation_and_marked(log, tmp_path):
    tuned = tmp_path / "tuned.json"
    result = invoke("tune", "--router", "knn", "--outcomes", log, "--trials", 3, "--out", tuned)
    assert result.exit_code == 0, result.output
    trials = json.loads(tuned.read_text())[0]["trials"]
    assert len(trials) == 3
    assert trials[0]["settings"] == {}
    runs = tmp_path / "runs"
    run(log, runs, "--tuned", tuned)
    (row,) = [r for r in json.loads(invoke("compare", runs, "--format", "json").output) if r["router"] == "knn"]
    assert row["tuned"] == "3 trials"
    other = invoke("run", "--router", "knn", "--outcomes", log, "--alpha", 0.7, "--tuned", tuned, "--runs", runs)
    assert other.exit_code == 2
    assert "tune again" in other.output


def test_a_router_whose_code_changed_is_run_again(log, tmp_path):
    (tmp_path / "mine").mkdir()
    words = ("--include-path", tmp_path / "mine")
    for bill in ("0.1", "0.2"):
        (tmp_path / "mine" / "first_word.py").write_text(ROUTER.replace("0.1", bill))
        subprocess.run(
            [*COMMAND, "run", "--router", "first-word", "--outcomes", log, *words, "--runs", tmp_path / "runs"],
            check=True,
            capture_output=True,
        )
    costs = {pd.read_parquet(path)["router_cost_usd"].iloc[0] for path in tmp_path.glob("runs/first-word-*/*.parquet")}
    assert costs == {0.1, 0.2}


def test_processes_on_one_folder_do_not_disturb_each_other(log, tmp_path):
    command = [*COMMAND, "run", "--router", "knn", "--outcomes", log, "--fresh"]
    started = [
        subprocess.Popen([*command, "--runs", tmp_path / "runs"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=120)[0].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], outputs
    names = [each.record.configuration.router for each in read_runs(tmp_path / "runs")]
    assert len(names) == len(set(names))


def test_a_router_is_never_shown_the_simulated_truth(tmp_path):
    (tmp_path / "mine").mkdir()
    code = ROUTER.replace("first-word", "truth-seeker").replace(
        "def fit(self, train, validation, context): ...",
        "def fit(self, train, validation, context):\n"
        "        assert train.outcomes.expected_score_QA is None\n"
        "        assert validation.outcomes.expected_cost_QA is None",
    )
    (tmp_path / "mine" / "truth_seeker.py").write_text(code)
    words = ("run", "--router", "truth-seeker", "--include-path", tmp_path / "mine", "--tasks", "nq")
    assert invoke(*words, "--runs", tmp_path / "runs").exit_code == 0


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut"])
def test_a_damaged_router_is_refused_in_one_line(log, tmp_path, content):
    run(log, tmp_path / "runs")
    (folder,) = (tmp_path / "runs").glob("knn-*")
    (folder / "router" / "learnt.npz").write_bytes(content)
    done = subprocess.run(
        [*COMMAND, "route", "--run", folder, "which river?"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--fresh" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("router", ["knn", "ridge", "gradient-boosting"])
def test_arrays_that_do_not_fit_each_other_are_refused_in_one_line(log, tmp_path, router):
    run(log, tmp_path / "runs", router=router)
    (folder,) = (tmp_path / "runs").glob(f"{router}-*")
    for path in (folder / "router").glob("*.npz"):
        arrays = dict(np.load(path))
        for name, array in arrays.items():
            if array.ndim == 0 or not np.issubdtype(array.dtype, np.floating):
                continue
            for spoilt in (array[:0], array[None], array.astype(str)):
                np.savez(path, **{**arrays, name: spoilt})
                result = invoke("route", "--run", folder, "which river?")
                assert result.exit_code in (0, 2)
                assert result.exit_code == 0 or len(result.output.splitlines()) == 1
                assert "allow_pickle" not in result.output
        np.savez(path, **arrays)


def test_a_folder_that_cannot_be_written_is_one_line(log, tmp_path):
    (tmp_path / "file").write_text("")
    result = invoke("run", "--router", "knn", "--outcomes", log, "--runs", tmp_path / "file")
    assert result.exit_code == 2
    assert "check the path" in result.output


def test_tuning_another_router_keeps_the_first_and_other_outcomes_are_refused(log, tmp_path):
    tuned = tmp_path / "tuned.json"
    for name, trials in (("knn", 2), ("ridge", 2), ("knn", 3)):
        words = ("tune", "--router", name, "--outcomes", log, "--trials", trials, "--out", tuned)
        assert invoke(*words).exit_code == 0
    kept = tuned.read_text()
    assert {each["router"]: len(each["trials"]) for each in json.loads(kept)} == {"knn": 3, "ridge": 2}
    refused = invoke("tune", "--router", "svm", "--outcomes", log, "--alpha", 0.7, "--trials", 2, "--out", tuned)
    assert refused.exit_code == 2
    assert "tune again" in refused.output
    assert tuned.read_text() == kept


def test_settings_given_beside_tuned_ones_are_not_called_tuned(log, tmp_path):
    tuned, runs = tmp_path / "tuned.json", tmp_path / "runs"
    assert invoke("tune", "--router", "knn", "--outcomes", log, "--trials", 2, "--out", tuned).exit_code == 0
    run(log, runs, "--tuned", tuned, "--set", "k=5")
    (row,) = [r for r in json.loads(invoke("compare", runs, "--format", "json").output) if r["router"] == "knn"]
    assert row["tuned"] is None
    assert row["settings"]["k"] == 5
