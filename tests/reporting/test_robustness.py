"""How often routers change their mind on paraphrases, through the command line."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from small_log import WORDS, small_log

from recal_bench.cli import cli


def invoke(*words):
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert "Traceback" not in result.output
    return result


def rows(*words):
    return {row["router"]: row for row in json.loads(invoke("robustness", "runs", *words, "--format", "json").output)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of three routers; `same.csv` repeats the words of each query, `swapped.csv` has those of the other task."""
    folder = tmp_path_factory.mktemp("robust")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        log = small_log()
        log.to_parquet("log.parquet", index=False)
        test = log[log["split"] == "test"].drop_duplicates("query_id")
        other = {"geo": "law", "law": "geo"}
        lines = {"same": [], "swapped": []}
        for row in test.itertuples():
            for word in WORDS[row.task].split()[:2]:
                lines["same"].append((row.query_id, f"tell me: {row.prompt} {word}"))
            lines["swapped"].append((row.query_id, WORDS[other[row.task]]))
        for name, found in lines.items():
            pd.DataFrame(found, columns=["paraphrase_of", "prompt"]).to_csv(f"{name}.csv", index=False)
        chosen = test[["query_id"]].assign(arm="atlas", cost=0.0)
        chosen.to_csv("chosen.csv", index=False)
        words = ["--router", "ridge,arm:atlas|direct", "--decisions", "mine=chosen.csv", "--outcomes", "log.parquet"]
        assert invoke("run", *words).exit_code == 0
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_a_router_that_reads_the_words_flips_where_they_change_and_not_where_they_stay():
    same, swapped = rows("--paraphrases", "same.csv"), rows("--paraphrases", "swapped.csv")
    assert same["ridge"]["flip_rate"] == 0
    # Nothing flipped among 24 queries: the share may still be 1 - 0.025 ** (1 / 24).
    assert same["ridge"]["flip_rate_ci"] == [0, pytest.approx(0.1425, abs=1e-4)]
    assert (same["ridge"]["n_queries"], same["ridge"]["n_paraphrases"]) == (24, 48)
    assert swapped["ridge"]["flip_rate"] == 1
    assert swapped["ridge"]["utility_lost"] > 0.2
    low, high = swapped["ridge"]["utility_lost_ci"]
    assert low < swapped["ridge"]["utility_lost"] < high
    assert swapped["arm:atlas|direct"]["flip_rate"] == swapped["arm:atlas|direct"]["utility_lost"] == 0
    assert "oracle" not in swapped
    assert "mine" not in swapped


def test_decisions_on_paraphrases_come_from_a_file():
    flipped = pd.read_csv("swapped.csv").assign(arm="atlas|direct")
    flipped.loc[:5, "arm"] = "codex-iuris|cot"
    pd.concat([flipped, pd.read_csv("chosen.csv").drop(columns="cost")]).to_csv("both.csv", index=False)
    found = rows("--decisions", "mine=both.csv")
    assert found.keys() == {"mine"}
    assert found["mine"]["flip_rate"] == 6 / 24
    result = invoke("run", "--decisions", "mine=both.csv", "--outcomes", "log.parquet", "--runs", "other")
    assert result.exit_code == 0  # there the rows on the queries themselves count


def test_decisions_of_a_seed_that_has_no_run_are_refused():
    pd.read_csv("swapped.csv").assign(arm="atlas", seed=3).to_csv("seeds.csv", index=False)
    result = invoke("robustness", "runs", "--decisions", "mine=seeds.csv")
    assert result.exit_code == 2
    assert "row 1 is of seed 3, and its runs are of seed 0" in result.output


def test_the_table_says_what_was_not_asked_and_what_was_left_out():
    frame = pd.read_csv("same.csv")
    pd.concat([frame, frame[:3].assign(paraphrase_of="elsewhere")]).to_csv("more.csv", index=False)
    output = " ".join(invoke("robustness", "runs", "--paraphrases", "more.csv").output.split())
    assert "3 of 51 paraphrases are of no test query: left out" in output
    assert "what mine chose for paraphrases is not given" in output
    shown = invoke("robustness", "runs", "--paraphrases", "same.csv", "--format", "markdown").output
    assert "| ridge " in shown
    assert "0.0 [0.0, 14.2] |" in shown


def test_without_the_outcomes_the_flips_are_known_and_the_utility_is_not(tmp_path, monkeypatch):
    (tmp_path / "runs").symlink_to(Path("runs").resolve())
    paraphrases = Path("swapped.csv").resolve()
    monkeypatch.chdir(tmp_path)
    row = rows("--paraphrases", paraphrases)["ridge"]
    assert row["flip_rate"] == 1
    assert row["utility_lost"] is None


def test_routerarenas_robustness_file_is_read():
    entries = [
        {"global index": row.paraphrase_of, "prompt": row.prompt, "prediction": "atlas"}
        for row in pd.read_csv("swapped.csv").itertuples()
    ]
    Path("mine-robustness.json").write_text(json.dumps(entries))
    found = rows("--paraphrases", "mine-robustness.json", "--decisions", "mine=mine-robustness.json")
    assert found["ridge"]["flip_rate"] == 1
    assert found["mine"]["flip_rate"] == 0


def test_what_cannot_be_used_is_one_line():
    for words, said in (
        ((), "Missing option '--paraphrases'"),
        (("--decisions", "mime=same.csv"), "has no arm"),
        (("--paraphrases", "chosen.csv"), "has no prompt"),
        (("--paraphrases", "nowhere.csv"), "does not exist"),
    ):
        result = invoke("robustness", "runs", *words)
        assert result.exit_code == 2
        assert said in result.output
    pd.read_csv("same.csv").assign(arm="atlas").to_csv("decided.csv", index=False)
    assert "mime (did you mean mine?)" in invoke("robustness", "runs", "--decisions", "mime=decided.csv").output
    pd.read_csv("same.csv").assign(paraphrase_of="zz").to_csv("foreign.csv", index=False)
    assert (
        "no test query of these runs is paraphrased: the file names zz (row 1)"
        in invoke("robustness", "runs", "--paraphrases", "foreign.csv").output
    )
