"""The plain baselines and those that learn from the text hold to what the routers from the literature do."""

from typing import Any

import literature_properties as literature
import pytest
from test_baselines import LEARNING, cache  # noqa: F401

OF_A_CHOICE = (
    literature.the_utility_is_optimised_not_the_score,
    literature.arms_that_tie_share_a_label,
    literature.where_nothing_differs_the_cheaper_arm_is_chosen,
    literature.an_arm_without_any_train_outcome_comes_last,
    literature.an_unknown_cost_is_not_zero,
    literature.nothing_to_route_is_no_trouble,
    literature.train_without_any_outcome_is_refused,
)
OF_LEARNING = (literature.two_lucky_outcomes_are_not_enough, literature.settings_are_checked)


@pytest.mark.parametrize("holds", OF_A_CHOICE, ids=lambda holds: holds.__name__)
@pytest.mark.parametrize("name", ["best-single", *LEARNING])
def test_they_are_sound_routers(name: str, holds: Any) -> None:
    holds(name, {})


@pytest.mark.parametrize("holds", OF_LEARNING, ids=lambda holds: holds.__name__)
@pytest.mark.parametrize("name", LEARNING)
def test_what_learns_is_sound(name: str, holds: Any) -> None:
    holds(name, {})
