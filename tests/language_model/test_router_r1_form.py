"""Router-R1's form of a trajectory, and its reward on trajectories written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recal_bench.calibration.components import Drawn
from recal_bench.calibration.rewards import REWARDS, Terms
from recal_bench.language_model.protocol import ParsedTrajectory, Turn
from recal_bench.language_model.router_r1 import (
    ROUTER_R1_RULES,
    list_price_cost,
    parse_router_r1,
    router_r1_rewards,
)
from recal_bench.outcomes import Arm
from recal_bench.scoring import f1

MODELS = {"Llama-70B": 0.88, "Qwen-7B": 0.30}
RIGHT = (
    "<think> I am not sure. </think>\n<search> Qwen-7B:Who wrote it? </search>\n"
    "<information> Ann Lee </information>\n<think>  </think><search>Llama-70B: Was it Ann Lee?</search>"
    "<information> <b>Yes</b> </information><think> She did. </think> <answer> Ann Lee </answer>\n"
)


def says(text: str) -> ParsedTrajectory:
    return parse_router_r1(text, MODELS)


def test_a_trajectory_is_its_searches_and_its_answer() -> None:
    assert says(RIGHT) == (
        (
            Turn("I am not sure.", Arm("Qwen-7B", "direct"), "Who wrote it?", None),
            Turn("", Arm("Llama-70B", "direct"), "Was it Ann Lee?", None),
            Turn("She did.", None, None, "Ann Lee"),
        ),
        (),
    )
    assert says(RIGHT).answer == "Ann Lee"


@pytest.mark.parametrize(
    ("text", "broken", "turns"),
    [
        (RIGHT.partition("<think> She")[0], "no-answer", 2),
        (RIGHT + RIGHT, "two-answers", 6),
        (RIGHT + "That is all.", "text-after", 3),
        ("Well. " + RIGHT, "think-missing", 3),
        (RIGHT.replace("</search>\n", ""), "unbalanced nested no-answer", 0),
        (RIGHT.replace(" I am not sure. ", "<search> Qwen-7B:a </search>"), "nested", 0),
        (RIGHT.replace("I am not sure.", "").replace("She did.", ""), "think-empty", 3),
        (RIGHT.replace("Was it", "Was it: really"), "search-form", 1),
        (RIGHT.replace("Llama-70B:", "Llama-70B"), "search-form", 1),
        (RIGHT.replace("Llama-70B:", "GPT:"), "unknown-model", 1),
        (RIGHT.replace("Who wrote it?", " "), "empty-query", 0),
        ("", "think-missing no-answer", 0),
    ],
)
def test_each_rule(text: str, broken: str, turns: int) -> None:
    parsed = says(text)
    assert (" ".join(parsed.broken), len(parsed.turns)) == (broken, turns)
    assert parsed.answer is None


def test_the_rules_are_those_of_the_table() -> None:
    assert len(ROUTER_R1_RULES) == 10


def test_its_reward_by_hand() -> None:
    """With alpha = .2: malformed -1 even where the answer is right, well-formed and wrong 0, else .8 + .2 c.

    The square roots of the costs of the well-formed ones are 1 to 5; their quantiles .05 and .95 are 1.2 and 4.8.
    """
    wrong = RIGHT.replace("<answer> Ann Lee", "<answer> Bob Roe")
    texts = [RIGHT, RIGHT, wrong, RIGHT.replace("Ann Lee </answer>", "The ann lee. </answer>"), RIGHT, RIGHT + "!"]
    trajectory_Q = [says(text) for text in texts]
    cost_Q = np.array([1.0, 4.0, 9.0, 16.0, 25.0, 1e6])
    golds_Q = [["Lee", "Ann Lee"]] * 6
    reward_Q, buffer_N = router_r1_rewards(trajectory_Q, golds_Q, cost_Q, np.zeros(0), alpha=0.2)
    cheapness = [1.0, 1 - 0.8 / 3.6, 1 - 2.8 / 3.6, 0.0]
    expected = [0.8 + 0.2 * each for each in cheapness]
    np.testing.assert_allclose(reward_Q, [expected[0], expected[1], 0.0, expected[2], expected[3], -1.0])
    np.testing.assert_array_equal(buffer_N, [1, 2, 3, 4, 5])

    well_formed_Q, score_Q = np.array([1, 1, 1, 1, 1, 0]) > 0, np.array([1.0, 1, 0, 1, 1, 1])
    drawn = Drawn(well_formed_Q[None, None], score_Q[None, None], cost_Q[None, None], {})
    registered, _ = REWARDS["router-r1"](Terms(alpha=0.2, has_cost=True))(drawn, [np.zeros(0)])
    np.testing.assert_array_equal(registered[0, 0, :, 0], reward_Q)


def test_alone_it_is_neither_cheap_nor_dear_and_f1_gives_part_of_the_score() -> None:
    half = says(RIGHT.replace("<answer> Ann Lee", "<answer> Ann Roe"))
    reward_Q, _ = router_r1_rewards([half], ["Ann Lee"], np.ones(1), np.zeros(0), alpha=0.4, metric=f1)
    np.testing.assert_allclose(reward_Q, [0.6 * 0.5 + 0.4 * 0.5])
    reward_Q, _ = router_r1_rewards([half], ["Ann Lee"], np.ones(1), np.zeros(0), alpha=0.4)
    np.testing.assert_array_equal(reward_Q, [0.0])


def test_a_cost_is_completion_tokens_times_list_prices() -> None:
    assert list_price_cost([100, 50], [0.30, 0.88]) == pytest.approx(74.0)
    assert list_price_cost([], []) == 0.0
