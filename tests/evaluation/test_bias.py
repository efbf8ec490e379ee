"""What an estimator follows: those without bias follow the utility, and both ways of finding it agree."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from recal_bench.calibration import ESTIMATORS, Calibration
from recal_bench.evaluation.bias import (
    Climb,
    Groups,
    Law,
    MarginTable,
    Rule,
    climb,
    draw_groups,
    expected_advantages,
    margin_table,
    margins,
    mixed_groups,
    optima,
)
from recal_bench.simulation import embedded_outcomes, embedded_questions

ALPHA = 0.2
RULES = {name: Rule(name, Calibration()) for name in ESTIMATORS} | {
    "recal-plain": Rule("recal", Calibration(keep_utility=False)),
    "recal-no-components": Rule("recal", Calibration(components=False)),
    "recal-no-floor": Rule("recal", Calibration(floor=0.0)),
    "recal-unbiased": Rule("recal", Calibration(standardise=False, reweighting=False)),
}
WITHOUT_BIAS = ("reinforce", "reinforce-pp", "rloo", "dr-grpo", "lite-ppo", "expected", "popart", "recal-unbiased")
# A is right with .75 at cost .55, B with .70 at .50: the utilities differ by .04.
TWO = Law.independent([0.75, 0.70], [0.55, 0.50])


@cache
def benchmark() -> Any:
    path = Path(__file__).parents[2] / "benchmarks" / "bias.py"
    spec = importlib.util.spec_from_file_location("bias_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def utility_A(law: Law, alpha: float = ALPHA) -> np.ndarray:
    return np.asarray(law.probability_N @ (law.score_NA - alpha * law.cost_NA))


def around_of(law: Law, group_size: int) -> Groups:
    """Mixed groups of every pair of arms, each case of the law as often as due."""
    n_arms = law.score_NA.shape[1]
    case_N = np.repeat(np.arange(len(law.probability_N)), np.rint(200 * law.probability_N).astype(int))
    pairs = [(a, b) for a in range(n_arms) for b in range(n_arms) if a != b]
    parts = [
        mixed_groups(
            np.full(len(case_N), a), np.full(len(case_N), b), law.score_NA[case_N], law.cost_NA[case_N], group_size
        )
        for a, b in pairs
    ]
    return Groups(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def margins_of(rule: Rule, law: Law, group_size: int, alpha: float = ALPHA) -> np.ndarray:
    """Closed form, with costs that hardly vary; `[A, A]`."""
    table = margin_table(rule, alpha, around_of(law, group_size), reach=1.2)
    both_AA = np.einsum("n,na,nb->ab", law.probability_N, law.score_NA, law.score_NA)
    score_QA, cost_QA = (law.probability_N @ law.score_NA)[None], law.cost_NA[:1]
    return margins(table, score_QA, both_AA[None], cost_QA, np.full_like(cost_QA, 1e-3))[0]


@st.composite
def two_arm_laws(draw: st.DrawFn) -> Law:
    """Two arms whose scores may go together; fixed costs, on a grid."""
    weight_N = np.array([draw(st.integers(0, 20)) for _ in range(4)], dtype=float)
    assume(weight_N.sum() > 0)
    cost_A = np.array([draw(st.integers(1, 40)) for _ in range(2)]) / 40
    return Law(weight_N / weight_N.sum(), np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.tile(cost_A, (4, 1)))


@settings(deadline=None, max_examples=40)
@given(two_arm_laws(), st.sampled_from(WITHOUT_BIAS), st.sampled_from([0.03, 0.4, 0.9]), st.integers(2, 5))
def test_without_bias_the_arm_of_the_higher_utility_is_preferred(law: Law, name: str, share: float, size: int) -> None:
    gap = float(np.subtract(*utility_A(law)))
    assume(abs(gap) > 1e-3)
    value_A = expected_advantages(RULES[name], ALPHA, law, np.array([share, 1 - share]), size)
    assert (value_A[0] > value_A[1]) == (gap > 0)
    margin_AA = margins_of(RULES[name], law, size)
    assert (margin_AA[1, 0] > 0) == (gap > 0)
    assert (margin_AA[0, 1] > 0) == (gap < 0)


@settings(deadline=None, max_examples=20)
@given(two_arm_laws(), st.floats(0.05, 0.95), st.integers(2, 6))
def test_without_scales_the_difference_is_that_of_the_utilities(law: Law, share: float, size: int) -> None:
    for name, factor in (("dr-grpo", 1 - 1 / size), ("rloo", 1.0), ("expected", 1.0)):
        value_A = expected_advantages(RULES[name], ALPHA, law, np.array([share, 1 - share]), size)
        np.testing.assert_allclose(np.subtract(*value_A), factor * np.subtract(*utility_A(law)), atol=1e-9)


@pytest.mark.parametrize("name", RULES)
def test_near_a_vertex_the_closed_form_is_what_the_groups_say(name: str) -> None:
    law = Law.independent([0.75, 0.70], [0.55, 0.35])
    margin_AA = margins_of(RULES[name], law, 4)
    for resident, policy_A in ((0, [1 - 1e-4, 1e-4]), (1, [1e-4, 1 - 1e-4])):
        value_A = expected_advantages(RULES[name], ALPHA, law, np.array(policy_A), 4)
        gain = value_A[1 - resident] - value_A[resident]
        assert np.sign(gain) == np.sign(margin_AA[resident, 1 - resident])


def test_near_a_vertex_a_z_score_asks_only_which_reward_is_higher() -> None:
    # B is cheaper, so it has the higher reward unless A alone is right: .55 against .45 at fixed costs.
    law = Law(
        np.array([0.3, 0.05, 0.45, 0.2]), np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.tile([0.5, 0.4], (4, 1))
    )
    margin_AA = margins_of(RULES["grpo"], law, 16)
    np.testing.assert_allclose(margin_AA[0, 1], np.sqrt(15) * (0.55 - 0.45), rtol=2e-3)
    np.testing.assert_allclose(margin_AA[1, 0], -np.sqrt(15) * (0.55 - 0.45), rtol=2e-3)
    assert np.subtract(*utility_A(law)) > 0.35
    # DAPO drops the groups whose scores are all alike, and with them all that the cost decides.
    assert optima(margins_of(RULES["dapo"], law, 16)[None]).arm_Q[0] == 0


def test_the_two_armed_example() -> None:
    assert np.subtract(*utility_A(TWO)) == pytest.approx(0.04)
    prefers = {}
    for name, rule in RULES.items():
        value_SA = [expected_advantages(rule, ALPHA, TWO, np.array([p, 1 - p]), 16) for p in (0.999, 0.5, 0.001)]
        prefers[name] = "".join("A" if value_A[0] > value_A[1] else "B" for value_A in value_SA)
    by_utility = (*WITHOUT_BIAS, "dapo", "recal", "recal-no-floor", "recal-no-components")
    # DISCO counts the groups for more in which few are right, so it likes whichever arm is rare.
    wanted = {name: "AAA" if name in by_utility else "BAA" if name == "disco" else "BBB" for name in RULES}
    assert prefers == wanted


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["grpo", "recal", "dvao"]))
def test_costs_that_vary_are_integrated_exactly(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    table = margin_table(RULES[name], ALPHA, around_of(TWO, 8), reach=1.2)
    weight_N = rng.dirichlet(np.ones(4))
    cost_A, half_A = rng.uniform(0.2, 0.8, 2), rng.uniform(0.01, 0.2, 2)
    both_AA = np.array([[weight_N[2:].sum(), weight_N[3]], [weight_N[3], weight_N[1] + weight_N[3]]])
    found = margins(table, both_AA.diagonal()[None], both_AA[None], cost_A[None], half_A[None])[0, 0, 1]
    at = (np.arange(400) + 0.5) / 200 - 1
    difference = (cost_A[1] + half_A[1] * at)[:, None] - (cost_A[0] + half_A[0] * at)
    value_RI = table.value_RIC[:, :, np.floor((difference - table.low) / table.step).astype(int)].mean(axis=(2, 3))
    expected = weight_N @ value_RI.ravel()
    assert found == pytest.approx(expected, abs=0.02 * np.abs(table.value_RIC).max())


def test_several_or_no_stable_arms_are_told() -> None:
    # 0 beats 1 beats 2 beats 0; then an order; then two that nothing invades.
    cycle = [[0, -1, 2], [1, 0, -1], [-1, 3, 0]]
    order = [[0, -1, -1], [1, 0, -1], [1, 1, 0]]
    pair = [[0, -1, -1], [-2, 0, -2], [1, 1, 0]]
    arm_Q, stable_Q = optima(np.array([cycle, order, pair], dtype=float))
    assert arm_Q.tolist() == [1, 0, 1]
    assert stable_Q.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["dr-grpo", "grpo", "gdpo", "recal", "recal-plain"])
def test_where_the_exact_policy_comes_to_is_what_the_vertices_say(name: str) -> None:
    law = Law.independent([0.75, 0.70, 0.20], [0.55, 0.45, 0.10])
    arm_Q, stable_Q = optima(margins_of(RULES[name], law, 4)[None])
    assert stable_Q[0] == 1
    logit_A = np.zeros(3)
    for _ in range(50):
        value_A = expected_advantages(RULES[name], ALPHA, law, softmax(logit_A), 4)
        step_A = value_A - value_A.max()
        logit_A = np.maximum(logit_A + 0.5 * step_A / np.abs(step_A).max(), -8)
    assert logit_A.argmax() == arm_Q[0]


def test_a_sampled_policy_comes_to_the_same() -> None:
    rng = np.random.default_rng(0)
    score_NQA = (rng.random((512, 2, 3)) < [0.6, 0.55, 0.4]).astype(float)
    cost_NQA = np.broadcast_to([0.5, 0.45, 0.05], score_NQA.shape)
    way = Climb(group_size=8, draws=16, steps=300, rate=0.1, explore=0.05)
    start_QA = np.zeros((2, 3))
    ends = {
        name: climb(RULES[name], ALPHA, score_NQA, cost_NQA, start_QA, way, 1)
        for name in ("expected", "dr-grpo", "grpo")
    }
    assert ends["expected"].argmax(axis=1).tolist() == [0, 0]
    assert ends["dr-grpo"].argmax(axis=1).tolist() == [0, 0]
    # The cheapest is right least often, and has the higher reward whenever both are right or both are wrong.
    assert ends["grpo"].argmax(axis=1).tolist() == [2, 2]
    again = climb(RULES["grpo"], ALPHA, score_NQA, cost_NQA, start_QA, way, 1)
    np.testing.assert_array_equal(again, ends["grpo"])


def test_groups_are_drawn_by_the_policy_with_one_outcome_an_arm() -> None:
    rng = np.random.default_rng(0)
    score_QA, cost_QA = rng.random((2000, 3)), rng.random((2000, 3))
    groups = draw_groups(np.tile([0.7, 0.3, 0.0], (2000, 1)), score_QA, cost_QA, 4, rng)
    np.testing.assert_allclose(np.bincount(groups.arm_QG.ravel(), minlength=3) / 8000, [0.7, 0.3, 0.0], atol=0.02)
    np.testing.assert_array_equal(groups.score_QG[:, 1], score_QA[np.arange(2000), groups.arm_QG[:, 1]])
    np.testing.assert_array_equal(groups.share_QG, np.full((2000, 4), 0.25))


def test_every_estimator_is_in_the_table() -> None:
    named = {rule.estimator for rule in benchmark().rules().values()}
    assert named == set(ESTIMATORS)


def test_the_law_of_two_arms_is_that_of_the_pool() -> None:
    questions = [each for each in embedded_questions(5, 1, 1, 8) if each.split == "test"]
    score_QA, both_QAA, half_QA = benchmark().pair_law(questions)
    outcomes = embedded_outcomes(5, 1, 1, 8).of_split("test")
    np.testing.assert_allclose(score_QA, outcomes.expected_score_QA, atol=1e-9)
    drawn_NQA, cost_NQA = benchmark().drawn(questions, 600, 100)
    found_QAA = np.einsum("nqa,nqb->qab", drawn_NQA, drawn_NQA) / 600
    error_QAA = np.sqrt(both_QAA * (1 - both_QAA) / 600)
    # Where both are hardly ever right, the count is no longer near normal.
    pair_QAA = np.triu(600 * both_QAA > 20, 1)
    standard_N = ((found_QAA - both_QAA) / error_QAA)[pair_QAA]
    assert len(standard_N) > 2000
    assert np.abs(standard_N).max() < 5
    # Pairs share arms, so their spread has few degrees of freedom.
    assert 0.8 < standard_N.std() < 1.2
    assert (np.abs(cost_NQA - outcomes.expected_cost_QA) <= half_QA + 1.2e-6).all()


def test_a_table_is_flat_between_its_breaks() -> None:
    table = margin_table(RULES["grpo"], ALPHA, around_of(TWO, 16), reach=1.0)
    assert isinstance(table, MarginTable)
    both_right_C = table.value_RIC[1, 1]
    half = len(both_right_C) // 2
    np.testing.assert_allclose(both_right_C[:half], np.sqrt(15), rtol=1e-2)
    np.testing.assert_allclose(both_right_C[half:], -np.sqrt(15), rtol=1e-2)
