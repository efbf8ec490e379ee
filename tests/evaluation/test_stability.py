"""Stability: known curves, known answers, and how often the intervals hold the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.evaluation import stability
from recal_bench.evaluation.stability import Collapse, Curve

heights = st.lists(st.floats(-2, 2), min_size=1, max_size=40)


def curve(values, steps=None):
    value_N = np.asarray(values, dtype=float)
    return Curve(np.arange(len(value_N)) * 25.0 if steps is None else np.asarray(steps, dtype=float), value_N)


def learning(rng, speed, n_seeds, spread=0.02, noise=0.0):
    """Saturating curves from .3 to .6, whose speed and height differ between seeds."""
    step_N = np.arange(0, 401, 25.0)
    made = []
    for _ in range(n_seeds):
        own = speed * np.exp(0.3 * rng.standard_normal())
        value_N = 0.6 + spread * rng.standard_normal() - 0.3 * np.exp(-step_N / own)
        made.append(Curve(step_N, value_N + noise * rng.standard_normal(len(step_N))))
    return made


def test_a_trend_leaves_no_range_and_noise_keeps_its_own():
    assert stability.detrended_iqr(curve([0.1, 0.2, 0.3, 0.4])) == pytest.approx(0, abs=1e-12)
    # The last evaluation seldom lies as far from the one before as the others do.
    assert stability.detrended_iqr(curve([0, 25, 50, 60], steps=[0, 25, 50, 60])) == pytest.approx(0, abs=1e-12)
    rng = np.random.default_rng(0)
    noise_N = rng.standard_normal(20_000)
    steps = np.cumsum(rng.uniform(1, 5, len(noise_N)))
    assert stability.detrended_iqr(curve(noise_N + 0.01 * steps, steps)) == pytest.approx(1.349, rel=0.03)
    assert np.isnan(stability.detrended_iqr(curve([0.1, 0.2])))


@given(heights)
def test_a_drawdown_is_the_deepest_fall(values):
    fall = stability.max_drawdown(curve(values))
    assert fall == pytest.approx(max(values[i] - values[j] for i in range(len(values)) for j in range(i, len(values))))
    assert stability.max_drawdown(curve(sorted(values))) == 0


def test_spikes_stand_out_of_what_came_before():
    value_N = np.ones(200)
    value_N[[5, 60, 120]] = 10
    value_N[100] = 4.9
    assert list(np.flatnonzero(stability.is_spike(curve(value_N)))) == [60, 120]
    # A level that moves slowly is no spike, however far it goes.
    assert not stability.is_spike(curve(np.exp(np.linspace(0, 5, 200)))).any()
    assert not stability.is_spike(curve(np.ones(8))).any()


def test_what_is_left_of_a_converged_gradient_is_no_spike():
    value_N = np.concatenate([np.full(100, 0.8), np.full(100, 1e-9)])
    value_N[[150, 180]] = 0.3, 2.0
    assert list(np.flatnonzero(stability.is_spike(curve(value_N)))) == [180]


def test_tails_and_entropy_are_ratios():
    assert stability.tail_ratio(curve(np.full(100, 3.0))) == 1
    assert stability.tail_ratio(curve([1.0] * 90 + [50.0] * 10)) == 50
    assert np.isnan(stability.tail_ratio(curve([0.0, 0.0, 1.0])))
    assert stability.entropy_ratio(curve(np.linspace(2, 1, 400))) == pytest.approx(0.5, abs=0.02)
    assert stability.entropy_ratio(curve([2.0, 1.0])) == 0.5
    assert np.isnan(stability.entropy_ratio(curve([0.0, 1.0])))


def test_the_area_is_the_mean_height():
    assert stability.area_under_curve(curve([0, 1], steps=[0, 10])) == 0.5
    assert stability.area_under_curve(curve([0, 1, 1], steps=[0, 10, 40])) == pytest.approx((5 + 30) / 40)
    assert stability.area_under_curve(curve([0.7])) == 0.7


@given(heights, st.floats(-2, 2))
def test_a_target_is_reached_between_the_values_around_it(values, target):
    found = curve(values)
    step = stability.steps_to(found, target)
    if step is None:
        assert max(values) < target
        return
    assert np.interp(step, *found) == pytest.approx(target, abs=1e-6) or (step == 0 and values[0] >= target)
    assert all(value < target for at, value in zip(*found, strict=True) if at < step)


def test_steps_are_interpolated():
    assert stability.steps_to(curve([0.0, 0.5, 0.4, 0.9]), 0.6) == pytest.approx(60)
    assert stability.steps_to(curve([0.7, 0.5]), 0.6) == 0
    assert stability.steps_to(curve([0.0, 0.5]), 0.6) is None


def test_collapse_is_giving_back_half_of_the_gain():
    kept, lost, never = curve([0.4, 0.8, 0.7]), curve([0.4, 0.8, 0.6]), curve([0.3, 0.4, 0.2])
    assert [stability.gave_back(each, 0.4) for each in (kept, lost, never)] == [False, True, None]
    found = stability.collapse([kept, lost, never, kept], [0.4] * 4)
    assert found == Collapse(seeds=4, collapsed=1, never_gained=1)
    assert found.rate == 0.25
    # What the prior had already gained can be lost too.
    assert stability.gave_back(curve([0.8, 0.5]), 0.4)


def test_a_seed_sd_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [stability.seed_sd(rng.normal(0.5, 0.01, 5)) for _ in range(2000)]
    assert np.mean([each.low <= 0.01 <= each.high for each in found]) == pytest.approx(0.95, abs=0.015)
    # Table value: sd * sqrt(4 / 11.143), sd * sqrt(4 / 0.4844).
    one = stability.seed_sd(np.array([1.0, 2, 3, 4, 5]))
    assert one == pytest.approx((1.5811, 0.9473, 4.5434), abs=2e-4)
    assert np.isnan(stability.seed_sd(np.array([1.0]))).all()


def test_a_ratio_of_sds_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    pairs = [stability.sd_ratio(rng.normal(0, 0.02, 4), rng.normal(0, 0.01, 6)) for _ in range(2000)]
    assert np.mean([each.low <= 2 <= each.high for each in pairs]) == pytest.approx(0.95, abs=0.015)
    assert np.isnan(stability.sd_ratio(np.array([1.0, 2.0]), np.array([1.0, 1.0]))).all()
    assert np.isnan(stability.sd_ratio(np.array([1.0]), np.array([1.0, 2.0]))).all()


@pytest.mark.parametrize("paired", [True, False])
def test_a_difference_of_means_holds_the_truth_as_often_as_it_says(paired):
    rng = np.random.default_rng(2)
    held = []
    for _ in range(2000):
        luck_S = 0.05 * rng.standard_normal(5) if paired else 0
        router_S, baseline_S = rng.normal(0.1, 0.02, 5) + luck_S, rng.normal(0, 0.01, 5) + luck_S
        found = stability.mean_difference(router_S, baseline_S, paired)
        held.append(found.low <= 0.1 <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)
    one = stability.mean_difference(np.array([0.3]), np.array([0.1]), paired)
    assert one.value == pytest.approx(0.2)
    assert np.isnan(one.low)
    assert stability.mean_difference(np.ones(3), np.ones(3), paired) == (0, 0, 0)


def test_a_difference_of_collapse_rates_stays_open_where_nothing_collapsed():
    none, all_, some = Collapse(5, 0, 0), Collapse(5, 5, 0), Collapse(5, 2, 0)
    same = stability.collapse_difference(none, none)
    assert same.value == 0
    assert same.low < -0.3
    assert same.high > 0.3
    far = stability.collapse_difference(all_, none)
    assert far.value == 1
    assert 0 < far.low < 1
    assert far.high == 1
    turned = stability.collapse_difference(none, some)
    straight = stability.collapse_difference(some, none)
    assert (turned.low, turned.high) == pytest.approx((-straight.high, -straight.low))


@pytest.mark.parametrize("target", [None, 0.5])
def test_a_ratio_of_steps_holds_the_truth_about_as_often_as_it_says(target, monkeypatch):
    monkeypatch.setattr(stability, "RESAMPLES", 1000)
    rng = np.random.default_rng(3)
    many = [[stability.mean_curve(learning(rng, speed, 2000))] for speed in (60, 120)]
    truth = stability.steps_ratio(*many, target, paired=False).value
    pairs = [[learning(rng, speed, 5, noise=0.004) for speed in (60, 120)] for _ in range(150)]
    found = [stability.steps_ratio(*pair, target, paired=False) for pair in pairs]
    assert np.mean([each.low <= truth <= each.high for each in found]) > 0.9


def test_a_target_that_is_never_reached_opens_the_interval():
    fast, slow = learning(np.random.default_rng(4), 60, 4), learning(np.random.default_rng(5), 120, 4)
    flat = [Curve(each.step_N, 0 * each.value_N) for each in slow]
    assert stability.steps_ratio(fast, flat, 0.5, paired=False) == (0, 0, 0)
    assert stability.steps_ratio(flat, fast, 0.5, paired=False).value == np.inf
    assert np.isnan(stability.steps_ratio(flat, flat, 0.5, paired=False)).all()
    # The baseline starts at the target: no ratio to it.
    assert np.isnan(stability.steps_ratio(fast, slow, 0.0, paired=False)).all()
    assert np.isnan(stability.steps_ratio(fast[:2], slow[:2], 0.5, paired=True).low)
    assert stability.steps_ratio(fast, fast, None, paired=True) == (1, 1, 1)


def test_seeds_meet_at_the_steps_that_all_logged():
    found = stability.mean_curve([curve([1, 2, 3], [0, 25, 50]), curve([3, 5], [0, 50])])
    assert list(found.step_N) == [0, 50]
    assert list(found.value_N) == [2, 4]
