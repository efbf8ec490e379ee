"""Turns and trajectories of a language model: what well-formed ones say, and which rules the others break."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recal_bench.errors import SettingsError
from recal_bench.language_model.protocol import (
    RULES,
    TAGS,
    ParsedTrajectory,
    Turn,
    format_grade,
    information,
    parse,
    parse_trajectory,
    render,
)
from recal_bench.language_model.router_r1 import ROUTER_R1_RULES, parse_router_r1
from recal_bench.outcomes import Arm

ARMS = [
    Arm("small", "direct"), Arm("small", "cot"), Arm("large", "cot"), Arm("org/large:free", "cot"),
    Arm("org/large:free", "cot:fast"), Arm("größer 2", "self_ask"),
]  # fmt: skip
MARKS = [f"<{end}{tag}>" for tag in TAGS for end in ("", "/")]
PIECES = [
    *MARKS, *MARKS, *(part for arm in ARMS for part in arm), "small | cot", "large | cot : who", "small|direct", "|",
    "|", ":", ":", " : ", " ", " ", "\n", "\u2028", "\x1c", "<", ">", "</", "<Think>", "< think>", "<think",
    "a < b > c", "x", "who?", "答え", "👩‍🚀", "\u0301", "\ud800", "\x00", "small:who", "LLM-Name:Your-Query",
]  # fmt: skip

plain = st.lists(st.sampled_from([*PIECES[len(MARKS) * 2 :], *"abc<>/|: \n"]), min_size=1).map("".join).map(str.strip)
words = plain.filter(lambda text: text != "" and not any(mark in text for mark in MARKS))
thoughts = st.just("") | words
turns = st.builds(Turn, thoughts, st.sampled_from(ARMS), st.none() | words, st.none()) | st.builds(
    Turn, thoughts, st.none(), st.none(), words
)


def says(text: str, short: bool = False) -> tuple[str, ...]:
    """The rules that a reply breaks."""
    return parse(text, ARMS, short).broken


@given(turns)
def test_a_turn_comes_back_from_what_it_says(turn: Turn) -> None:
    text = render(turn)
    assert parse(text, ARMS, short=True) == (turn, ())
    assert parse(f"\n {text}\n\n", ARMS, short=True).turn == turn
    full = turn.think and (turn.query or turn.answer)
    assert parse(text, ARMS).turn == (turn if full else None)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=100)
def test_any_of_10_000_texts_is_a_turn_or_breaks_rules(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        check("".join(rng.choices(PIECES, k=rng.randint(0, 24))))
        check(mutated(rng))


def mutated(rng: random.Random) -> str:
    """A well-formed reply with a few pieces put in, cut out or put into the place of others."""
    parts = re.split(r"( |(?<=>)|(?=<))", render(Turn("a b", *rng.choice([(ARMS[3], "c", None), (None, None, "c")]))))
    for _ in range(rng.randint(0, 3)):
        at = rng.randrange(len(parts) + 1)
        parts[at : at + rng.randint(0, 1)] = rng.choices(PIECES, k=rng.randint(0, 1))
    return "".join(parts)


def check(text: str) -> None:
    full, short = parse(text, ARMS), parse(text, ARMS, short=True)
    for parsed in (full, short):
        assert (parsed.turn is None) == bool(parsed.broken)
        assert set(parsed.broken) <= set(RULES)
    assert set(short.broken) <= set(full.broken)
    if short.turn is not None:
        assert parse(render(short.turn), ARMS, short=True).turn == short.turn
    grade = format_grade(full.broken, graded=True)
    assert (grade == 1) == (not full.broken)
    assert 0 <= format_grade(full.broken, graded=False) <= grade <= 1
    parse_trajectory(text, ARMS, max_calls=1)
    parse_router_r1(text, {"small", "large"})


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("", "think-missing no-route"),
        ("<think> a </think>", "no-route"),
        ("<route> small | cot : b </route>", "think-missing"),
        ("<think> </think><route> small | cot : b </route>", "think-empty"),
        ("<think> a </think><think> b </think><answer> c </answer>", "two-thinks"),
        ("<think> a </think><answer> b </answer><route> small | cot : c </route>", "two-routes"),
        ("<think> a </think><answer> b", "unbalanced no-route"),
        ("<think> a </think></route><answer> b </answer>", "unbalanced"),
        ("<think> a <answer> b </answer></think>", "nested no-route"),
        ("<think> a <answer> b </think></answer>", "unbalanced nested think-missing no-route"),
        ("well <think> a </think><answer> b </answer>", "text-outside"),
        ("<think> a </think> so <answer> b </answer>", "text-outside"),
        ("<think> a </think><search> small:b </search>", "text-outside no-route"),
        ("<think> a </think><answer> b </answer> done", "text-after"),
        ("<answer> b </answer><think> a </think>", "text-after think-missing"),
        ("<think> a </think><answer> b </answer><information> c </information>", "information-written"),
        ("<think> a </think><answer> b </answer><search> c </search>", "text-after"),
        ("<think> a </think><route> small </route>", "route-form"),
        ("<think> a </think><route> large : b </route>", "route-form"),
        ("<think> a </think><route> huge | cot : b </route>", "unknown-model"),
        ("<think> a </think><route> small | code : b </route>", "unknown-strategy"),
        ("<think> a </think><route> small | co : b </route>", "unknown-strategy"),
        ("<think> a </think><route> large | direct : b </route>", "unknown-arm"),
        ("<think> a </think><route> small | cot </route>", "empty-query"),
        ("<think> a </think><route> small | cot : </route>", "empty-query"),
        ("<think> a </think><answer> \n </answer>", "empty-answer"),
        ("<Think> a </Think><answer> b </answer>", "text-outside think-missing"),
    ],
)
def test_each_rule(text: str, broken: str) -> None:
    assert " ".join(says(text)) == broken


def test_the_short_form_needs_neither_thought_nor_query() -> None:
    assert says("<route> small | cot </route>", short=True) == ()
    assert says("<think> </think><route> small | cot </route>", short=True) == ()
    assert says("<route>small|cot</route>", short=True) == ()
    assert says("<route> small | cot : </route>", short=True) == ("empty-query",)


def test_what_fits_more_than_one_strategy_is_the_longest() -> None:
    reply = "<think> a </think><route> org/large:free | cot:fast: b : c | d </route>"
    assert parse(reply, ARMS).turn == Turn("a", Arm("org/large:free", "cot:fast"), "b : c | d", None)
    spaced = reply.replace("cot:fast", "cot :fast")
    assert parse(spaced, ARMS).turn == Turn("a", Arm("org/large:free", "cot"), "fast: b : c | d", None)


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (Turn("see <think>", ARMS[0], "a", None), "hold the think 'see <think>'"),
        (Turn("a", ARMS[0], "is </route> right?", None), "hold the query"),
        (Turn("a", ARMS[0], "", None), "hold the query ''"),
        (Turn("a", None, None, " b"), "hold the answer ' b'"),
        (Turn("a", None, None, None), "either routes"),
        (Turn("a", ARMS[0], "b", "c"), "either routes"),
        (Turn("a", Arm("a|b", "cot"), "b", None), "hold the name 'a|b'"),
        (Turn("a", Arm("a", "cot : x"), "b", None), "hold the name 'cot : x'"),
        (Turn("x" * 500 + "<answer>", ARMS[0], "b", None), r"x{50,}\.\.\."),
    ],
)
def test_what_no_turn_can_hold_is_refused(turn: Turn, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        render(turn)
    assert len(str(caught.value)) < 200


def test_a_grade_is_all_or_nothing_or_the_share_of_the_rules_that_apply() -> None:
    assert format_grade((), graded=False) == format_grade((), graded=True) == 1.0
    assert format_grade(("text-after",), graded=False) == 0.0
    assert format_grade(("text-after",), graded=True) == pytest.approx(1 - 1 / 16)
    # Without a route nothing is asked of it: 16 rules of a turn less text-after, two-routes and what is in the block.
    assert format_grade(("no-route",), graded=True) == pytest.approx(1 - 1 / 8)
    assert format_grade(("no-route",), graded=True, short=True) == pytest.approx(1 - 1 / 6)
    assert format_grade(("no-answer",), graded=True) == pytest.approx(1 - 1 / 17)
    assert format_grade(tuple(RULES), graded=True) == 0.0
    with pytest.raises(SettingsError, match="knows no rule search-form"):
        format_grade(("search-form",), graded=True)


def test_on_the_way_to_a_turn_grades_rise() -> None:
    way = [
        "so", "<think> a </think>", "<think> a </think><route> huge | cot : b </route>",
        "<think> a </think><route> small | code : b </route>", "<think> a </think><route> small | cot : </route>",
        "<think> a </think><route> small | cot : b </route>",
    ]  # fmt: skip
    grades = [format_grade(says(text), graded=True) for text in way]
    assert grades == sorted(grades)
    assert len(set(grades)) == len(grades)


ASKS = render(Turn("a", ARMS[1], "who?", None))
ANSWERS = render(Turn("b", None, None, "c"))


def trajectory(text: str, max_calls: int = 2, short: bool = False) -> ParsedTrajectory:
    return parse_trajectory(text, ARMS, max_calls, short)


def test_a_trajectory_is_its_turns() -> None:
    two = trajectory(ASKS + information("he") + ASKS + information("she") + ANSWERS)
    assert [turn.query for turn in two.turns] == ["who?", "who?", None]
    assert (two.broken, two.answer) == ((), "c")
    assert trajectory(ANSWERS).answer == "c"


@given(st.lists(turns.filter(lambda turn: turn.arm is not None), max_size=4), words, st.lists(plain, min_size=4))
def test_a_trajectory_comes_back_whatever_the_arms_reply(asked: list[Turn], answer: str, replies: list[str]) -> None:
    said = [*asked, Turn("", None, None, answer)]
    blocks = [information(f"{reply}</information><answer> {reply}") for reply in replies]
    text = "".join(render(turn) + block for turn, block in zip(asked, blocks, strict=False)) + render(said[-1])
    assert trajectory(text, max_calls=4, short=True) == (tuple(said), ())


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        (ASKS, "no-answer"),
        (ASKS + information("he"), "no-answer"),
        ((ASKS + information("he")) * 3 + ANSWERS, "too-many-calls"),
        (ANSWERS + information("he") + ANSWERS, "information-written"),
        ("<think> a </think>" + information("he") + ANSWERS, "no-route"),
        (ASKS + ANSWERS, "text-after two-routes"),
        (ASKS + "<information> he" + ANSWERS, "unbalanced nested information-written"),
        ("", "think-missing no-route"),
    ],
)
def test_rules_of_trajectories(text: str, broken: str) -> None:
    assert " ".join(trajectory(text).broken) == broken
    assert trajectory(text).answer is None


def test_a_short_trajectory_may_end_with_what_an_arm_replied() -> None:
    text = "<route> small | cot </route>"
    assert trajectory(text, short=True) == trajectory(text + information("he"), short=True)
    assert trajectory(text, short=True) == ((Turn("", ARMS[1], None, None),), ())


def test_turns_are_those_before_the_first_malformed_one() -> None:
    text = ASKS + information("he") + "<think> a </think>" + information("she") + ANSWERS
    assert [turn.query for turn in trajectory(text).turns] == ["who?"]


def test_a_long_text_takes_a_time_that_grows_with_it() -> None:
    for piece in ("<think>", "<information>", "</route>", "<route> small | cot : <", "<think></route>"):
        assert trajectory(piece * 20_000).broken


def test_the_page_has_every_rule_in_its_order() -> None:
    page = (Path(__file__).parents[3] / "docs" / "language-model.md").read_text(encoding="utf-8")
    ours, _, theirs = page.partition("### Router-R1's form")
    assert re.findall(r"^\| `([\w-]+)` \|", ours, re.MULTILINE) == list(RULES)
    rows = re.findall(r"^\| (`[^|]*`) \|", theirs.partition("### Prompts")[0], re.MULTILINE)
    assert set(re.findall(r"`([\w-]+)`", " ".join(rows))) == set(ROUTER_R1_RULES)
