"""RouterDC: two contrastive losses."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from literature_properties import properties, worth
from test_baselines import cache, fitted, part, with_gaps, world  # noqa: F401

from recal_bench.errors import RecalBenchError
from recal_bench.routers import Context, create

SMALL = {"hidden": 64, "learning_rate": 3e-3, "steps": 200}
"""Settings for a few hundred queries."""
LONGER = {"the_utility_is_optimised_not_the_score": {"steps": 400}}
"""What takes more of them to learn."""
NAN = np.nan


def module() -> Any:
    return sys.modules[type(create("routerdc")).__module__]


@properties
def test_routerdc_is_a_sound_router(holds: Any) -> None:
    holds("routerdc", SMALL | LONGER.get(holds.__name__, {}))


def test_it_beats_the_best_single_arm() -> None:
    assert worth("routerdc", world(), **SMALL) > worth("best-single", world()) + 0.15


def test_and_still_does_where_half_of_the_outcomes_are_missing() -> None:
    outcomes = with_gaps(world(600), 0.5)
    assert worth("routerdc", outcomes, **SMALL) > worth("best-single", outcomes) + 0.1


def test_without_the_sample_sample_loss_it_still_learns() -> None:
    assert worth("routerdc", world(), **SMALL, sample_weight=0.0) > worth("best-single", world()) + 0.1


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([3.0, 1.0, 2.0, 0.0], 0.5, [1, 0, 1, 0]),
        ([1.0, 1.0, 1.0, 0.0], 0.5, [2 / 3, 2 / 3, 2 / 3, 0]),
        ([1.0, 0.0, 0.0, 0.0], 0.5, [1, 1 / 3, 1 / 3, 1 / 3]),
        ([5.0, NAN, 4.0, NAN], 0.5, [1, 0, 0, 0]),
        ([NAN, NAN, NAN, NAN], 0.5, [0, 0, 0, 0]),
        ([3.0, 1.0, 2.0, 0.0], 0.01, [1, 0, 0, 0]),
    ],
)
def test_arms_that_tie_share_their_places(values: list[float], share: float, expected: list[float]) -> None:
    np.testing.assert_allclose(module().places(np.array([values]), share), [expected])


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, NAN]), min_size=1, max_size=9), st.floats(0.05, 1.0))
@settings(max_examples=50)
def test_as_many_places_are_given_as_there_are(values: list[float], share: float) -> None:
    value_QA = np.array([values])
    places_A, known = module().places(value_QA, share)[0], int((~np.isnan(value_QA)).sum())
    assert places_A.sum() == pytest.approx(min(max(np.round(share * known), 1), known))
    np.testing.assert_allclose(module().places(value_QA[:, ::-1], share)[0], places_A[::-1])


def loss(similarities: list[float], utilities: list[float], positives: list[float], negatives: list[float]) -> float:
    rows = [torch.tensor([row], dtype=torch.float64) for row in (similarities, utilities, positives, negatives)]
    return float(module().sample_llm_loss(*rows))


def test_on_right_and_wrong_the_loss_is_the_papers() -> None:
    # Arms 0 and 1 are right, 2 and 3 wrong: each of the right ones against both wrong ones.
    similarities = np.array([0.9, -0.2, 0.4, 0.1])
    wrong = np.exp(similarities[2:]).sum()
    expected = sum(-np.log(np.exp(s) / (np.exp(s) + wrong)) for s in similarities[:2])
    assert loss(list(similarities), [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]) == pytest.approx(expected)


def test_an_arm_is_no_negative_of_one_that_is_no_better() -> None:
    assert loss([0.9, -0.2, 0.4], [0, 0, 0], [1, 1, 1], [1, 1, 1]) == 0
    assert loss([0.5, 0.1], [1, 0], [0, 1], [1, 0]) == 0


def test_a_pull_is_as_strong_as_what_it_is_worth() -> None:
    assert loss([0.5, 0.1], [0.03, 0.0], [1, 0], [0, 1]) == pytest.approx(0.03 * np.log1p(np.exp(-0.4)))


def test_an_arm_that_never_differed_is_not_trusted() -> None:
    utility_QA = np.array([[1, 0, NAN]] * 20 + [[0.5, 0.5, 0.5]] * 50)
    np.testing.assert_allclose(module().trust(utility_QA), [0.5, 0.5, 0.0])


def test_it_logs_its_steps_and_needs_a_validation_split() -> None:
    outcomes, lines = world(60), []
    context = Context(0, "cpu", Path(), lines.append)
    create("routerdc", {"steps": 120}).fit(part(outcomes, "train"), part(outcomes, "validation"), context)
    assert [line["step"] for line in lines] == [50, 100, 120]
    assert all(line["train_loss"] > 0 and -0.2 <= line["validation_utility"] <= 1 for line in lines)
    with pytest.raises(RecalBenchError, match="no arm has any outcome on validation"):
        fitted("routerdc", outcomes.take(outcomes.split_Q != "validation"))
