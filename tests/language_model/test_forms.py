"""Trajectories in either form: what is written, inserted, parsed and learnt, by a model with a chat template."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest

pytest.importorskip("transformers", reason="transformers is not installed: it comes with the extra lm")

from hypothesis import given, settings
from hypothesis import strategies as st
from small_policy import ARMS, MODELS, QUESTIONS, policy

from recal_bench.errors import SettingsError
from recal_bench.language_model.dialogue import Dialogue
from recal_bench.language_model.pool import Call
from recal_bench.language_model.protocol import Turn
from recal_bench.language_model.rollouts import Rollout, roll_out
from recal_bench.language_model.router_r1 import parse_reply, render_search
from recal_bench.language_model.warm_start import route
from recal_bench.outcomes import Arm

MIXED = (Arm("brelune-7b", "direct"), Arm("brelune-70b", "cot"))
SEARCH = "<think> Rare. </think>\n<search> brelune-70b: who? </search>"
ANSWER = "<think> </think> <answer> He. </answer>"


def spoken(rounds: int = 1, form: str = "router-r1", arms: tuple[Arm, ...] = MIXED) -> Dialogue:
    return dataclasses.replace(policy(True, MODELS), arms=arms, rounds=rounds, form=form)


def saying(dialogue: Dialogue, *replies: str) -> Callable[[list[list[int]]], list[list[int]]]:
    """A policy that gives these replies, turn by turn."""
    said = iter(replies)
    encode = dialogue.local.tokenizer
    return lambda prompts: [[*encode(next(said)).input_ids, encode.eos_token_id] for _ in prompts]


def trajectory(dialogue: Dialogue, *replies: str) -> Rollout:
    prompts = [dialogue.prompt_ids(QUESTIONS[0])]

    def ask(calls: Sequence[Call]) -> list[str | None]:
        return [f"</search> reply {arm}" for _, arm, _ in calls]

    return roll_out(dialogue, prompts, [0], saying(dialogue, *replies), ask)[0]


def test_a_search_calls_the_models_one_strategy_and_an_answer_ends() -> None:
    one = trajectory(spoken(3), SEARCH, SEARCH.replace("70b", "7b"), ANSWER)
    assert (one.calls, one.broken, one.done) == ([1, 0], (), True)
    text = spoken().local.tokenizer.decode(one.completion_ids)
    assert "<information> reply 1 </information>" in text
    written = [token for token, mine in zip(one.completion_ids, one.mask, strict=True) if mine]
    assert "<information>" not in spoken().local.tokenizer.decode(written)


def test_with_one_round_the_search_ends_it() -> None:
    one = trajectory(spoken(1), SEARCH)
    assert (one.calls, one.well_formed) == ([1], True)
    assert "<search> model:question </search>" in spoken().local.tokenizer.decode(one.prompt_ids)


@pytest.mark.parametrize(
    ("replies", "broken"),
    [
        ((SEARCH + ANSWER,), "two-routes"),
        ((SEARCH + SEARCH,), "two-routes"),
        (("so " + ANSWER,), "think-missing think-empty"),
        ((SEARCH.replace("who", "a:b"),), "search-form no-answer"),
        ((SEARCH, "<search> mine: who? </search>"), "unknown-model no-answer"),
        ((SEARCH, "I do not know."), "no-answer"),
        ((SEARCH, ANSWER + " done <think> a </think>"), "text-after"),
        (("<search> brelune-7b: who? </search>",), "think-missing"),
        ((ANSWER.replace("<think> ", "<think> a"),), "no-call"),
    ],
)
def test_rules_of_its_own(replies: tuple[str, ...], broken: str) -> None:
    assert set(trajectory(spoken(3), *replies).broken) == set(broken.split())


@settings(max_examples=25)
@given(st.text(alphabet="ab :?<>/", min_size=1).filter(lambda text: text.replace(":", "").strip()))
def test_the_canonical_search_parses_whatever_the_question(question: str) -> None:
    dialogue = spoken()
    for arm, named in enumerate(MIXED):
        turn = route(dialogue, arm, question)
        parsed = dialogue.parse(dialogue.reply_ids(turn))
        assert parsed.turn == turn
        assert turn.arm == named


def test_a_search_that_the_form_cannot_hold_is_refused() -> None:
    assert parse_reply("", render_search(Turn("a", MIXED[1], "who?", None)), MIXED).turn is not None
    with pytest.raises(SettingsError, match="has one colon"):
        render_search(Turn("a", MIXED[1], "who: he?", None))
    with pytest.raises(SettingsError, match="thinks, and asks a model something"):
        render_search(Turn("", MIXED[1], "who?", None))


def test_what_the_form_cannot_say_is_named_in_one_line() -> None:
    with pytest.raises(SettingsError, match="form=router-r1 names no strategies, and brelune-7b has several"):
        spoken(arms=ARMS)
    with pytest.raises(SettingsError, match="needs a policy with a chat template"):
        dataclasses.replace(policy(arms=MODELS), form="router-r1")


def test_the_projects_own_form_is_as_it_was() -> None:
    dialogue = spoken(2, "recal", ARMS)
    one = trajectory(dialogue, "<think> a </think><route> brelune-70b | cot : who? </route>", ANSWER)
    assert (one.calls, one.broken) == ([3], ("think-empty",))
    assert trajectory(spoken(2, "recal", ARMS), SEARCH).broken
