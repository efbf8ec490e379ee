"""The world with two efforts of one model: more arms, the others as they were, and a server that answers likewise."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from recal_bench.cli import cli
from recal_bench.errors import RecalBenchError
from recal_bench.folders import shipped
from recal_bench.outcomes import Arm
from recal_bench.pools.files import read_pool
from recal_bench.pools.strategies import STRATEGIES
from recal_bench.simulation import SimulatedPool, embedded_frame, embedded_outcomes, embedded_questions
from recal_bench.simulation.advice import advise
from recal_bench.simulation.models import EFFORT_MODEL, EFFORTS
from recal_bench.simulation.server import running_server

SIZES = (60, 20, 40)
LOW, HIGH = (Arm(EFFORT_MODEL, name) for name in EFFORTS)
DIRECT = Arm(EFFORT_MODEL, "direct")


def test_the_other_arms_are_those_of_the_standard_world():
    standard, efforts = embedded_outcomes(2, *SIZES), embedded_outcomes(2, *SIZES, world_arms="efforts")
    assert efforts.arms == (*standard.arms, LOW, HIGH)
    n_arms = len(standard.arms)
    np.testing.assert_array_equal(efforts.score_QA[:, :n_arms], standard.score_QA)
    np.testing.assert_array_equal(efforts.cost_QA[:, :n_arms], standard.cost_QA)
    assert (efforts.name, standard.name) == ("embedded-efforts-seed2-60x20x40", "embedded-seed2-60x20x40")
    assert efforts.data_hash != standard.data_hash
    assert efforts.simulated


def test_the_standard_world_is_the_one_that_boards_were_made_on():
    assert embedded_outcomes(0).data_hash == "2641e5abe71feac7"


def test_more_effort_costs_more_and_is_right_more_often():
    outcomes = embedded_outcomes(2, *SIZES, world_arms="efforts")
    of_arm = [outcomes.arms.index(arm) for arm in (DIRECT, LOW, HIGH)]
    for value_QA in (outcomes.expected_score_QA, outcomes.expected_cost_QA):
        means = value_QA[:, of_arm].mean(axis=0)
        assert (np.diff(means) > 0).all()
    np.testing.assert_allclose(
        outcomes.cost_QA[:, of_arm].mean(axis=0), outcomes.expected_cost_QA[:, of_arm].mean(axis=0), rtol=0.03
    )


def test_reasoning_is_counted_and_not_shown():
    pool = SimulatedPool(0, "efforts")
    for question in embedded_questions(0)[:40]:
        for arm in (DIRECT, LOW, HIGH):
            reply = pool.answer(question, arm)
            assert len(reply.text.split()) == reply.completion_tokens - reply.reasoning_tokens
            assert (reply.reasoning_tokens > 0) == (arm != DIRECT)
    with pytest.raises(RecalBenchError, match="has no arm"):
        SimulatedPool(0).answer(question, LOW)


def test_the_shipped_strategies_are_those_of_the_world():
    found = read_pool(shipped("pools") / "embedded-efforts.yaml").strategies
    for name, strategy in EFFORTS.items():
        assert (found[name].instruction, found[name].max_tokens) == (strategy.instruction, strategy.max_tokens)
        assert dict(found[name].sampling) == dict(strategy.sampling)


def ask(base_url: str, model: str, strategy: str, **more: object) -> tuple[int, dict]:
    question = embedded_questions(0)[0]
    content = STRATEGIES[strategy].message(question.prompt)
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": content}], **more}).encode()
    request = urllib.request.Request(f"{base_url}/chat/completions", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_the_server_reasons_as_it_is_told_to():
    pool, question = SimulatedPool(0, "efforts"), embedded_questions(0)[0]
    with running_server(world_arms="efforts") as url:
        for effort, arm in (("low", LOW), ("high", HIGH)):
            status, said = ask(url, EFFORT_MODEL, "direct", reasoning_effort=effort)
            reply = pool.answer(question, arm)
            assert status == 200
            assert said["choices"][0]["message"]["content"] == reply.text
            assert said["usage"]["completion_tokens"] == reply.completion_tokens
            assert said["usage"]["completion_tokens_details"] == {"reasoning_tokens": reply.reasoning_tokens}
        status, said = ask(url, EFFORT_MODEL, "direct", reasoning_effort="high", max_tokens=10)
        assert said["choices"][0]["message"]["content"] == ""
        assert (said["choices"][0]["finish_reason"], said["usage"]["completion_tokens"]) == ("length", 10)
        for model, strategy, effort, words in (
            ("corvale-7b", "direct", "low", "not supported with this model"),
            (EFFORT_MODEL, "direct", "medium", "takes 'low' and 'high'"),
            (EFFORT_MODEL, "cot", "low", "instruction of `direct` alone"),
        ):
            status, said = ask(url, model, strategy, reasoning_effort=effort)
            assert status == 400
            assert words in said["error"]["message"]
    with running_server() as url:  # in the standard world it changes nothing
        (_, with_effort), (_, without) = (
            ask(url, EFFORT_MODEL, "direct", **more) for more in ({"reasoning_effort": "high"}, {})
        )
        assert (with_effort["choices"], with_effort["usage"]) == (without["choices"], without["usage"])


def test_the_server_gives_the_advice_of_the_simulated_models():
    message = f"1. a: score 0.9\n2. b: score 0.1\nQuestion: {embedded_questions(0)[0].prompt}"
    said = advise(0, EFFORT_MODEL, message)
    body = json.dumps({"model": EFFORT_MODEL, "messages": [{"role": "user", "content": message}]}).encode()
    with running_server(world_arms="efforts") as url:
        request = urllib.request.Request(f"{url}/chat/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as response:
            reply = json.loads(response.read())
    assert reply["choices"][0]["message"]["content"] == said.text
    assert reply["usage"]["completion_tokens"] == said.completion_tokens
    assert "completion_tokens_details" not in reply["usage"]


def test_what_is_collected_is_what_is_embedded(tmp_path: Path):
    pool = (shipped("pools") / "embedded-efforts.yaml").read_text()
    with running_server(world_arms="efforts") as url:
        (tmp_path / "pool.yaml").write_text(pool.replace("http://127.0.0.1:8100/v1", url))
        words = ["collect", "--pool", str(tmp_path / "pool.yaml"), "--tasks", "nq", "--limit", "20"]
        words += ["--models", f"{EFFORT_MODEL},corvale-7b", "--strategies", "direct,effort_low,effort_high"]
        result = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "o.parquet")])
        assert result.exit_code == 0, result.output
    keys = ["query_id", "model", "strategy"]
    columns = ["score", "prompt_tokens", "completion_tokens", "cost_usd", "response"]
    collected = pd.read_parquet(tmp_path / "o.parquet").set_index(keys)[[*columns, "reasoning_tokens"]]
    assert len(collected) == 20 * 4
    frame = embedded_frame(0, world_arms="efforts")
    frame = frame[(frame["task"] == "nq") & (frame["split"] == "test")].set_index(keys)
    expected = frame.loc[collected.index, columns]
    pd.testing.assert_frame_equal(collected[columns], expected, check_dtype=False)
    reasoning = frame.loc[collected.index, "reasoning_tokens"]
    assert (collected["reasoning_tokens"].fillna(0) == reasoning).all()


def test_the_command_names_the_arms_of_its_world(tmp_path: Path):
    words = [
        "run",
        "--router",
        "cheapest",
        "--world-arms",
        "efforts",
        "--tasks",
        "nq",
        "--runs",
        str(tmp_path / "runs"),
    ]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    record = json.loads(next((tmp_path / "runs").glob("cheapest*/run.json")).read_text())
    assert "--world-arms efforts" in record["command"]
    assert str(HIGH) in record["configuration"]["data"]["arms"]
    said = CliRunner().invoke(cli, [*words[:3], "--world-arms", "effort"]).output
    assert "--world-arms effort (did you mean efforts?): it is standard or efforts" in said
    (tmp_path / "log.csv").write_text("query_id,prompt,model,score\n1,p,a,1\n")
    said = CliRunner().invoke(cli, [*words[:5], "--outcomes", str(tmp_path / "log.csv")]).output
    assert "--world-arms is for the embedded pool" in said
