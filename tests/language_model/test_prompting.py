"""What a language model is told of pool and form: only what is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from recal_bench.errors import SettingsError
from recal_bench.language_model.prompting import describe, question_prompt, system_prompt
from recal_bench.outcomes import Arm
from recal_bench.pools.files import read_pool

ARMS = [Arm(model, strategy) for model in ("brelune-8b", "mine") for strategy in ("direct", "cot")]


def test_prices_latencies_and_strategies_are_told_where_they_are_known() -> None:
    told = system_prompt(ARMS, describe(read_pool(Path("embedded")), {"brelune-8b": 1.24}), max_calls=3)
    assert "<route> model | strategy : question </route>" in told
    assert "3 times at most" in told
    assert "\n- brelune-8b: USD 0.18 per 1M tokens, about 1.2 s a reply\n- mine\n" in told
    assert "\n- direct: the answer at once\n- cot: chain of thought" in told
    assert "go together" not in told


def test_prices_of_reading_and_writing_are_told_apart() -> None:
    prices = {"mine": read_pool(Path("embedded")).models["brelune-8b"].price.model_copy(update={"output": 4.0})}
    told = system_prompt(ARMS, describe()._replace(price=prices), max_calls=1)
    assert "\n- brelune-8b\n- mine: USD 0.18 per 1M tokens read, 4 written\n" in told
    assert "once at most" in told


def test_arms_are_listed_where_not_every_model_has_every_strategy() -> None:
    told = system_prompt(ARMS[:3], describe(), max_calls=2)
    assert told.endswith("- brelune-8b | direct\n- brelune-8b | cot\n- mine | direct")


def test_router_r1_knows_no_strategy_and_no_colon_in_a_name() -> None:
    told = system_prompt(ARMS, describe(), 4, "router-r1")
    assert "<search> model:question </search>" in told
    assert told.endswith("Models:\n- brelune-8b\n- mine")
    with pytest.raises(SettingsError, match="cannot name the model org/m:free"):
        system_prompt([Arm("org/m:free", "cot")], describe(), 4, "router-r1")
    assert "org/m:free" in system_prompt([Arm("org/m:free", "cot")], describe(), 4)


def test_the_short_form_is_the_question_and_a_cue() -> None:
    assert system_prompt(ARMS, describe(), 1, "short") == ""
    assert question_prompt(" who? ", short=True) == "who?\nReply:"
    assert question_prompt(" who? ") == "Question: who?"


def test_an_unknown_form_is_named() -> None:
    with pytest.raises(SettingsError, match=r"no form is called router_r1 \(did you mean router-r1"):
        system_prompt(ARMS, describe(), 1, "router_r1")  # type: ignore[arg-type]
