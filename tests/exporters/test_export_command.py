"""What `recal-bench export` writes, read again as others would."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from small_log import small_log

from recal_bench.cli import cli
from recal_bench.experiments.records import read_run
from recal_bench.outcomes.files import check_file
from recal_bench.outcomes.writer import write_outcomes

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., Result]:
    def invoke(*words: object) -> Result:
        result = CliRunner().invoke(cli, ["export", *map(str, words)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


@pytest.fixture
def log(tmp_path: Path) -> Path:
    frame = small_log(30).assign(response="Answer: x", gold='["x", "y"]', prompt_tokens=7, completion_tokens=3)
    frame["model"] = "acme/" + frame["model"]
    frame.to_parquet(tmp_path / "log.parquet", index=False)
    return tmp_path / "log.parquet"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    small_log(60).to_parquet(folder / "log.parquet", index=False)
    words = ["run", "--router", "knn", "--router", "random", "--seeds", "2", "--outcomes", str(folder / "log.parquet")]
    result = CliRunner().invoke(cli, [*words, "--runs", str(folder / "runs")])
    assert result.exit_code == 0, result.output
    return folder / "runs"


def records(folder: Path) -> dict[str, dict]:
    return {path.relative_to(folder).as_posix(): json.loads(path.read_text()) for path in folder.rglob("*.json")}


def check_record(path: str, record: dict) -> None:
    """The form of Every Eval Ever's schema 0.3.0: what it requires, and no field of ours at its top."""
    assert re.fullmatch(rf"data/[^/]+/[^/]+/[^/]+/{UUID}\.json", path)
    required = {"schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata", "model_info"}
    required |= {"eval_library", "evaluation_results"}
    assert required <= set(record) <= required | {"evaluation_timestamp", "detailed_evaluation_results"}
    assert record["schema_version"] == "0.3.0"
    source = record["source_metadata"]
    assert source["source_type"] == "evaluation_run"
    assert source["source_organization_name"] == "Acme"
    assert {"name", "id", "additional_details"} <= set(record["model_info"])
    assert {"deployment_type", "model_availability"} <= set(record["model_info"]["additional_details"])
    for result in record["evaluation_results"]:
        assert {"evaluation_name", "source_data", "metric_config", "score_details"} <= set(result)
        assert result["metric_config"]["score_type"] == "continuous"
        assert {"min_score", "max_score"} <= set(result["metric_config"])
        told = [source["additional_details"], result["source_data"]["additional_details"]]
        assert all(isinstance(value, str) for details in told for value in details.values())


