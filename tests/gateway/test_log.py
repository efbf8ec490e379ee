"""The log of decisions and its scores: kept through restarts, read by `validate` and `run`."""

import json
import stat
import subprocess
import sys

import pytest
from click.testing import CliRunner
from front import front
from small_log import WORDS, small_log

from recal_bench import OutcomesError, SettingsError
from recal_bench.cli import cli
from recal_bench.gateway.log import DecisionLog

ROW = {"query_id": "a", "prompt": "p", "model": "m", "strategy": "s", "cost_usd": 0.5}


def test_scores_arrive_later_in_place_also_after_a_restart(tmp_path):
    path = tmp_path / "log.jsonl"
    log = DecisionLog(path)
    log.add(ROW)
    log.add(ROW | {"query_id": "b", "prompt": "é\n\ud800"})
    log.add(ROW | {"query_id": "c"}, "it fell back")
    assert log.score("b", 1 / 3)
    assert not log.score("z", 1)
    log.close()
    with path.open("ab") as file:
        file.write(b'{"score": null    , "query_id": "cut o')
    log = DecisionLog(path)
    assert (len(log), log.usd) == (3, 1.5)
    for score in (0.123456789, 0, True, 1e-9, 1):
        assert log.score("a", score)
    assert log.score("c", 0)
    log.add(ROW | {"query_id": "d"})
    log.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["query_id"], row["score"]) for row in rows] == [("a", 1), ("b", 0.333333), ("d", None)]
    (apart,) = (json.loads(line) for line in (tmp_path / "log.apart.jsonl").read_text().splitlines())
    assert (apart["score"], apart["why_apart"]) == (0, "it fell back")
    for each in (path, tmp_path / "log.apart.jsonl"):
        assert stat.S_IMODE(each.stat().st_mode) == 0o600


def test_a_file_that_is_no_log_and_a_log_in_use_are_refused(tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"score": 1, "prompt": "which?"}\n')
    with pytest.raises(OutcomesError, match="line 1 is not of a log"):
        DecisionLog(tmp_path / "mine.jsonl")
    assert (tmp_path / "mine.jsonl").read_text() == '{"score": 1, "prompt": "which?"}\n'
    with pytest.raises(SettingsError, match=r"name it \.jsonl"):
        DecisionLog(tmp_path / "log.parquet")
    log = DecisionLog(tmp_path / "log.jsonl")
    code = (
        "import sys, pathlib; from recal_bench.gateway.log import DecisionLog; DecisionLog(pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(log.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "another process writes to it" in done.stderr
    log.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "unknown", "score": 1}, 404),
        ({"score": 1}, 400),
        ({"id": "x", "score": 1.5}, 400),
        ({"id": "x", "score": "good"}, 400),
        ({"id": "x"}, 400),
        (b"NaN", 400),
        (b'{"id": "x", "score": NaN}', 400),
    ],
)
def test_feedback_that_means_nothing_is_refused(runs, tmp_path, body, status):
    with front(tmp_path, runs["ridge"]) as served:
        assert served.post("/v1/feedback", body).status == status


def test_without_a_log_feedback_says_what_to_do(runs, tmp_path):
    with front(tmp_path, runs["ridge"], log=None) as served:
        assert served.ask().status == 200
        found = served.post("/v1/feedback", {"id": "x", "score": 1})
        assert (found.status, found.json()["error"]["code"]) == (404, "no_log")


def test_the_loop_closes_serve_feedback_validate_run(runs, tmp_path):
    """The scores are those of the small log's world: `run` finds again which arm is right for which words."""
    log = small_log(queries=260, seed=5)
    prompts = list(log.drop_duplicates("query_id")["prompt"])
    with front(tmp_path, runs["ridge"], epsilon=0.8) as served:
        for number, prompt in enumerate(prompts):
            geo = any(word in prompt for word in WORDS["geo"].split())
            body = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
            reply = served.post("/v1/chat/completions", body, {"X-Recal-Task": "geo" if geo else "law"}).json()
            if number % 10:
                right = reply["model"].startswith("atlas") == geo
                assert served.post("/v1/feedback", {"id": reply["id"], "score": right}).status == 200
        path = served.gateway.log.path
    validated = CliRunner().invoke(cli, ["validate", str(path)])
    assert validated.exit_code == 0, validated.output
    assert "a log of single choices: one arm a query, with its propensity" in validated.output
    assert "26 of 260 rows (10%) without a score are left out" in validated.output
    assert "tasks: geo (104), law (130)" in validated.output
    ran = CliRunner().invoke(
        cli, ["run", "--router", "ridge", "--outcomes", str(path), "--runs", str(tmp_path / "again")]
    )
    assert ran.exit_code == 0, ran.output
    assert "SNIPS" in ran.output
    again = next((tmp_path / "again").glob("ridge-*"))
    routed = CliRunner().invoke(cli, ["route", "--run", str(again), "river mountain island", "court statute judge"])
    assert "1. atlas|direct" in routed.output.splitlines()[1]
    assert "1. codex-iuris" in routed.output.partition("court statute judge")[2].splitlines()[1]
