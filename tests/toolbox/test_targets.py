"""What an arm is taken to be worth before any text is read."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from test_baselines import with_gaps, without_cost, world

from recal_bench.evaluation.references import arm_effects
from recal_bench.outcomes import Outcomes
from recal_bench.toolbox.targets import PRIOR_COUNT, typical_values

RATES = st.lists(st.floats(0.05, 0.95), min_size=2, max_size=4)


def scored(rates: list[float], seed: int, queries: int = 300) -> Outcomes:
    """Arms that are right at these rates, on queries of one task."""
    outcomes = without_cost(world(queries, seed)).take_arms(np.arange(len(rates)))
    score_QA = (np.random.default_rng(seed).random((queries, len(rates))) < rates).astype(float)
    return replace(outcomes, score_QA=score_QA, task_Q=np.full(queries, "one", dtype=object))


@given(RATES, st.integers(0, 99))
def test_where_no_outcome_is_missing_arms_are_drawn_towards_their_plain_mean(rates: list[float], seed: int) -> None:
    outcomes = scored(rates, seed)
    mean_A = outcomes.score_QA.mean(axis=0)
    expected_A = mean_A.mean() + 300 / (300 + PRIOR_COUNT) * (mean_A - mean_A.mean())
    np.testing.assert_array_equal(typical_values(outcomes.score_QA, outcomes, np.min, PRIOR_COUNT), expected_A)


@given(RATES, st.integers(0, 99))
def test_two_lucky_outcomes_move_an_arm_little_beside_arms_with_hundreds(rates: list[float], seed: int) -> None:
    outcomes = scored([*rates[:3], 1.0], seed)
    # Nobody else is right on the two queries: what the lucky arm has ahead of the others there is all that there is.
    outcomes.score_QA[:2, :-1], outcomes.score_QA[2:, -1] = 0.0, np.nan
    *others, lucky = typical_values(outcomes.score_QA, outcomes, np.min, PRIOR_COUNT)
    ahead = typical_values(outcomes.score_QA, outcomes, np.min)[-1] - np.mean(others)
    # 2 / 22 by its own outcomes, and little more by its part in the average arm; alike weighed it would be up to 0.4.
    assert 2 / 22 < (lucky - np.mean(others)) / ahead < 0.15


@given(st.integers(0, 99), st.floats(0.1, 0.8))
def test_without_a_prior_nothing_is_drawn_anywhere(seed: int, share: float) -> None:
    outcomes = with_gaps(scored([0.2, 0.5, 0.8], seed), share, seed)
    level_A = arm_effects(outcomes.score_QA, outcomes.task_Q)
    np.testing.assert_allclose(typical_values(outcomes.score_QA, outcomes, np.min), level_A, rtol=1e-12)
