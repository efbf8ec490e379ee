"""What a policy that is a language model may reply, turn by turn, and which rules a reply breaks.

A turn is `<think> ... </think>`, then one `<route> model | strategy : query </route>` or one `<answer> ... </answer>`.
After a route the system puts the reply of the arm between `<information>` and `</information>`, and it is the policy's
turn again. In the short form, for models too small to reason, the think block and the query may be left out (the query
is then the question), and the reply to the last route is the answer where the policy gives none.

Tags are lower-case and exact: `<b>`, `a < b` or `<Think>` are text like any other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from recal_bench.errors import SettingsError
from recal_bench.outcomes import Arm

TAGS = ("think", "route", "search", "answer", "information")
"""Of both forms: the project's own has `route` where Router-R1's has `search`."""

RULES: Mapping[str, str] = MappingProxyType(
    {
        "unbalanced": "every tag that is opened is closed, and none is closed that is not open",
        "nested": "no tag is opened inside another",
        "information-written": "`<information>` is the system's: the policy does not write it",
        "text-outside": "there is no text before or between the blocks",
        "text-after": "nothing follows the route or the answer",
        "think-missing": "a turn begins with a think block",
        "think-empty": "the think block holds text",
        "two-thinks": "a turn has one think block",
        "no-route": "a turn routes or answers",
        "two-routes": "a turn routes or answers once",
        "route-form": "a route is `model | strategy : query`",
        "unknown-model": "the model is one of the pool",
        "unknown-strategy": "the strategy is one of the pool",
        "unknown-arm": "the pool asks this model by this strategy",
        "empty-query": "a route asks something after its colon",
        "empty-answer": "the answer holds text",
        "no-answer": "a trajectory ends with an answer",
        "too-many-calls": "a trajectory calls no more often than it may",
    }
)
"""What each rule asks. The last two are of trajectories, the others of single turns."""

_OF_TRAJECTORIES = ("no-answer", "too-many-calls")
_FULL_FORM_ALONE = ("think-missing", "think-empty")
_MOOT = {
    "think-missing": {"think-empty"},
    "no-route": {"text-after", "two-routes", "route-form", "empty-answer"},
    "route-form": {"unknown-model"},
    "unknown-model": {"unknown-strategy"},
    "unknown-strategy": {"unknown-arm"},
    "unknown-arm": {"empty-query"},
}
"""Rules that do not apply where the first is broken, or is itself moot."""

_TAG = re.compile(rf"<(/?)({'|'.join(TAGS)})>")


class Turn(NamedTuple):
    """A well-formed turn: it routes (`arm`, and the `query`, None for the question itself) or answers.

    `think` is empty where nothing was thought. Texts have no white space at their ends.
    """

    think: str
    arm: Arm | None
    query: str | None
    answer: str | None


class Parsed(NamedTuple):
    """A turn, or the rules that keep a reply from being one, by their names and in the order of `RULES`."""

    turn: Turn | None
    broken: tuple[str, ...]


class ParsedTrajectory(NamedTuple):
    """The turns before the first malformed one, and the rules that the trajectory breaks."""

    turns: tuple[Turn, ...]
    broken: tuple[str, ...]

    @property
    def answer(self) -> str | None:
        """The answer, where the trajectory is well-formed and its last turn gives one."""
        return self.turns[-1].answer if self.turns and not self.broken else None


def render(turn: Turn) -> str:
    """The reply that says a turn, in the shortest way: `parse` gives the turn back.

    A turn without thought or query is well-formed in the short form alone. Raises SettingsError on a turn that both
    routes and answers, or neither; on texts that are empty, hold a tag or have white space at their ends; and on names
    of an arm that a route cannot hold.
    """
    think = f"<think> {_plain('think', turn.think)} </think>\n" if turn.think else ""
    if turn.answer is not None and turn.arm is None and turn.query is None:
        return f"{think}<answer> {_plain('answer', turn.answer)} </answer>"
    if turn.arm is None or turn.answer is not None:
        raise SettingsError("a turn either routes (arm, query) or answers: give one of the two")
    for name in turn.arm:
        if "|" in _plain("name of the arm", name) or re.search(r"\s:|^:|[^\S ]", name):
            raise SettingsError(f"no route can hold the name {name!r}: take one without '|', ' :' or line breaks")
    query = "" if turn.query is None else f" : {_plain('query', turn.query)}"
    return f"{think}<route> {turn.arm.model} | {turn.arm.strategy}{query} </route>"


def information(text: str) -> str:
    """The block that the system puts after a route: what the arm replied, with a blank for each tag in it."""
    return f"\n<information> {without_tags(text)} </information>\n"


def without_tags(text: str) -> str:
    """A text that a block can hold: with a blank for each tag, and without blank ends."""
    return _TAG.sub(" ", text).strip()


def parse(text: str, arms: Sequence[Arm], short: bool = False) -> Parsed:
    """The turn that a reply says, or the rules that it breaks. Any text will do; the time is linear in its length.

    Without `short` a turn thinks before it routes or answers, and a route has a query.
    """
    blocks, broken = blocks_of(text)
    names = [name for name, _ in blocks]
    acts = [place for place, name in enumerate(names) if name in ("route", "answer")]
    first = acts[0] if acts else len(blocks)
    if not acts:
        broken.add("no-route")
    elif len(acts) > 1:
        broken.add("two-routes")
    if any(name in ("", "think", "search") for name in names[first + 1 :]):
        broken.add("text-after")
    if any(name in ("", "search") for name in names[:first]):
        broken.add("text-outside")
    thoughts = [content for name, content in blocks[:first] if name == "think"]
    if len(thoughts) > 1:
        broken.add("two-thinks")
    if not short and not thoughts:
        broken.add("think-missing")
    elif not short and not thoughts[0]:
        broken.add("think-empty")
    turn = None
    if len(acts) == 1:
        think = thoughts[0] if thoughts else ""
        name, content = blocks[first]
        if name == "answer":
            turn = Turn(think, None, None, content)
            broken |= set() if content else {"empty-answer"}
        else:
            arm, query, wrong = _route(content, arms, short)
            turn = Turn(think, arm, query, None)
            broken |= wrong
    return Parsed(None if broken else turn, in_order(broken))


def parse_trajectory(text: str, arms: Sequence[Arm], max_calls: int, short: bool = False) -> ParsedTrajectory:
    """The turns of a whole trajectory: the policy's replies, with the system's `information` blocks between them.

    In the short form a trajectory may end with a route and its information. An information block is the system's only
    after a turn that routes: elsewhere it breaks `information-written`. Where the policy writes one just there, the
    text does not show it, so whoever generates should `parse` each reply.
    """
    *routed, last = _between_information(text)
    turns: list[Turn] = []
    broken: set[str] = set()
    for reply in routed:
        turn, wrong = parse(reply, arms, short)
        broken.update(wrong)
        if turn is not None and turn.arm is None:
            broken.add("information-written")
        elif turn is not None and not broken:
            turns.append(turn)
    if last.strip() or not routed:
        turn, wrong = parse(last, arms, short)
        broken.update(wrong)
        if turn is not None and turn.arm is not None and not short:
            broken.add("no-answer")
        if turn is not None and not broken:
            turns.append(turn)
    elif not short:
        broken.add("no-answer")
    if sum(turn.arm is not None for turn in turns) > max_calls:
        broken.add("too-many-calls")
    return ParsedTrajectory(tuple(turns), in_order(broken))


def format_grade(broken: Collection[str], graded: bool, short: bool = False) -> float:
    """The format reward of a turn: 1 where no rule is broken; else 0, or with `graded` the share of rules kept.

    The share is of the rules that apply: what a route must be is not asked where there is none. Raises SettingsError
    where a share is asked of rules that are not in `RULES`.
    """
    if not broken or not graded:
        return float(not broken)
    unknown = sorted(set(broken) - set(RULES))
    if unknown:
        raise SettingsError(f"a graded format reward knows no rule {unknown[0]}: only the project's own form is graded")
    moot = set(_OF_TRAJECTORIES) - set(broken) | (set(_FULL_FORM_ALONE) if short else set())
    for rule, others in _MOOT.items():
        if rule in broken or rule in moot:
            moot |= others
    return max(0.0, 1.0 - len(set(broken)) / len(set(RULES) - moot | set(broken)))


def blocks_of(text: str) -> tuple[list[tuple[str, str]], set[str]]:
    """The outermost blocks of a text (tag and content), text between them under the tag `""`, and the broken rules of
    what tags are for: `unbalanced`, `nested`, `information-written`."""
    blocks: list[tuple[str, str]] = []
    broken: set[str] = set()
    open_tags: list[str] = []
    begin = 0
    for found in _TAG.finditer(text):
        closing, tag = found.groups()
        if tag == "information":
            broken.add("information-written")
        if not open_tags and text[begin : found.start()].strip():
            blocks.append(("", text[begin : found.start()].strip()))
        if not closing:
            if open_tags:
                broken.add("nested")
            else:
                begin = found.end()
            open_tags.append(tag)
        elif open_tags and open_tags[-1] == tag:
            open_tags.pop()
            if not open_tags:
                blocks.append((tag, text[begin : found.start()].strip()))
                begin = found.end()
        else:
            broken.add("unbalanced")
            begin = begin if open_tags else found.end()
    if open_tags:
        broken.add("unbalanced")
    elif text[begin:].strip():
        blocks.append(("", text[begin:].strip()))
    return blocks, broken


def in_order(broken: Collection[str]) -> tuple[str, ...]:
    return tuple(rule for rule in RULES if rule in broken)


def _between_information(text: str) -> list[str]:
    replies, begin = [], 0
    while (opened := text.find("<information>", begin)) >= 0:
        closed = text.find("</information>", opened)
        if closed < 0:
            break
        replies.append(text[begin:opened])
        begin = closed + len("</information>")
    return [*replies, text[begin:]]


def _route(content: str, arms: Sequence[Arm], short: bool) -> tuple[Arm | None, str | None, set[str]]:
    """Arm and query of a route, and the rules it breaks. Of strategies that fit the longest is meant: names may hold
    colons."""
    model, bar, rest = (part.strip() for part in content.partition("|"))
    if not bar:
        return None, None, {"route-form"}
    if model not in {arm.model for arm in arms}:
        return None, None, {"unknown-model"}
    strategies = (arm.strategy for arm in arms)
    fits = [each for each in strategies if rest.startswith(each) and re.match(r"\s*(:|\Z)", rest[len(each) :])]
    if not fits:
        return None, None, {"unknown-strategy"}
    arm = Arm(model, max(fits, key=len))
    if arm not in arms:
        return None, None, {"unknown-arm"}
    query = rest.removeprefix(arm.strategy).strip()
    if not query and short:
        return arm, None, set()
    query = query[1:].strip()
    return arm, query, set() if query else {"empty-query"}


def _plain(what: str, text: str) -> str:
    if not text or text != text.strip() or _TAG.search(text):
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        raise SettingsError(f"no turn can hold the {what} {shown!r}: take text without tags and blank ends")
    return text
