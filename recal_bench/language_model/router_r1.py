"""Router-R1's own form of a trajectory, and its reward (arXiv 2506.09033).

`<think>`, `<search> LLM-Name:Query </search>`, after which the system puts `<information>`, and one `<answer>`. There
are no strategies: a search is a turn whose arm has the strategy that `parse_router_r1` is given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from recal_bench.arrays import FloatQ
from recal_bench.calibration.rewards import router_r1_reward
from recal_bench.errors import SettingsError
from recal_bench.language_model.protocol import Parsed, ParsedTrajectory, Turn, blocks_of
from recal_bench.outcomes import Arm
from recal_bench.scoring import exact_match

ROUTER_R1_RULES: Mapping[str, str] = MappingProxyType(
    {
        "unbalanced": "every tag that is opened is closed, and none is closed that is not open",
        "nested": "no tag is opened inside another",
        "think-missing": "the trajectory begins with a think block",
        "think-empty": "at least one think block holds text",
        "search-form": "a search is `LLM-Name:Query`, with one colon",
        "unknown-model": "the model is one of the pool",
        "empty-query": "a search asks something",
        "no-answer": "there is an answer",
        "two-answers": "there is one answer",
        "text-after": "the trajectory ends with `</answer>`",
    }
)
"""What each rule asks of a trajectory."""


def parse_router_r1(text: str, models: Collection[str], strategy: str = "direct") -> ParsedTrajectory:
    """The searches and the answer of a whole trajectory, and the rules of `ROUTER_R1_RULES` that it breaks.

    The turns are those before the first search that is malformed, none where tags are unbalanced or nested; of a
    trajectory that is not at its end they are the searches so far, and `no-answer` is broken. Text between blocks is
    allowed, as Router-R1 allows it.
    """
    blocks, broken = blocks_of(text)
    broken.discard("information-written")
    thoughts = [content for name, content in blocks if name == "think"]
    if not blocks or blocks[0][0] != "think":
        broken.add("think-missing")
    if thoughts and not any(thoughts):
        broken.add("think-empty")
    answers = sum(name == "answer" for name, _ in blocks)
    if answers != 1:
        broken.add("two-answers" if answers else "no-answer")
    elif blocks[-1][0] != "answer":
        broken.add("text-after")
    turns: list[Turn] = []
    sound = not broken & {"unbalanced", "nested"}
    think: list[str] = []
    for name, content in blocks:
        if name == "think":
            think.append(content)
        if name not in ("search", "answer"):
            continue
        thought = "\n".join(each for each in think if each)
        think = []
        if name == "answer":
            turn = Turn(thought, None, None, content)
        else:
            model, query, wrong = _search(content, models)
            broken |= wrong
            sound = sound and not wrong
            turn = Turn(thought, Arm(model, strategy), query, None)
        if sound:
            turns.append(turn)
    return ParsedTrajectory(tuple(turns), tuple(rule for rule in ROUTER_R1_RULES if rule in broken))


def parse_reply(before: str, reply: str, arms: Sequence[Arm]) -> Parsed:
    """The search or answer that a reply adds to a trajectory, or the rules that the trajectory then breaks.

    `before` are the earlier replies, with the information between them. A trajectory that goes on may lack its answer.
    Besides the rules of the form there is `two-routes` of the project's own: a reply searches or answers once, for
    nothing can be inserted in the middle of it.
    """
    strategy = {arm.model: arm.strategy for arm in arms}
    so_far = parse_router_r1(before + reply, strategy)
    added = so_far.turns[len(parse_router_r1(before, strategy).turns) :]
    broken = [each for each in so_far.broken if each != "no-answer" or not added]
    if len(added) > 1:
        broken.append("two-routes")
    if broken:
        return Parsed(None, tuple(broken))
    (turn,) = added
    arm = None if turn.arm is None else Arm(turn.arm.model, strategy[turn.arm.model])
    return Parsed(turn._replace(arm=arm), ())


def render_search(turn: Turn) -> str:
    """The reply that says a turn with a thought that searches, which `parse_reply` gives back.

    Raises SettingsError where it does not, or the query or the model's name has a colon.
    """
    if turn.arm is None or not turn.think or not turn.query:
        raise SettingsError("a reply in Router-R1's form thinks, and asks a model something: give think, arm and query")
    if ":" in turn.arm.model + turn.query:
        raise SettingsError(f"Router-R1's form has one colon, after the model: {turn.arm.model}: {turn.query[:60]}")
    return f"<think> {turn.think} </think>\n<search> {turn.arm.model}: {turn.query} </search>"


def require_one_strategy(arms: Sequence[Arm]) -> None:
    """Raises SettingsError where Router-R1's form cannot say which arm is meant: a search names a model alone."""
    models = [arm.model for arm in arms]
    several = next((model for model in models if models.count(model) > 1), None)
    if several is not None:
        raise SettingsError(
            f"form=router-r1 names no strategies, and {several} has several: take form=recal, or outcomes of one "
            "strategy a model"
        )


def list_price_cost(tokens_C: Sequence[int], price_C: Sequence[float]) -> float:
    """What the calls of a trajectory cost in Router-R1's unit: completion tokens x list price (USD per 1M), summed."""
    return float(sum(tokens * price for tokens, price in zip(tokens_C, price_C, strict=True)))


def router_r1_rewards(
    trajectory_Q: Sequence[ParsedTrajectory],
    gold_Q: Sequence[Sequence[str]],
    cost_Q: FloatQ,
    buffer_N: Any,
    alpha: float,
    metric: Callable[[str, Sequence[str]], float] = exact_match,
) -> tuple[FloatQ, Any]:
    """The rewards of a batch of trajectories, and the buffer with their costs in it: `calibration.router_r1_reward`.

    `cost_Q` are those of `list_price_cost`; `metric(answer, golds)` is exact match, or `scoring.f1` for Router-R1's F1
    mode.
    """
    well_formed_Q = np.array([not each.broken for each in trajectory_Q], dtype=bool)
    pairs = zip(trajectory_Q, gold_Q, strict=True)
    score_Q = np.array([metric(each.answer or "", golds) for each, golds in pairs], dtype=float)
    reward_Q1, buffer_N = router_r1_reward(
        well_formed_Q[:, None], score_Q[:, None], np.asarray(cost_Q, dtype=float)[:, None], buffer_N, alpha
    )
    return reward_Q1[:, 0], buffer_N


def _search(content: str, models: Collection[str]) -> tuple[str, str, set[str]]:
    if content.count(":") != 1:
        return "", "", {"search-form"}
    model, query = (part.strip() for part in content.split(":"))
    broken = set() if model in models else {"unknown-model"}
    return model, query, broken if query else broken | {"empty-query"}
