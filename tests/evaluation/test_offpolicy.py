"""Estimates of a policy's value from a log of single choices, against the truth of full tables."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recal_bench.errors import RecalBenchError
from recal_bench.evaluation.metrics import macro_mean, task_means
from recal_bench.evaluation.offpolicy import Log, overlap, refusal, row_values, value, weights
from recal_bench.evaluation.statistics import crossed_interval

ESTIMATORS = {"ips": (False, False), "snips": (False, True), "dr": (True, False), "sn-dr": (True, True)}
"""Whether each reads predictions, and whether it is self-normalised."""
REPETITIONS = 300


class Table(NamedTuple):
    """What every arm would give on every query, who logs it, and what a model expects."""

    task_Q: np.ndarray
    reward_QA: np.ndarray
    propensity_QA: np.ndarray
    predicted_QA: np.ndarray
    chosen_Q: np.ndarray

    @property
    def truth(self) -> float:
        return float(macro_mean(self.reward_QA[np.arange(len(self.task_Q)), self.chosen_Q], self.task_Q))

    def logged(self, rng: np.random.Generator) -> Log:
        drawn_Q1 = rng.random((len(self.task_Q), 1))
        arm_Q = np.minimum((self.propensity_QA.cumsum(axis=1) <= drawn_Q1).sum(axis=1), self.reward_QA.shape[1] - 1)
        rows = np.arange(len(arm_Q))
        return Log(self.reward_QA[rows, arm_Q], self.propensity_QA[rows, arm_Q], arm_Q, self.task_Q)


def table(rng: np.random.Generator, queries: int = 420, arms: int = 4) -> Table:
    """Binary rewards; a softmax policy that reads something of the query logs, the evaluated one reads something else.

    The tasks have 1/6, 2/6 and 3/6 of the queries. Rewards are right with a probability of mean 0.5 + 0.1 * task.
    """
    task_Q = np.repeat(["a", "b", "c"], (queries // 6, queries // 3, queries // 2)).astype(object)
    level_Q1 = (0.5 + 0.1 * np.unique(task_Q, return_inverse=True)[1])[:, None]
    chance_QA = np.clip(level_Q1 + rng.uniform(-0.3, 0.3, (len(task_Q), arms)), 0.0, 1.0)
    propensity_QA = np.exp(rng.normal(0, 0.7, chance_QA.shape))
    return Table(
        task_Q=task_Q,
        reward_QA=(rng.random(chance_QA.shape) < chance_QA).astype(float),
        propensity_QA=propensity_QA / propensity_QA.sum(axis=1, keepdims=True),
        predicted_QA=chance_QA + rng.normal(0.1, 0.2, chance_QA.shape),
        chosen_Q=(chance_QA + rng.normal(0, 0.2, chance_QA.shape)).argmax(axis=1),
    )


def values_of(name: str, log: Log, policy: np.ndarray, predicted_QA: np.ndarray) -> np.ndarray:
    predicts, self_normalised = ESTIMATORS[name]
    return row_values(log, policy, predicted_QA if predicts else None, self_normalised)


def as_probabilities(chosen_Q: np.ndarray, arms: int) -> np.ndarray:
    return np.eye(arms)[chosen_Q]


# Against the truth, by simulation


@pytest.mark.parametrize("name", ESTIMATORS)
def test_without_bias_over_what_could_have_been_logged(name: str) -> None:
    rng = np.random.default_rng(0)
    full = table(rng)
    found = [
        macro_mean(values_of(name, log, full.chosen_Q, full.predicted_QA), full.task_Q)
        for log in (full.logged(rng) for _ in range(REPETITIONS))
    ]
    error = np.std(found) / np.sqrt(REPETITIONS)
    assert abs(np.mean(found) - full.truth) < 3 * error + (0.005 if ESTIMATORS[name][1] else 0.0)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_95_percent_of_the_intervals_hold_the_truth(name: str) -> None:
    rng = np.random.default_rng(1)
    # The expected reward of the chosen arms, over all queries there could be.
    endless = [table(rng, 60_000) for _ in range(3)]
    truth = np.mean([full.truth for full in endless])
    held = 0
    for _ in range(REPETITIONS):
        full = table(rng)
        found = value(values_of(name, full.logged(rng), full.chosen_Q, full.predicted_QA), full.task_Q)
        held += found.low <= truth <= found.high
    assert abs(held / REPETITIONS - 0.95) < 3 * np.sqrt(0.95 * 0.05 / REPETITIONS)


def test_good_predictions_narrow_the_interval_and_bad_ones_do_no_harm_to_the_estimate() -> None:
    rng = np.random.default_rng(2)
    full = table(rng, 6_000)
    log = full.logged(rng)
    ips, good, bad = (
        value(row_values(log, full.chosen_Q, predicted_QA), full.task_Q)
        for predicted_QA in (None, full.predicted_QA, -3.0 * np.ones_like(full.reward_QA))
    )
    assert good.error < ips.error < bad.error
    assert bad.low < full.truth < bad.high


# Exact cases


@pytest.mark.parametrize("self_normalised", [False, True])
def test_perfect_predictions_leave_no_luck_of_the_log(self_normalised: bool) -> None:
    rng = np.random.default_rng(3)
    full = table(rng)
    for _ in range(3):
        value_N = row_values(full.logged(rng), full.chosen_Q, full.reward_QA, self_normalised)
        assert macro_mean(value_N, full.task_Q) == pytest.approx(full.truth)
        np.testing.assert_allclose(value_N, full.reward_QA[np.arange(420), full.chosen_Q], atol=1e-12)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_logging_policy_itself_is_replayed(name: str) -> None:
    # A log in which nothing was left to chance: every estimator is the plain macro mean, with its plain interval.
    rng = np.random.default_rng(4)
    full = table(rng)
    log = full.logged(rng)._replace(propensity_N=np.ones(420))
    found = value(values_of(name, log, log.logged_arm_N, full.predicted_QA), full.task_Q)
    assert found == pytest.approx(crossed_interval([log.reward_N[None]], full.task_Q))
    assert found.estimate == pytest.approx(macro_mean(log.reward_N, full.task_Q))


def test_a_case_by_hand() -> None:
    log = Log(
        reward_N=np.array([1.0, 0.0, 1.0, 0.5]),
        propensity_N=np.array([0.5, 0.25, 0.5, 1.0]),
        logged_arm_N=np.array([0, 1, 1, 0]),
        task_N=np.array(["a", "a", "a", "b"], dtype=object),
    )
    chosen_N, predicted_NA = np.array([0, 1, 0, 0]), np.array([[0.5, 0.0], [0.0, 0.5], [0.8, 0.0], [0.5, 0.0]])
    np.testing.assert_allclose(weights(log, chosen_N), [2, 4, 0, 1])
    np.testing.assert_allclose(row_values(log, chosen_N), [2, 0, 0, 0.5])
    np.testing.assert_allclose(row_values(log, chosen_N, predicted_NA), [0.5 + 2 * 0.5, 0.5 + 4 * -0.5, 0.8, 0.5])
    snips_N = row_values(log, chosen_N, self_normalised=True)
    np.testing.assert_allclose(task_means(snips_N, log.task_N), [2 / 6, 0.5])
    sn_dr_N = row_values(log, chosen_N, predicted_NA, self_normalised=True)
    np.testing.assert_allclose(task_means(sn_dr_N, log.task_N), [1.8 / 3 + (2 * 0.5 - 4 * 0.5) / 6, 0.5])
    found = overlap(log, chosen_N)
    assert found.tasks == ("a", "b")
    assert found.rows_T.tolist() == [3, 1]
    np.testing.assert_allclose(found.ess_T, [36 / 20, 1])
    assert found.ess == pytest.approx(4 / (20 / 36 + 1))
    assert found.all_rows == pytest.approx(4 / (1 / 3 + 1))
    assert (found.matched, found.unlogged) == (0.75, 0.0)
    assert found.mean_weight.estimate == pytest.approx((2 + 1) / 2)


def test_the_standard_error_of_a_ratio_is_that_of_the_delta_method() -> None:
    rng = np.random.default_rng(5)
    full = table(rng, 60_000)
    log = full.logged(rng)
    weight_N = weights(log, full.chosen_Q)
    variances = []
    for task in ("a", "b", "c"):
        w_N, r_N = weight_N[full.task_Q == task], log.reward_N[full.task_Q == task]
        ratio = (w_N * r_N).sum() / w_N.sum()
        variances.append((w_N**2 * (r_N - ratio) ** 2).sum() / w_N.sum() ** 2)
    found = value(row_values(log, full.chosen_Q, self_normalised=True), full.task_Q)
    assert found.error == pytest.approx(np.sqrt(np.sum(variances) / 9), rel=0.005)


def test_few_matching_rows_do_not_look_too_certain() -> None:
    # Uniform logging: what matches is a plain sample of 4, whose standard error is taken a little larger, as by HC3.
    log = Log(np.array([1.0, 0, 1, 1, 0, 0, 0, 0, 0, 0]), np.full(10, 0.5), np.zeros(10, dtype=int), np.full(10, "a"))
    chosen_N = np.array([0] * 4 + [1] * 6)
    found = value(row_values(log, chosen_N, self_normalised=True), log.task_N)
    assert found.estimate == pytest.approx(0.75)
    plain = np.std([1, 0, 1, 1], ddof=1) / 2
    assert found.error == pytest.approx(plain * np.sqrt(4 / 3 * 9 / 10))


def test_two_policies_on_one_log_are_paired_by_row() -> None:
    rng = np.random.default_rng(6)
    full = table(rng)
    log, other_Q = full.logged(rng), full.chosen_Q.copy()
    other_Q[::50] = (other_Q[::50] + 1) % 4
    first_N, second_N = row_values(log, full.chosen_Q), row_values(log, other_Q)
    difference = value(first_N - second_N, full.task_Q)
    assert difference.estimate == pytest.approx(
        value(first_N, full.task_Q).estimate - value(second_N, full.task_Q).estimate
    )
    assert difference.error < value(first_N, full.task_Q).error / 2


# Properties


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.1, 10), st.floats(-5, 5), st.sampled_from(sorted(ESTIMATORS)))
def test_estimates_follow_the_unit_and_where_they_can_the_origin(
    seed: int, scale: float, shift: float, name: str
) -> None:
    rng = np.random.default_rng(seed)
    full = table(rng, 120)
    log = full.logged(rng)
    first = value(values_of(name, log, full.chosen_Q, full.predicted_QA), full.task_Q)
    scaled = log._replace(reward_N=scale * log.reward_N)
    again = value(values_of(name, scaled, full.chosen_Q, scale * full.predicted_QA), full.task_Q)
    assert again[:3] == pytest.approx([scale * bound for bound in first[:3]])
    moved = log._replace(reward_N=log.reward_N + shift)
    again = value(values_of(name, moved, full.chosen_Q, full.predicted_QA + shift), full.task_Q)
    if name == "ips":
        mean_weight = macro_mean(weights(log, full.chosen_Q), full.task_Q)
        assert again.estimate == pytest.approx(first.estimate + shift * mean_weight)
    else:
        assert again[:3] == pytest.approx([bound + shift for bound in first[:3]])


@settings(max_examples=40)
@given(
    st.integers(0, 10_000),
    st.integers(1, 60),
    st.integers(1, 6),
    st.integers(1, 5),
    st.sampled_from(sorted(ESTIMATORS)),
)
def test_any_shape_works_and_a_choice_is_a_probability_of_one(
    seed: int, rows: int, arms: int, tasks: int, name: str
) -> None:
    rng = np.random.default_rng(seed)
    propensity_NA = rng.dirichlet(np.ones(arms), rows)
    logged_N, task_N = rng.integers(arms, size=rows), rng.integers(tasks, size=rows).astype(str).astype(object)
    log = Log(rng.normal(size=rows), propensity_NA[np.arange(rows), logged_N].clip(1e-3), logged_N, task_N)
    chosen_N, predicted_NA = rng.integers(arms, size=rows), rng.normal(size=(rows, arms))
    value_N = values_of(name, log, chosen_N, predicted_NA)
    assert value_N.shape == (rows,)
    np.testing.assert_allclose(values_of(name, log, as_probabilities(chosen_N, arms), predicted_NA), value_N)
    found, same = overlap(log, chosen_N), overlap(log, as_probabilities(chosen_N, arms))
    np.testing.assert_allclose(same.ess_T, found.ess_T)
    assert (same.matched, same.unlogged) == (found.matched, found.unlogged)
    assert -1e-9 <= found.ess <= found.all_rows + 1e-9 <= rows + 2e-9
    assert (found.ess_T <= found.rows_T + 1e-9).all()
    estimate = value(value_N, task_N).estimate
    order_N = rng.permutation(rows)
    shuffled = Log(*(column[order_N] for column in log))
    again = value(values_of(name, shuffled, chosen_N[order_N], predicted_NA[order_N]), shuffled.task_N).estimate
    assert again == pytest.approx(estimate, nan_ok=True)
    assert np.isnan(estimate) <= ESTIMATORS[name][1], "only a ratio can be unknown"
    refusal(found)


# Overlap


def uniform_log(rng: np.random.Generator, rows: int, arms: int, tasks: int = 3) -> Log:
    task_N = np.array([f"t{row % tasks}" for row in range(rows)], dtype=object)
    return Log(rng.random(rows), np.full(rows, 1 / arms), rng.integers(arms, size=rows), task_N)


def test_enough_overlap_is_not_refused() -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        full = table(rng, 900)
        assert refusal(overlap(full.logged(rng), full.chosen_Q)) is None
    log = uniform_log(rng, 600, 4)
    assert refusal(overlap(log, rng.integers(4, size=600))) is None
    assert refusal(overlap(log, np.full((600, 4), 0.25))) is None


def test_a_log_of_the_policy_itself_is_never_refused() -> None:
    log = uniform_log(np.random.default_rng(8), 7, 4)._replace(propensity_N=np.ones(7))
    assert refusal(overlap(log, log.logged_arm_N)) is None


def test_too_little_overlap_is_refused_with_the_reason() -> None:
    rng = np.random.default_rng(9)
    log = uniform_log(rng, 600, 4)
    unlogged = overlap(log, np.where(np.arange(600) < 90, 7, log.logged_arm_N))
    assert unlogged.unlogged == pytest.approx(0.15)
    assert "15.0% of the policy's choices go to arms that the log never holds" in str(refusal(unlogged))

    elsewhere_N = np.where(log.task_N == "t1", (log.logged_arm_N + 1) % 4, log.logged_arm_N)
    assert "task t1 has 0.0 effective rows" in str(refusal(overlap(log, elsewhere_N)))
    assert np.isnan(value(row_values(log, elsewhere_N, self_normalised=True), log.task_N).estimate)

    one_task = uniform_log(rng, 60, 4, tasks=1)
    rarely_N = np.where(np.arange(60) < 20, one_task.logged_arm_N, (one_task.logged_arm_N + 1) % 4)
    assert "20.0 effective rows of 60 speak of this policy, and 30.0 are needed" in str(
        refusal(overlap(one_task, rarely_N))
    )

    few = uniform_log(rng, 10_000, 4, tasks=1)._replace(propensity_N=np.full(10_000, 0.004))
    rarely_N = np.where(np.arange(10_000) < 40, few.logged_arm_N, (few.logged_arm_N + 1) % 4)
    assert "40.0 effective rows of 10,000 speak of this policy, and 100.0 are needed" in str(
        refusal(overlap(few, rarely_N))
    )

    wrong = log._replace(propensity_N=np.full(600, 0.5))
    assert "the weights are 0.5" in str(refusal(overlap(wrong, rng.integers(4, size=600))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"propensity_N": np.array([0.5, 0.0, 0.5])}, "propensities must be above 0"),
        ({"propensity_N": np.array([0.5, 1.5, 0.5])}, "propensities must be above 0"),
        ({"propensity_N": np.array([0.5, np.nan, 0.5])}, "propensities must be above 0"),
        ({"reward_N": np.array([0.5, np.nan, 0.5])}, "rewards that are not known"),
        ({"reward_N": np.array([0.5, 0.5])}, "need an entry a row"),
        ({"logged_arm_N": np.array([0, 1, -1])}, "name arms by their index"),
        ({"policy": np.array([0, 1])}, "need an entry a row"),
        ({"policy": np.array([0.0, 1.0, 1.0])}, "name arms by their index"),
        ({"policy": np.array([0, 1, -1])}, "name arms by their index"),
        ({"policy": np.array([[0.5, 0.4], [1, 0], [1, 0]])}, "sum up to 1"),
        ({"policy": np.array([[1.5, -0.5], [1, 0], [1, 0]])}, "sum up to 1"),
        ({"policy": np.ones((3, 1))}, "the policy has no probability for"),
        ({"predicted_NA": np.zeros((3, 1))}, "predictions for 1 arms"),
        ({"predicted_NA": np.zeros((2, 2))}, "must be finite, one for each of 3 rows"),
        ({"predicted_NA": np.full((3, 2), np.nan)}, "must be finite, one for each of 3 rows"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(change: dict[str, np.ndarray], message: str) -> None:
    log = Log(np.ones(3), np.full(3, 0.5), np.array([0, 1, 0]), np.array(["a", "a", "b"], dtype=object))
    log = log._replace(**{name: array for name, array in change.items() if name in Log._fields})
    with pytest.raises(RecalBenchError, match=message):
        row_values(log, change.get("policy", np.array([0, 1, 1])), change.get("predicted_NA"))


def test_an_empty_log_is_refused() -> None:
    nothing = Log(np.zeros(0), np.zeros(0), np.zeros(0, dtype=int), np.zeros(0, dtype=object))
    with pytest.raises(RecalBenchError, match="no rows"):
        overlap(nothing, np.zeros(0, dtype=int))
