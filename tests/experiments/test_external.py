"""Routers that were not trained here: their decisions become runs like any other's, or are refused with counts."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from small_log import small_log

from recal_bench.cli import cli
from recal_bench.experiments.records import read_runs


def invoke(*words):
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert "Traceback" not in result.output
    return result


def choices(log: pd.DataFrame, **columns: object) -> pd.DataFrame:
    """The better arm of each task, for every query of test."""
    test = log[log["split"] == "test"].drop_duplicates("query_id")[["query_id", "task"]]
    arm = test["task"].map({"geo": "atlas", "law": "codex-iuris|direct"})
    return test.drop(columns="task").assign(arm=arm, **columns).reset_index(drop=True)


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = small_log()
    frame.to_parquet("log.parquet", index=False)
    return frame


def run(*words):
    return invoke("run", "--outcomes", "log.parquet", *words)


def rows(*words):
    return {row["router"]: row for row in json.loads(invoke("compare", *words, "--format", "json").output)}


def refused(frame: pd.DataFrame | str, *words) -> str:
    if isinstance(frame, pd.DataFrame):
        frame.to_csv("chosen.csv", index=False)
    else:
        Path("chosen.csv").write_text(frame)
    result = run("--decisions", "mine=chosen.csv", *words)
    assert result.exit_code == 2
    assert not Path("runs").exists()
    (line,) = [line for line in result.output.splitlines() if line]
    return line


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_decisions_are_a_row_like_any_other(log, kind):
    chosen = choices(log, cost=1e-5)
    if kind == "csv":
        chosen.to_csv("chosen.csv", index=False)
    elif kind == "jsonl":
        chosen.to_json("chosen.jsonl", orient="records", lines=True)
    else:
        chosen.to_parquet("chosen.parquet", index=False)
    assert run("--decisions", f"mine=chosen.{kind}").exit_code == 0
    found = rows("runs")
    assert {"mine", "best-single", "knn", "oracle"} <= set(found)
    row, best = found["mine"], found["task-best"]
    assert row["external"]
    assert not found["knn"]["external"]
    assert row["router_cost_usd_per_1k"] == pytest.approx(0.01)
    # The reference chooses the same arms, and pays nothing for choosing.
    assert row["accuracy_macro"] == best["accuracy_macro"]
    (record,) = [each.record for each in read_runs(Path("runs")) if each.record.external]
    data = record.configuration.data
    assert best["utility"] - row["utility"] == pytest.approx(data.alpha * 1e-5 / data.cost_ref)
    assert row["command"] == f"recal-bench run --decisions mine=chosen.{kind} --outcomes log.parquet"
    assert record.audit is not None


def test_the_same_file_finds_its_record_and_a_changed_one_replaces_it(log):
    chosen = choices(log, cost=0.0)
    chosen.to_csv("chosen.csv", index=False)
    run("--decisions", "mine=chosen.csv")
    (first,) = Path("runs").glob("mine-*")
    before = (first / "run.json").read_bytes()
    run("--decisions", "mine=chosen.csv")
    assert [*Path("runs").glob("mine-*")] == [first]
    assert (first / "run.json").read_bytes() == before
    old = rows("runs")["mine"]
    pd.concat([chosen.assign(seed=0, arm="codex-iuris|cot"), chosen.assign(seed=1)]).to_csv("chosen.csv", index=False)
    run("--decisions", "mine=chosen.csv")
    assert len([*Path("runs").glob("mine-*")]) == 3
    assert rows("runs")["mine"]["n_seeds"] == 2
    # Back to one seed: the second one of before does not stay beside it.
    chosen.assign(arm="atlas").to_csv("chosen.csv", index=False)
    run("--decisions", "mine=chosen.csv")
    new = rows("runs")["mine"]
    assert new["n_seeds"] == 1
    assert new["per_task"]["law"] < old["per_task"]["law"]
    # What was given before is given again: it is the last word.
    chosen.to_csv("chosen.csv", index=False)
    run("--decisions", "mine=chosen.csv")
    assert rows("runs")["mine"]["per_task"] == old["per_task"]
    assert "older records of the same configurations" in invoke("compare", "runs").output
    assert "removed" in invoke("runs", "runs", "--prune").output
    assert len([*Path("runs").glob("mine-*")]) == 1


def test_an_own_cost_that_is_not_told_is_unknown_and_not_zero(log):
    choices(log).to_csv("chosen.csv", index=False)
    output = run("--decisions", "mine=chosen.csv").output
    assert "the own cost of mine is not known" in " ".join(output.split())
    row = rows("runs")["mine"]
    assert row["router_cost_usd_per_1k"] is None
    assert row["savings"] is None
    chosen = choices(log, cost=0.0)
    chosen.loc[3:5, "cost"] = None
    assert "the router's own cost is empty in 3 of 24 rows" in refused_again(chosen)


def refused_again(frame: pd.DataFrame) -> str:
    frame.to_csv("partly.csv", index=False)
    result = run("--decisions", "partly=partly.csv")
    assert result.exit_code == 2
    return result.output


def test_what_cannot_be_matched_is_refused_with_counts_and_examples(log):
    chosen = choices(log)
    assert "no arm or model atls (did you mean atlas?) in 12 rows, first row 1" in refused(
        chosen.replace("atlas", "atls")
    )
    several = refused(chosen.replace("codex-iuris|direct", "codex-iuris"))
    assert "codex-iuris in 12 rows, first row 2 is a model with 2 strategies: name the arm" in several
    unknown = pd.concat([chosen, chosen.assign(query_id=chosen["query_id"] + "x")])
    line = refused(unknown)
    assert "24 of 48 rows name queries that log does not hold, e.g. q0008x (row 25), q0009x (row 26)" in line
    assert "2 queries decided twice, e.g. q0008 (row 25)" in refused(pd.concat([chosen, chosen[:2]]))
    assert "the decisions lack 4 of 24 test queries, e.g. q0008, q0018, q0009 and 1 more" in refused(chosen[4:])
    seeds = pd.concat([chosen.assign(seed=0), chosen.assign(seed=1)[1:]])
    assert "the decisions of seed 1 lack 1 of 24 test queries" in refused(seeds)
    assert "has no arm (did you mean arms?)" in refused(chosen.rename(columns={"arm": "arms"}))
    assert "seed is '0.5', which is no training seed" in refused(chosen.assign(seed=0.5))
    assert "holds no rows" in refused("query_id,arm\n")


def test_names_and_options_that_cannot_be(log):
    choices(log).to_csv("chosen.csv", index=False)
    assert "knn is the name of a router or reference" in run("--decisions", "knn=chosen.csv").output
    assert "oracle is the name of a router or reference" in run("--decisions", "oracle=chosen.csv").output
    assert "mine is given 2 times" in run("--decisions", "mine=chosen.csv", "--decisions", "mine=b.csv").output
    assert "write NAME=FILE" in run("--decisions", "chosen.csv").output
    assert "b.csv does not exist" in run("--decisions", "mine=b.csv").output
    assert (
        "--decisions is for one set of outcomes"
        in run("--decisions", "mine=chosen.csv", "--train-fraction", "0.5").output
    )
    assert "Missing option '--router'" in run().output
    assert not Path("runs").exists()


def test_queries_of_other_tasks_and_splits_are_known_and_not_used(log):
    every = log.drop_duplicates("query_id")[["query_id"]].assign(arm="atlas")
    every.to_csv("chosen.csv", index=False)
    result = run("--decisions", "mine=chosen.csv", "--tasks", "geo")
    assert result.exit_code == 0
    assert "Note: mine: 108 decisions on queries that are not judged: not used" in result.output


def test_an_id_of_several_tasks_needs_the_task(log):
    both = pd.concat([log, log.assign(task="other", prompt=log["prompt"] + " again")])
    both.to_parquet("log.parquet", index=False)
    chosen = choices(log)
    assert "24 rows name a query_id that several tasks have" in refused(chosen)
    test = both[both["split"] == "test"].drop_duplicates(["task", "query_id"])[["task", "query_id"]]
    test.assign(arm="atlas").to_csv("chosen.csv", index=False)
    assert run("--decisions", "mine=chosen.csv").exit_code == 0


def test_tasks_of_one_query_each_are_no_error(log):
    log["task"] = log["query_id"]
    log.to_parquet("log.parquet", index=False)
    test = log[log["split"] == "test"].drop_duplicates("query_id")
    test[["query_id"]].assign(arm="atlas").to_csv("chosen.csv", index=False)
    for _ in range(2):
        assert run("--decisions", "mine=chosen.csv").exit_code == 0
    assert rows("runs")["mine"]["external"]


def test_an_arm_without_an_outcome_cannot_have_been_chosen(log):
    gone = (log["query_id"] == "q0008") & (log["model"] == "atlas")
    log[~gone].to_parquet("log.parquet", index=False)
    assert "the chosen arm has no outcome for 1 test query, e.g. q0008" in refused(
        choices(log), "--missing", "restrict"
    )


def test_routerarenas_prediction_file_is_read_as_it_is(log):
    log[log["strategy"] == "direct"].to_parquet("log.parquet", index=False)
    entries = [
        {
            "global index": row.query_id,
            "prompt": "p",
            "prediction": row.arm.partition("|")[0],
            "cost": 0.5,
            "for_optimality": optimality,
        }
        for row in choices(log).itertuples()
        for optimality in (False, True)
    ]
    Path("mine.json").write_text(json.dumps(entries))
    assert run("--decisions", "mine=mine.json").exit_code == 0
    row = rows("runs")["mine"]
    assert row["accuracy_macro"] == rows("runs")["task-best"]["accuracy_macro"]
    assert row["router_cost_usd_per_1k"] is None  # the cost there is that of the model's answer


def test_there_is_no_router_to_ask_and_the_board_has_its_row(log):
    choices(log, cost=0.0).to_csv("chosen.csv", index=False)
    run("--decisions", "mine=chosen.csv")
    (folder,) = Path("runs").glob("mine-*")
    assert "decisions that were made elsewhere: there is no router here" in invoke("route", "--run", folder, "x").output
    assert "leak audit: its choices hold" in invoke("show", folder).output
    assert invoke("leaderboard", "runs", "--out", "board").exit_code == 0
    assert "| mine " in Path("board/README.md").read_text()
    assert '"external"' in Path("board/index.html").read_text()


def test_decisions_that_saw_the_outcomes_are_noted_and_honest_ones_are_not(log):
    log = small_log(queries=1500)
    log.to_parquet("log.parquet", index=False)
    choices(log, cost=0.0).to_csv("honest.csv", index=False)
    test = log[log["split"] == "test"].assign(arm=lambda each: each["model"] + "|" + each["strategy"])
    best = test.assign(value=test["score"] - test["cost_usd"]).sort_values("value").groupby("query_id").tail(1)
    best[["query_id", "arm"]].assign(cost=0.0).to_csv("seen.csv", index=False)
    output = " ".join(run("--decisions", "seen=seen.csv", "--decisions", "honest=honest.csv").output.split())
    assert "Note: seen follows the labels of test" in output
    assert "did it see the outcomes of test?" in output
    assert "honest follows" not in output
    invoke("leaderboard", "runs", "--out", "board")
    for name in ("README.md", "index.html"):
        assert "seen follows the labels of test" in Path("board", name).read_text()