def test_a_file_becomes_a_record_for_each_arm(export, log, tmp_path):
    words = (log, "--to", "every-eval-ever", "--organization", "Acme", "--relationship", "third_party")
    result = export(*words, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "3 records, one for each arm, with 90 samples" in result.output
    found, frame = records(tmp_path / "out"), pd.read_parquet(log)
    assert len(found) == 3
    assert len({record["evaluation_id"] for record in found.values()}) == 3
    for path, record in found.items():
        check_record(path, record)
        assert record["source_metadata"]["evaluator_relationship"] == "third_party"
        strategy = record["evaluation_results"][0]["generation_config"]["additional_details"]["strategy"]
        rows = frame[(frame["model"] == record["model_info"]["id"]) & (frame["strategy"] == strategy)]
        by_name = {
            (each["evaluation_name"], each["metric_config"]["metric_name"]): each["score_details"]
            for each in record["evaluation_results"]
        }
        for (task, split), group in rows.groupby(["task", "split"]):
            details = by_name[f"{task} ({split})", "score"]
            assert details["score"] == pytest.approx(group["score"].mean())
            assert details["uncertainty"]["num_samples"] == len(group)
            error = group["score"].std(ddof=1) / np.sqrt(len(group))
            assert details["uncertainty"]["standard_error"]["value"] == pytest.approx(error)
            assert by_name[f"{task} ({split})", "cost of a query"]["score"] == pytest.approx(group["cost_usd"].mean())
        detailed = record["detailed_evaluation_results"]
        samples = tmp_path / "out" / detailed["file_path"]
        assert samples.name == f"{Path(path).stem}_samples.jsonl"
        assert hashlib.sha256(samples.read_bytes()).hexdigest() == detailed["checksum"]
        lines = [json.loads(line) for line in samples.read_text().splitlines()]
        assert len(lines) == detailed["total_rows"] == len(rows)
        assert [line["evaluation"]["score"] for line in lines] == rows["score"].tolist()
        assert {line["evaluation_id"] for line in lines} == {record["evaluation_id"]}
        assert {line["evaluation_name"] for line in lines} == {name for name, _ in by_name}
        first = lines[0]
        assert first["input"] == {"raw": rows["prompt"].iloc[0], "reference": ["x", "y"]}
        assert first["output"] == {"raw": ["Answer: x"]}
        assert first["token_usage"]["total_tokens"] == 10


def test_a_cost_that_is_known_in_part_is_no_result(export, log, tmp_path):
    frame = pd.read_parquet(log)
    frame.loc[0, "cost_usd"] = np.nan
    frame.to_parquet(log, index=False)
    words = (log, "--to", "every-eval-ever", "--organization", "Acme", "--no-queries", "--out", tmp_path / "out")
    assert export(*words).exit_code == 0
    lacking = 0
    for record in records(tmp_path / "out").values():
        assert "detailed_evaluation_results" not in record
        names = [
            (each["evaluation_name"], each["metric_config"]["metric_name"]) for each in record["evaluation_results"]
        ]
        without = [name for name, metric in names if metric == "score" and (name, "cost of a query") not in names]
        lacking += len(without)
        if without:
            (of_it,) = [each for each in record["evaluation_results"] if each["evaluation_name"] == without[0]]
            known, _, n = of_it["score_details"]["details"]["cost_known"].removesuffix(" outcomes").partition(" of ")
            assert int(known) == int(n) - 1
    assert lacking == 1
    assert not list((tmp_path / "out").rglob("*.jsonl"))


def test_runs_become_a_record_for_each_run_of_a_router(export, runs, tmp_path):
    words = (runs, "--to", "every-eval-ever", "--organization", "Acme", "--out", tmp_path / "out")
    result = export(*words)
    assert result.exit_code == 0, result.output
    assert "of references: left out" in result.output
    found = records(tmp_path / "out")
    names = {record["model_info"]["name"] for record in found.values()}
    assert {"knn", "random"} <= names
    assert "oracle" not in names
    for path, record in found.items():
        check_record(path, record)
    every = [read_run(path.parent) for path in runs.glob("*/run.json")]
    of_seed = {run.record.configuration.seed: run for run in every if run.record.configuration.router == "random"}
    frame = of_seed[1].decisions()
    (record,) = [
        each
        for each in found.values()
        if each["model_info"]["name"] == "random"
        and each["evaluation_results"][0]["generation_config"]["additional_details"]["seed"] == "1"
    ]
    scores = {
        each["source_data"]["additional_details"]["task"]: each["score_details"]["score"]
        for each in record["evaluation_results"]
        if each["metric_config"]["metric_name"] == "score"
    }
    assert scores == pytest.approx(frame[frame["split"] == "test"].groupby("task")["score"].mean().to_dict())


def test_a_data_set_is_read_again_as_it_was(export, log, tmp_path):
    result = export(log, "--to", "dataset", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "check the license" in result.output
    card = (tmp_path / "out" / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    told = yaml.safe_load(front)
    assert "license" not in told
    assert "# license: say here" in front
    files = {each["split"]: each["path"] for each in told["configs"][0]["data_files"]}
    assert set(files) == {"train", "validation", "test"}
    parts = [pd.read_parquet(tmp_path / "out" / path) for path in files.values()]
    for path in files.values():
        assert hashlib.sha256((tmp_path / "out" / path).read_bytes()).hexdigest() in body
        assert not check_file(tmp_path / "out" / path).problems
    before = pd.read_parquet(log).sort_values(["query_id", "model", "strategy"]).reset_index(drop=True)
    after = pd.concat(parts).sort_values(["query_id", "model", "strategy"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(after[before.columns], before)
    assert hashlib.sha256(log.read_bytes()).hexdigest() in body


def test_the_card_of_a_simulated_file_says_so_and_replies_can_be_left_out(export, tmp_path):
    block = {"task": ["t"] * 2, "query_id": ["1"] * 2, "prompt": ["p"] * 2, "model": ["a", "b"], "strategy": ["s"] * 2}
    block |= {"score": [1.0, 0.0], "response": ["secret"] * 2, "gold": ['["g"]'] * 2}
    write_outcomes([block], tmp_path / "log.parquet", {"simulated": True})
    result = export(tmp_path / "log.parquet", "--to", "dataset", "--no-queries", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "**Simulated**" in (tmp_path / "out" / "README.md").read_text()
    frame = pd.read_parquet(tmp_path / "out" / "data" / "outcomes.parquet")
    assert not {"response", "gold"} & set(frame.columns)
    assert check_file(tmp_path / "out" / "data" / "outcomes.parquet").outcomes.simulated


def test_a_data_set_of_runs_holds_their_decisions(export, runs, tmp_path):
    assert export(runs, "--to", "dataset", "--out", tmp_path / "out").exit_code == 0
    table = pd.read_parquet(tmp_path / "out" / "data" / "runs.parquet")
    decisions = pd.read_parquet(tmp_path / "out" / "data" / "decisions.parquet")
    assert set(decisions["run"]) == set(table["run"])
    assert set(table["router"]) >= {"knn", "random"}
    told = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---\n")[1])
    assert [each["config_name"] for each in told["configs"]] == ["runs", "decisions"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "datasets"], "it is one of every-eval-ever, dataset"),
        (["--to", "every-eval-ever"], "give --organization NAME"),
        (["--to", "dataset", "--organization", "Acme"], "--organization is for every-eval-ever"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(export, log, tmp_path, words, said):
    result = export(log, *words, "--out", tmp_path / "out")
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(export, log, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    result = export(log, "--to", "dataset", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "is there, and not an empty folder" in result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_sources_that_cannot_be_used_are_refused(export, tmp_path):
    assert "does not exist" in export(tmp_path / "no", "--to", "dataset", "--out", tmp_path / "out").output
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    result = export(tmp_path / "bad.csv", "--to", "dataset", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "the file holds no outcomes" in result.output
    (tmp_path / "empty").mkdir()
    assert "holds no finished run" in export(tmp_path / "empty", "--to", "dataset", "--out", tmp_path / "out").output


def test_a_collection_is_not_called_data(export, log, tmp_path):
    log.rename(tmp_path / "data.parquet")
    words = (tmp_path / "data.parquet", "--to", "every-eval-ever", "--organization", "Acme", "--out", tmp_path / "out")
    assert export(*words).exit_code == 0
    assert {Path(path).parts[1] for path in records(tmp_path / "out")} == {"data-"}
