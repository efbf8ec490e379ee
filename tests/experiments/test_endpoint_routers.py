"""Routers behind an OpenAI-compatible API, asked over real HTTP which model they choose."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from small_log import small_log

from recal_bench.cli import cli

sys.path.append(str(Path(__file__).parent.parent / "collection"))
from own_endpoint import own_endpoint, reply

pytest.importorskip("aiohttp", reason="the extra collect is not installed")


def invoke(*words):
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert "Traceback" not in result.output
    return result


def rows():
    return {row["router"]: row for row in json.loads(invoke("compare", "runs", "--format", "json").output)}


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = small_log()
    frame = frame[frame["strategy"] == "direct"]
    frame.to_parquet("log.parquet", index=False)
    return frame


@contextmanager
def router(geo="atlas", law="codex-iuris", **changes):
    """It answers as the right model of each task, told by the words of the prompt."""

    def respond(asked):
        law_words = ("court", "statute", "clause", "judge", "verdict")
        chosen = law if any(word in asked.message for word in law_words) else geo
        return 200, reply(asked, model=chosen, **changes)

    with own_endpoint(respond) as (url, asked):
        yield url, asked


def run(where, *words):
    return invoke("run", "--endpoint", f"mine={where}", "--outcomes", "log.parquet", *words)


def test_the_models_of_its_replies_are_its_decisions_and_are_asked_once(log):
    with router() as (url, asked):
        assert run(url).exit_code == 0
        row = rows()["mine"]
        prompts = set(log.loc[log["split"] == "test", "prompt"])
        assert sorted(each.message for each in asked) == sorted(prompts)
        assert {(each.model, each.body["max_tokens"]) for each in asked} == {("mine", 16)}
        (folder,) = Path("runs").glob("mine-*")
        assert run(url).exit_code == 0
        assert len(asked) == len(prompts)
        assert [*Path("runs").glob("mine-*")] == [folder]
    assert row["accuracy_macro"] == rows()["task-best"]["accuracy_macro"]
    assert row["external"]
    assert row["router_cost_usd_per_1k"] is None  # an address has no price
    assert row["command"] == f"recal-bench run --endpoint mine={url} --outcomes log.parquet"


def test_an_arm_may_be_written_out_and_a_model_of_several_arms_is_no_choice(log):
    small_log().to_parquet("log.parquet", index=False)
    with router() as (url, _):
        output = run(url).output
    assert "codex-iuris in 12 rows, first reply" in output
    assert "is a model with 2 strategies: name the arm" in output
    with router(law="codex-iuris|cot") as (url, _):
        assert run(url).exit_code == 0


def test_a_price_gives_its_own_cost_and_a_budget_holds(log):
    price = {"date": "2026-11-01", "input": 1000.0, "output": 0.0}
    with router() as (url, asked):
        model = {"endpoint": "here", "served_model": "auto", "price": price, "context_length": 8192}
        pool = {
            "pool": "mine",
            "endpoints": {"here": {"base_url": url, "api_key_env": None}},
            "models": {"mine": {**model, "tokenizer": "words"}},
        }
        Path("mine.yaml").write_text(yaml.safe_dump(pool))
        result = run("mine.yaml", "--max-usd", 0.1)
        assert result.exit_code == 2
        assert "stopped before --max-usd 0.1" in result.output
        assert not [*Path("runs").glob("mine-*")]
        assert run("mine.yaml", "--max-usd", 10).exit_code == 0
        assert {each.model for each in asked} == {"auto"}
    test = log[log["split"] == "test"].drop_duplicates("query_id")
    words = test["prompt"].str.split().str.len().groupby(test["task"]).mean().mean()
    assert rows()["mine"]["router_cost_usd_per_1k"] == pytest.approx(words * 1e-3 * 1000)


def test_what_cannot_be_judged_is_one_line(log):
    with router(geo="gpt-9") as (url, _):
        output = run(url).output
        assert 'answered as "gpt-9"' in output
        assert "it must name a model or an arm, one of atlas, codex-iuris" in output
        assert "--max-usd: what mine costs is not known by its address" in run(url, "--max-usd", 1).output
    assert "cannot be reached" in run("http://127.0.0.1:9/v1").output
    output = run("http://user:hunter2@127.0.0.1/v1").output
    assert "give an address such as" in output
    assert "hunter2" not in output
    assert "there is no pool file nowhere.yaml" in run("nowhere.yaml").output
    assert "--max-usd is for what --endpoint asks" in invoke("run", "--router", "knn", "--max-usd", 1).output
    assert not [*Path("runs").glob("mine-*")]
