"""The commands that look things up, and the README's own router."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from small_log import small_log, write_small_log

from recal_bench.cli import cli

README = Path(__file__).parent.parent / "README.md"


def invoke(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_what_there_is_is_listed_with_one_line_each():
    for command, names in (
        ("tasks", "2wiki bamboogle hotpotqa musique nq popqa triviaqa"),
        ("strategies", "direct cot cod self_ask"),
        (
            "routers",
            "random cheapest dearest best-single knn ridge logistic svm mlp gradient-boosting recal grpo dr-grpo",
        ),
    ):
        listed = [line for line in invoke(command).output.splitlines() if line[0] != " "]
        lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in listed}
        assert set(names.split()) <= set(lines)
        assert all(len(lines[name]) > 10 for name in names.split())


def test_validate_says_what_is_usable_and_how_to_run_it(tmp_path):
    result = invoke("validate", write_small_log(tmp_path / "log.parquet"))
    assert result.exit_code == 0
    assert "arms: 3" in result.output
    assert result.output.splitlines()[-1].endswith(f"--outcomes {tmp_path / 'log.parquet'}")


def test_validate_names_the_rule_for_missing_outcomes_and_the_leak(tmp_path):
    frame = small_log().drop(index=range(2))
    first_test = frame.loc[frame["split"] == "test", "prompt"].iloc[0]
    frame.loc[frame["query_id"] == "q0002", "prompt"] = first_test
    frame.to_parquet(tmp_path / "log.parquet", index=False)
    result = invoke("validate", tmp_path / "log.parquet")
    assert result.exit_code == 0
    assert result.output.splitlines()[-1].endswith("--missing restrict")
    assert "1 of 24 test prompts (4%) are also in train" in result.output


def test_validate_lists_all_problems_at_once(tmp_path):
    frame = small_log()
    frame.loc[0, "model"] = None
    frame.loc[1, "score"] = 7
    frame.loc[2, "cost_usd"] = -1
    frame = pd.concat([frame, frame.iloc[[5]]])
    frame.to_csv(tmp_path / "log.csv", index=False)
    result = invoke("validate", tmp_path / "log.csv")
    assert result.exit_code == 2
    assert result.output.count("Problem: ") == 4


def test_validate_says_when_the_splits_cannot_be_used(tmp_path):
    small_log().assign(split="train").to_parquet(tmp_path / "log.parquet", index=False)
    result = invoke("validate", tmp_path / "log.parquet")
    assert result.exit_code == 2
    assert "arms: 3" in result.output
    assert "Problem: log: there is no test query" in result.output


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\x00\xff" * 50, b'{"task": 1}\n{', b"task,score\nx"])
@pytest.mark.parametrize("extension", ["parquet", "csv", "jsonl"])
def test_no_file_ends_in_a_traceback(tmp_path, content, extension):
    path = tmp_path / f"log.{extension}"
    path.write_bytes(content)
    for words in (("validate", path), ("run", "--router", "knn", "--outcomes", path, "--runs", tmp_path / "runs")):
        result = invoke(*words)
        assert result.exit_code == 2
        assert isinstance(result.exception, SystemExit)


def test_the_router_of_the_readme_beats_the_best_single_arm(tmp_path):
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "@router" in block
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "by_words.py").write_text(code)
    result = invoke("run", "--router", "by-words", "--include-path", tmp_path / "mine", "--runs", tmp_path / "runs")
    assert result.exit_code == 0, result.output
    rows = json.loads(invoke("compare", tmp_path / "runs", "--format", "json").output)
    (row,) = (row for row in rows if row["router"] == "by-words")
    low, high = row["vs_baseline"]["ci"]
    assert f"{row['vs_baseline']['difference']:+.3f} [{low:+.3f}, {high:+.3f}]" in README.read_text()
    assert low > 0
