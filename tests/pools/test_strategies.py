"""Strategies: what a model is sent, and the answer that is found in what it says."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.pools.strategies import STRATEGIES, Strategy
from recal_bench.scoring import extract_answer


def marked(pattern):
    return Strategy("for a test", "Say it.", 64, pattern)


def test_the_embedded_pool_is_priced_by_the_words_of_the_instructions():
    words = {name: len(strategy.instruction.split()) for name, strategy in STRATEGIES.items()}
    assert words == {"direct": 9, "cot": 14, "cod": 21, "self_ask": 33}


def test_a_strategy_that_reasons_has_more_room():
    assert {name: each.max_tokens for name, each in STRATEGIES.items()} == {
        "direct": 512,
        "cot": 1024,
        "cod": 512,
        "self_ask": 1024,
    }


@pytest.mark.parametrize("name", STRATEGIES)
def test_texts_are_one_clean_line(name):
    each = STRATEGIES[name]
    for text in (each.description, each.instruction):
        assert text == " ".join(text.split())
        assert text.isascii()
        assert text


@pytest.mark.parametrize("name", STRATEGIES)
@given(prompt=st.text(max_size=200))
def test_a_message_is_the_instruction_a_blank_line_and_the_prompt_untouched(name, prompt):
    strategy = STRATEGIES[name]
    assert strategy.message(prompt) == strategy.instruction + "\n\n" + prompt


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_reply_that_obeys_the_instruction_has_its_answer_found(name):
    strategy = STRATEGIES[name]
    ending = re.search(r"End with a line `(.+)`\.", strategy.instruction)
    assert ending is not None
    reply = "First one thing, then the other.\n" + ending.group(1).replace("<short phrase>", "George Washington")
    assert strategy.answer(reply) == "George Washington"


@given(response=st.text(max_size=200) | st.text(alphabet="aAnswer: \n<>/.", max_size=200))
def test_without_a_pattern_the_answer_is_what_the_scoring_finds(response):
    assert STRATEGIES["cot"].answer(response) == extract_answer(response)


@pytest.mark.parametrize(
    ("pattern", "response", "answer"),
    [
        (r"#### (\d+)", "3 + 4\n#### 7\nno:\n#### 8", "8"),
        (r"#### (\d+)", "  no mark here \n", "no mark here"),
        (r"^Final: (\w+)$", "Final: one\nFinal: two\nthe end", "two"),
        (r"\\boxed\{([^}]+)\}", "so \\boxed{a\nb} it is", "a\nb"),
        (r"A:(.+)", "A:  spaces \n ", "spaces"),
        (r"(?:yes|no)(!)?", "yes", ""),
        (r"(x)", "", ""),
        (r"(?i:answer) = (\S+)", "ANSWER = 4", "4"),
    ],
)
def test_a_pattern_gives_the_group_of_its_last_match_and_else_all_of_the_response(pattern, response, answer):
    assert marked(pattern).answer(response) == answer


def test_a_pattern_such_as_the_documented_one_takes_the_rest_of_its_line_and_the_last_such_line():
    """`docs/collect.md` shows it. A dot that matches line ends makes the first match swallow all the others."""
    said = "Final: Paris\nBut wait, it moved.\nFinal: Lyon\nI hope this helps!"
    assert marked("Final: (.+)").answer(said) == "Lyon"


def test_a_pattern_may_ask_for_several_lines():
    assert marked(r"(?s)```(.+?)```").answer("so:\n```\na\nb\n```\n") == "a\nb"


@given(
    response=st.text(max_size=100) | st.text(alphabet="ab# 1\n", max_size=100),
    pattern=st.sampled_from([r"# (\d)", r"(a+)b", r"^(.)$", r"(?:a(b)?)+", r"(?s:a(.*?)b)"]),
)
def test_an_answer_is_stripped_and_a_piece_of_the_response(response, pattern):
    answer = marked(pattern).answer(response)
    assert answer == answer.strip()
    assert answer in response


def test_strategies_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        STRATEGIES["direct"].max_tokens = 1
