"""Efforts and budgets as arms: what is sent for each, what it costs, and what a model that does not take it means."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from own_endpoint import Asked, Desk, error_of, own_endpoint, reply

from recal_bench.outcomes.writer import read_metadata

THOUGHTS = {"low": 20, "high": 300}
EFFORTS = {
    effort: {"description": f"{effort} effort", "like": "direct", "sampling": {"reasoning_effort": effort}}
    for effort in THOUGHTS
}
BUDGETS = {
    "short": {"description": "64 tokens", "like": "cot", "max_tokens": 64},
    "thoughtful": {
        "description": "thinks in 2,000 tokens",
        "like": "cot",
        "sampling": {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000, "temperature": 1.0},
    },
}


def thinking(asked: Asked) -> tuple[int, Any]:
    """Model m thinks as long as it is told; model plain knows no effort, as OpenAI's models say it."""
    effort = asked.body.get("reasoning_effort")
    if effort is not None and asked.model == "plain":
        said = "Unsupported parameter: 'reasoning_effort' is not supported with this model."
        return 400, {"error": {"message": said, "param": "reasoning_effort", "code": "unsupported_parameter"}}
    thoughts, right = THOUGHTS.get(effort or "", 0), reply(asked)
    completion = right["usage"]["completion_tokens"] + thoughts
    total = right["usage"]["prompt_tokens"] + completion
    usage = {"completion_tokens": completion, "total_tokens": total}
    return 200, reply(asked, usage=usage | {"completion_tokens_details": {"reasoning_tokens": thoughts}})


def test_each_arm_sends_its_own_parameters_and_pays_for_its_thoughts(tmp_path: Path) -> None:
    with own_endpoint(thinking) as (url, asked):
        desk = Desk(tmp_path, url)
        desk.strategies = EFFORTS | BUDGETS
        desk.models["m"]["sampling"] = {"temperature": 0.0, "seed": 1}
        frame = desk.collected("--strategies", "direct,low,high,short,thoughtful")
    sent = {
        (each.body.get("reasoning_effort"), each.body["max_tokens"], "thinking" in each.body, each.body["temperature"])
        for each in asked
    }
    assert sent == {
        (None, 512, False, 0.0),
        ("low", 512, False, 0.0),
        ("high", 512, False, 0.0),
        (None, 64, False, 0.0),
        (None, 4000, True, 1.0),
    }
    assert {each.body["seed"] for each in asked} == {1}
    by_arm = frame.groupby("strategy")[["reasoning_tokens", "cost_usd"]].mean()
    assert by_arm["reasoning_tokens"].to_dict() | {"low": 20, "high": 300} == by_arm["reasoning_tokens"].to_dict()
    for effort, thoughts in THOUGHTS.items():
        more = by_arm.loc[effort, "cost_usd"] - by_arm.loc["direct", "cost_usd"]
        assert more == pytest.approx(thoughts * 2.0 / 1e6)
    assert read_metadata(desk.out)["sampling"]["low"] == {"reasoning_effort": "low"}


def test_an_arm_that_a_model_does_not_take_is_named_and_asked_once(tmp_path: Path) -> None:
    with own_endpoint(thinking) as (url, asked):
        desk = Desk(tmp_path, url, "m plain", questions=12)
        desk.strategies = EFFORTS
        result = desk.collect("--strategies", "direct,low")
        said = error_of(result)
        assert "36 of 48 outcomes" in said
        assert "plain: 12 requests have no answer" in result.output
        assert "arm plain|low sends reasoning_effort, which strategy low sets" in result.output
        assert "name the strategies that it is asked by under `strategies` of models.plain" in result.output
        refused = Counter((each.model, each.body.get("reasoning_effort")) for each in asked)
        assert refused["plain", "low"] <= desk.entry["concurrency"]
        assert refused["plain", None] == refused["m", None] == refused["m", "low"] == 12
        n_asked = len(asked)
        desk.models["plain"]["strategies"] = ["direct"]
        frame = desk.collected("--strategies", "direct,low")
    assert len(asked) == n_asked, "what was answered is not asked again"
    assert sorted((frame["model"] + "|" + frame["strategy"]).unique()) == ["m|direct", "m|low", "plain|direct"]


def test_a_refusal_that_names_nothing_says_what_the_arm_sends(tmp_path: Path) -> None:
    def refuse(asked: Asked) -> tuple[int, Any]:
        if "reasoning_effort" in asked.body:
            return 400, {"error": {"message": "bad request"}}
        return thinking(asked)

    with own_endpoint(refuse) as (url, _):
        desk = Desk(tmp_path, url)
        desk.strategies = EFFORTS
        result = desk.collect("--strategies", "direct,high")
    error_of(result)
    assert "bad request); arm m|high sends reasoning_effort, which strategy high sets" in result.output


def test_a_parameter_of_the_model_itself_is_named_too(tmp_path: Path) -> None:
    def refuse(asked: Asked) -> tuple[int, Any]:
        return 400, {"error": {"message": "Unsupported value: 'temperature' does not support 0.0 with this model."}}

    with own_endpoint(refuse) as (url, _):
        result = Desk(tmp_path, url).collect()
    assert "it is in `sampling` of models.m in the pool file" in error_of(result)


def test_adding_a_strategy_asks_nothing_again(tmp_path: Path) -> None:
    with own_endpoint(thinking) as (url, asked):
        desk = Desk(tmp_path, url)
        desk.collected()
        before = len(asked)
        desk.strategies = EFFORTS
        desk.collected("--strategies", "direct,low")
    assert len(asked) == before + 4
