"""The set of the best and the ranks: what must hold of them whatever the routers, and known cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recal_bench.evaluation.statistics import crossed_covariance, crossed_interval, difference_intervals
from recal_bench.evaluation.ties import crossed_pairs, paired_means, ties

TASK_Q = np.repeat(["a", "b", "c"], (30, 50, 80)).astype(object)


def routers(seed, means, n_seeds=1, seed_sd=0.02):
    """Routers that share how hard a query is, and differ in what suits them and in their luck of training."""
    rng = np.random.default_rng(seed)
    query_Q = rng.normal(0, 0.4, len(TASK_Q))
    return [
        mean
        + query_Q
        + rng.normal(0, 0.2, len(TASK_Q))
        + (rng.normal(0, seed_sd, (n_seeds, 1)) + rng.normal(0, 0.1, (n_seeds, len(TASK_Q))) if n_seeds > 1 else 0)
        + np.zeros((n_seeds, 1))
        for mean in means
    ]


def judged(values, seeds=None, **options):
    names = [range(len(value_SQ)) for value_SQ in values] if seeds is None else seeds
    return ties(crossed_pairs([(value_SQ, None) for value_SQ in values], names, TASK_Q), **options)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 9999),
    n_seeds=st.sampled_from([1, 2, 5]),
    means=st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=7),
)
def test_sets_and_ranks_agree_with_each_other_and_with_the_estimates(seed, n_seeds, means):
    values = routers(seed, means, n_seeds)
    found = judged(values, n_resamples=500)
    estimate_R = np.array([crossed_interval([value_SQ], TASK_Q).estimate for value_SQ in values])
    low_R, high_R = found.rank_R2.T
    place_R = 1 + (estimate_R > estimate_R[:, None]).sum(axis=1)
    assert ((low_R <= place_R) & (place_R <= high_R)).all()
    assert found.best_R[estimate_R.argmax()]
    # Who is surely not the first cannot be the best.
    assert not found.best_R[low_R > 1].any()
    assert ((low_R >= 1) & (high_R <= len(values))).all()


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 9999), shift=st.floats(-5, 5), scale=st.floats(0.1, 10))
def test_the_scale_of_the_values_and_the_order_of_queries_do_not_matter(seed, shift, scale):
    values = routers(seed, [0.0, 0.02, 0.1, -0.3], 3)
    order = np.random.default_rng(seed).permutation(len(TASK_Q))
    base, moved = judged(values), judged([shift + scale * value_SQ for value_SQ in values])
    shuffled = ties(crossed_pairs([(value_SQ[:, order], None) for value_SQ in values], [range(3)] * 4, TASK_Q[order]))
    for other in (moved, shuffled):
        np.testing.assert_array_equal(base.best_R, other.best_R)
        np.testing.assert_array_equal(base.rank_R2, other.rank_R2)


def test_two_routers_are_told_apart_as_by_one_test():
    """Of two routers, the worse leaves the set where the one-sided t test says so, and has rank 2 by the two-sided."""
    for shift in np.linspace(0, 0.12, 13):
        values = routers(4, [0.0, -shift])
        p = crossed_interval([values[0] - values[1]], TASK_Q).p
        found = judged(values, n_resamples=20_000)
        if p / 2 < 0.04 or p / 2 > 0.05:
            assert found.best_R.tolist() == [True, p / 2 > 0.05]
        if abs(p - 0.05) > 0.005:
            assert found.rank_R2.tolist() == ([[1, 1], [2, 2]] if p < 0.05 else [[1, 2], [1, 2]])


def test_routers_far_apart_have_a_rank_each_and_one_best():
    found = judged(routers(1, [0.3, -0.6, 0.0, -0.3], 5))
    assert found.best_R.tolist() == [True, False, False, False]
    assert found.rank_R2.tolist() == [[1, 1], [4, 4], [2, 2], [3, 3]]


def test_routers_that_decide_alike_are_tied():
    (one,) = routers(1, [0.1])
    found = judged([one, one.copy(), one - 0.5])
    assert found.best_R.tolist() == [True, True, False]
    assert found.rank_R2.tolist() == [[1, 2], [1, 2], [3, 3]]


def test_many_tied_routers_need_a_larger_lead_than_one():
    """A lead that one test of two routers would call significant is nothing among forty."""
    values = routers(3, [0.0] * 40)
    pairs = difference_intervals(
        [(values[one], values[other], False) for one in range(40) for other in range(one)], TASK_Q
    )
    assert min(pair.p for pair in pairs) < 0.01
    assert judged(values).best_R.mean() > 0.9
    assert (judged(values[:2]).rank_R2 == [1, 2]).all()


def test_nothing_is_told_where_the_data_cannot_tell():
    task_Q = np.array(["a", "b", "c"], dtype=object)
    values = [(np.array([[1.0, 1.0, 1.0]]), None), (np.array([[0.0, 0.1, 0.0]]), None)]
    found = ties(crossed_pairs(values, [[0], [0]], task_Q))
    assert found.best_R.all()
    assert found.rank_R2.tolist() == [[1, 2], [1, 2]]


def test_few_differing_queries_tell_nobody_apart():
    base = np.zeros((1, len(TASK_Q)))
    better = base.copy()
    better[0, :4] = 1.0  # all better by chance with probability 1/16
    assert judged([base, better]).best_R.all()
    better[0, :60] = 1.0
    assert judged([base, better]).best_R.tolist() == [False, True]


def test_a_pair_is_compared_by_what_both_have():
    """Expected values where both routers have them; a router without is held against the realised ones of the other."""
    realised = routers(1, [0.0, 0.0, 0.0])
    expected = [np.full_like(realised[0], 0.5), np.full_like(realised[1], 0.4) + realised[0] * 1e-3, None]
    pairs = crossed_pairs(list(zip(realised, expected, strict=True)), [[0]] * 3, TASK_Q)
    estimates = [each.estimate for each in pairs.interval_N]
    known = [expected[0] - expected[1], realised[0] - realised[2], realised[1] - realised[2]]
    assert estimates == pytest.approx([crossed_interval([each], TASK_Q).estimate for each in known])


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 9999), n_seeds=st.integers(1, 4), others=st.integers(1, 4), paired=st.booleans())
def test_intervals_of_many_differences_are_those_of_each(seed, n_seeds, others, paired):
    others = n_seeds if paired else others
    one, other, third = (*routers(seed, [0.1], n_seeds), *routers(seed + 1, [0.0, 0.2], others))
    many = difference_intervals([(one, other, paired), (one, third, False), (third, other, False)], TASK_Q)
    first = [one - other] if paired else [one, -other]
    for found, parts in zip(many, (first, [one, -third], [third, -other]), strict=True):
        assert found == pytest.approx(crossed_interval(parts, TASK_Q))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 9999), n_seeds=st.integers(1, 5))
def test_the_covariance_has_the_variances_of_the_intervals(seed, n_seeds):
    """Of one router, and of the difference of two whose seeds have nothing to do with each other."""
    values = routers(seed, [0.0, 0.1], n_seeds, seed_sd=0.2)
    covariance_RR, of_seeds_R = crossed_covariance(values, TASK_Q)
    intervals = [crossed_interval([value_SQ], TASK_Q) for value_SQ in values]
    if n_seeds == 1:
        assert not of_seeds_R.any()
        intervals.append(crossed_interval([values[0], -values[1]], TASK_Q))
        difference = covariance_RR[0, 0] + covariance_RR[1, 1] - 2 * covariance_RR[0, 1]
        assert intervals.pop().error ** 2 == pytest.approx(difference)
    for place, interval in enumerate(intervals):
        # Where an estimate of a variance is below 0, the two are cut off at different places.
        assert covariance_RR[place, place] == pytest.approx(interval.error**2, rel=0.2)
    assert (of_seeds_R <= np.diag(covariance_RR) * 1.5).all()


def test_worlds_give_the_paired_t_test():
    value_WR = np.random.default_rng(0).normal(0, 0.1, (5, 1)) + np.array(
        [[0.00, 0.01, 0.31], [0.01, 0.03, 0.29], [0.02, 0.00, 0.30], [0.00, 0.02, 0.33], [0.01, 0.01, 0.30]]
    )
    pairs = paired_means(value_WR)
    for interval, (one, other) in zip(pairs.interval_N, [(0, 1), (0, 2), (1, 2)], strict=True):
        assert interval.p == pytest.approx(stats.ttest_rel(value_WR[:, one], value_WR[:, other]).pvalue)
    found = ties(pairs)
    assert found.best_R.tolist() == [False, False, True]
    assert found.rank_R2.tolist() == [[2, 3], [2, 3], [1, 1]]


def test_equally_good_routers_are_in_the_set_as_often_as_promised():
    """benchmarks/ties.py goes through the layouts; this is one of them, with bounds beyond chance."""
    held = [judged(routers(seed, [0.0] * 6, 5), n_resamples=500).best_R.mean() for seed in range(120)]
    assert 0.91 <= np.mean(held) <= 0.985
