"""The crossed interval, Holm's adjustment, the probability of improvement."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recal_bench.errors import RecalBenchError
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.evaluation.statistics import crossed_interval, holm, improvement, mde, p_improvement

TASK_Q = np.repeat(["a", "b", "c"], (10, 25, 40)).astype(object)


def sample(seed, n_seeds, seed_sd=0.1, query_sd=0.3, noise=0.2):
    rng = np.random.default_rng(seed)
    of_seed_S1 = rng.normal(0, seed_sd, (n_seeds, 1)) + 0.05
    return of_seed_S1 + rng.normal(0, query_sd, len(TASK_Q)) + rng.normal(0, noise, (n_seeds, len(TASK_Q)))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 9999), n_seeds=st.integers(1, 6), shift=st.floats(-3, 3), scale=st.floats(0.1, 10))
def test_interval_moves_and_scales_with_the_values(seed, n_seeds, shift, scale):
    value_SQ = sample(seed, n_seeds)
    base, moved = crossed_interval([value_SQ], TASK_Q), crossed_interval([shift + scale * value_SQ], TASK_Q)
    assert moved[:3] == pytest.approx([shift + scale * bound for bound in base[:3]])
    assert moved.df == pytest.approx(base.df)
    assert base.estimate == pytest.approx(macro_mean(value_SQ, TASK_Q).mean())
    assert base.low < base.estimate < base.high


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 9999), n_seeds=st.integers(1, 6))
def test_interval_depends_neither_on_the_order_of_queries_nor_of_seeds(seed, n_seeds):
    value_SQ, rng = sample(seed, n_seeds), np.random.default_rng(seed)
    queries, seeds = rng.permutation(len(TASK_Q)), rng.permutation(n_seeds)
    shuffled = crossed_interval([value_SQ[np.ix_(seeds, queries)]], TASK_Q[queries])
    assert shuffled == pytest.approx(crossed_interval([value_SQ], TASK_Q))


def test_one_task_and_one_seed_is_the_paired_t_interval():
    value_Q = sample(3, 1)[0]
    found = crossed_interval([value_Q[None]], np.array(["a"] * len(value_Q), dtype=object))
    known = stats.ttest_1samp(value_Q, 0)
    low, high = known.confidence_interval(0.95)
    assert found == pytest.approx((value_Q.mean(), low, high, known.pvalue, len(value_Q) - 1))


def test_seeds_that_dominate_give_the_t_interval_of_their_macro_means():
    value_SQ = np.array([0.1, 0.4, 0.2, 0.6, 0.3])[:, None] + np.zeros(len(TASK_Q))
    found = crossed_interval([value_SQ], TASK_Q)
    known = stats.ttest_1samp(macro_mean(value_SQ, TASK_Q), 0)
    low, high = known.confidence_interval(0.95)
    assert found == pytest.approx((0.32, low, high, known.pvalue, 4))


def test_a_deterministic_baseline_is_broadcast_over_the_seeds():
    value_SQ, baseline_1Q = sample(1, 5), sample(2, 1)
    apart, broadcast = (
        crossed_interval([value_SQ, -baseline_1Q], TASK_Q),
        crossed_interval([value_SQ - baseline_1Q], TASK_Q),
    )
    assert apart == pytest.approx(broadcast)


def test_independent_seeds_add_their_variances():
    one_SQ, other_SQ = sample(1, 6, query_sd=0, noise=0), sample(2, 4, query_sd=0, noise=0)
    found = crossed_interval([one_SQ, -other_SQ], TASK_Q)
    welch = stats.ttest_ind(one_SQ[:, 0], other_SQ[:, 0], equal_var=False)
    low, high = welch.confidence_interval(0.95)
    assert found[1:] == pytest.approx((low, high, welch.pvalue, welch.df))


def test_repeating_every_seed_does_not_narrow_the_query_part():
    """Seeds that all do the same are one seed: their queries are not counted again."""
    value_1Q = sample(5, 1)
    once, often = crossed_interval([value_1Q], TASK_Q), crossed_interval([np.repeat(value_1Q, 8, axis=0)], TASK_Q)
    assert often == pytest.approx(once)


def test_no_difference_at_all():
    value_SQ = sample(1, 4)
    same = crossed_interval([value_SQ - value_SQ], TASK_Q)
    assert (same.estimate, same.low, same.high, same.p) == (0, 0, 0, 1)
    constant = crossed_interval([np.ones((1, len(TASK_Q)))], TASK_Q)
    assert (constant.low, constant.high, constant.p) == (1, 1, 0)


def test_tasks_of_one_query_are_judged_by_what_differs_between_tasks():
    value_SQ, task_Q = sample(1, 3), TASK_Q.copy()
    task_Q[0] = "single"
    assert np.isfinite(crossed_interval([value_SQ], task_Q)).all()
    alone = crossed_interval([value_SQ[:, :2]], np.array(["x", "y"], dtype=object))
    assert np.isnan([alone.low, alone.high, alone.p]).all()
    assert np.isfinite(alone.estimate)
    # Many of them are a plain sample.
    value_Q = value_SQ[0, :20]
    found, known = crossed_interval([value_Q[None]], np.arange(20)), stats.ttest_1samp(value_Q, 0)
    assert found[:3] == pytest.approx((value_Q.mean(), *known.confidence_interval(0.95)))
    assert (found.p, found.df) == pytest.approx((known.pvalue, 19))


def test_one_query_that_differs_proves_nothing():
    values = [np.array([[0.0] * 8 + [1.0]])]
    task_Q = np.repeat(["a", "b", "c"], (4, 4, 1))
    found = crossed_interval(values, task_Q)
    assert found.estimate == pytest.approx(1 / 3)
    assert found.low < 0 < 2 / 3 < found.high
    assert found.p == 1
    assert mde(values, task_Q) > 1 / 3


@pytest.mark.parametrize("sizes", [[9], [4, 5], [1] * 9, [30, 30], [1, 200], [2, 2, 90]])
@pytest.mark.parametrize("n_differing", range(1, 6))
def test_five_queries_that_differ_are_never_significant(sizes, n_differing):
    task_Q = np.repeat(np.arange(len(sizes)), sizes)
    if n_differing > len(task_Q):
        return
    for seed in range(20):
        value_1Q = np.zeros((1, len(task_Q)))
        value_1Q[0, np.random.default_rng(seed).choice(len(task_Q), n_differing, replace=False)] = 1.0
        found = crossed_interval([value_1Q], task_Q)
        assert found.p >= 2.0 ** (1 - n_differing) > 0.05
        assert found.low <= 0 <= found.high


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 9999),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    share=st.floats(0, 1),
    n_seeds=st.integers(1, 3),
)
def test_an_interval_without_zero_is_a_p_below_5_percent(seed, sizes, share, n_seeds):
    rng, task_Q = np.random.default_rng(seed), np.repeat(np.arange(len(sizes)), sizes)
    value_SQ = np.where(rng.random(len(task_Q)) < share, rng.choice([-1.0, 0.5, 1.0], (n_seeds, len(task_Q))), 0.0)
    found = crossed_interval([value_SQ], task_Q)
    assert np.isnan(found.p) or 0 <= found.p <= 1
    if not np.isnan(found.p) and abs(found.p - 0.05) > 1e-9:
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
    mirrored = crossed_interval([-value_SQ], task_Q)
    assert (mirrored.low, mirrored.high, mirrored.p) == pytest.approx((-found.high, -found.low, found.p), nan_ok=True)


@pytest.mark.parametrize(
    ("sizes", "share"),
    [([1] * 80, 0.5), ([2] * 7, 0.5), ([5] * 20, 0.2), ([1, 500], 0.05), ([1] * 38 + [2] * 12 + [3] * 11, 0.2)],
)
def test_equally_good_routers_are_rarely_told_apart(sizes, share):
    """A small share of benchmarks/false_positives.py: 600 trials have a standard error of 0.9 points."""
    rng, task_Q = np.random.default_rng(0), np.repeat(np.arange(len(sizes)), sizes)
    odds = [share / 2, 1 - share, share / 2]
    p_R = np.array(
        [crossed_interval([rng.choice([-1.0, 0.0, 1.0], (1, len(task_Q)), p=odds)], task_Q).p for _ in range(600)]
    )
    assert (p_R < 0.05).mean() < 0.08
    assert (p_R < 0.001).mean() <= 2 / 600


@pytest.mark.parametrize(("seed_sd", "query_sd", "noise"), [(0.03, 0.3, 0.3), (0.0, 0.4, 0.1), (0.08, 0.1, 0.1)])
@pytest.mark.parametrize("n_seeds", [5, 10])
def test_interval_covers_the_truth(n_seeds, seed_sd, query_sd, noise):
    """A small share of benchmarks/coverage.py: 400 repetitions have a standard error of 1.1 points."""
    rng = np.random.default_rng([n_seeds, int(1000 * seed_sd)])
    held = 0
    for _ in range(400):
        of_seed_S = rng.normal(0, seed_sd, (n_seeds, 1))
        of_task_ST = rng.normal(0, seed_sd, (n_seeds, 3))
        per_task_SQ = of_task_ST[:, np.repeat([0, 1, 2], (10, 25, 40))]
        noise_SQ = rng.normal(0, noise, (n_seeds, len(TASK_Q)))
        value_SQ = of_seed_S + per_task_SQ + rng.normal(0, query_sd, len(TASK_Q)) + noise_SQ
        interval = crossed_interval([value_SQ], TASK_Q)
        held += interval.low <= 0 <= interval.high
    assert 0.92 <= held / 400 <= 0.98


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert holm([]) == []


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_is_monotone_and_between_p_and_bonferroni(p):
    adjusted = holm(p)
    assert all(before <= after <= min(1, len(p) * before) + 1e-12 for before, after in zip(p, adjusted, strict=True))
    assert min(adjusted) == pytest.approx(min(1, len(p) * min(p)))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 9999), n=st.integers(1, 6), m=st.integers(1, 6))
def test_probability_of_improvement_counts_pairs_of_seeds(seed, n, m):
    rng = np.random.default_rng(seed)
    router_ST, baseline_ST = (rng.integers(0, 4, (size, 3)).astype(float) for size in (n, m))
    pairs = router_ST[:, None] - baseline_ST
    by_hand = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    found = p_improvement(router_ST, baseline_ST)
    assert found == pytest.approx(by_hand)
    assert p_improvement(baseline_ST, router_ST) == pytest.approx(1 - found)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 9999), n=st.integers(1, 5), m=st.integers(1, 5), n_tasks=st.integers(1, 12))
def test_improvement_is_the_probability_with_an_interval(seed, n, m, n_tasks):
    rng = np.random.default_rng(seed)
    router_ST, baseline_ST = (rng.integers(0, 4, (size, n_tasks)).astype(float) for size in (n, m))
    found = improvement(router_ST, baseline_ST)
    assert found.estimate == pytest.approx(p_improvement(router_ST, baseline_ST))
    if n_tasks < 6:
        assert np.isnan(found.p)
    else:
        assert 0 <= found.low <= found.estimate + 1e-12
        assert found.estimate - 1e-12 <= found.high <= 1


def test_probability_of_improvement_between_deterministic_routers():
    router_1T, baseline_1T = np.array([[1.0, 0.5, 0.2]]), np.array([[0.5, 0.5, 0.6]])
    assert p_improvement(router_1T, baseline_1T) == pytest.approx((1 + 0.5 + 0) / 3)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 9999), n_seeds=st.integers(2, 6), scale=st.floats(0.1, 10))
def test_detectable_difference_is_that_of_the_interval_at_the_numbers_there_are(seed, n_seeds, scale):
    value_SQ = sample(seed, n_seeds)
    interval = crossed_interval([value_SQ], TASK_Q)
    found = mde([value_SQ], TASK_Q)
    assert mde([value_SQ], TASK_Q, n_seeds=n_seeds) == pytest.approx(found)
    assert mde([scale * value_SQ + 1], TASK_Q) == pytest.approx(scale * found)
    critical = stats.t.ppf(0.975, interval.df)
    assert stats.nct.sf(critical, interval.df, found / interval.error) == pytest.approx(0.8, abs=1e-4)
    assert interval.error == pytest.approx((interval.high - interval.low) / 2 / critical)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 9999), n_seeds=st.integers(5, 9))
def test_detectable_difference_falls_with_seeds_and_queries(seed, n_seeds):
    # Against a router of one seed, so that a part that keeps it is there too.
    parts = [sample(seed, n_seeds, seed_sd=0.02), -sample(seed + 1, 1)]
    by_seeds = [mde(parts, TASK_Q, n_seeds=count) for count in (2, 3, 5, 10, 100)]
    by_queries = [mde(parts, TASK_Q, queries_factor=factor) for factor in (0.5, 1, 2, 10, 1000)]
    assert (np.diff(by_seeds) < 0).all()
    assert (np.diff(by_queries) < 0).all()
    assert mde(parts, TASK_Q, n_seeds=10**6, queries_factor=1e6) < 0.01 * by_seeds[0]


def test_one_seed_has_nothing_that_more_seeds_would_tell():
    alone = [sample(1, 1)]
    assert mde(alone, TASK_Q, n_seeds=50) == mde(alone, TASK_Q)
    assert mde(alone, TASK_Q, queries_factor=4) == pytest.approx(mde(alone, TASK_Q) / 2, rel=0.05)


def test_seeds_that_cancel_out_by_luck_are_as_uncertain_as_their_disagreement() -> None:
    # Two seeds that differ on every query and hardly in their means: what is left of the variance is luck.
    rng = np.random.default_rng(0)
    task_Q, sign_Q = np.repeat(["t", "u", "v"], 50), np.tile([1.0, -1.0], 75)
    sign_Q[0] = -1.0
    parts = [np.stack([sign_Q, -sign_Q]) + 0.1 * rng.normal(size=150), 0.05 * rng.normal(size=(1, 150))]
    found = crossed_interval(parts, task_Q)
    assert found.error == pytest.approx(1 / np.sqrt(150), rel=0.1)  # a seed's disagreement of 1, twice, over two seeds
    assert 2 * found.error < mde(parts, task_Q) < 4 * found.error
    of_more_seeds = [mde(parts, task_Q, n_seeds=count) for count in (2, 10, 100, 10_000)]
    assert (np.diff(of_more_seeds) < 0).all()
    assert of_more_seeds[-1] > 0


@pytest.mark.parametrize("n_seeds", [2, 5])
def test_seeds_that_differ_on_few_queries_of_their_own_are_rarely_told_from_no_difference(n_seeds: int) -> None:
    rng = np.random.default_rng(n_seeds)
    value_RSQ = rng.choice([-1.0, 0.0, 1.0], (500, n_seeds, 500), p=[0.004, 0.992, 0.004])
    found = [crossed_interval([value_SQ], np.full(500, "t")) for value_SQ in value_RSQ]
    assert np.mean([each.low <= 0 <= each.high for each in found]) >= 0.95
    assert max(each.high - each.low for each in found) < 1


@pytest.mark.parametrize("other", [-1.0, -0.95])
def test_few_queries_on_which_seeds_cancel_out_are_neither_certain_nor_unknown(other: float) -> None:
    value_SQ = np.zeros((5, 500))
    for seed in range(5):
        value_SQ[seed, 10 * seed : 10 * seed + 2] = 1.0, other
    found = crossed_interval([value_SQ], np.full(500, "t"))
    assert -0.005 < found.low < -0.001
    assert 0.001 < found.high < 0.005


@pytest.mark.parametrize(("seed_sd", "query_sd", "noise"), [(0.05, 0.3, 0.3), (0.0, 0.4, 0.1), (0.1, 0.05, 0.1)])
def test_power_at_the_detectable_difference_is_80_percent(seed_sd, query_sd, noise):
    """A large pilot says what 5 seeds and a twentieth of the queries can tell. 600 trials: an error of 1.6 points."""
    rng = np.random.default_rng([1, int(1000 * seed_sd)])

    def draw(n_seeds, task_Q):
        noise_SQ = rng.normal(0, noise, (n_seeds, len(task_Q)))
        return rng.normal(0, seed_sd, (n_seeds, 1)) + rng.normal(0, query_sd, len(task_Q)) + noise_SQ

    pilot_Q = np.repeat(TASK_Q, 20)
    shift = mde([draw(300, pilot_Q)], pilot_Q, n_seeds=5, queries_factor=1 / 20)
    detected = [crossed_interval([draw(5, TASK_Q) + shift], TASK_Q).p < 0.05 for _ in range(600)]
    assert 0.74 <= np.mean(detected) <= 0.86


def test_what_no_design_can_tell():
    value_SQ = sample(1, 3)
    assert mde([np.zeros((3, len(TASK_Q)))], TASK_Q) == 0
    assert np.isnan(mde([value_SQ[:, :2]], np.array(["x", "y"], dtype=object)))
    with pytest.raises(RecalBenchError, match="at least 2"):
        mde([value_SQ], TASK_Q, n_seeds=1)
    with pytest.raises(RecalBenchError, match="factor above 0"):
        mde([value_SQ], TASK_Q, queries_factor=0)
