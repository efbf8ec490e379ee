"""The signal that task and text hold: shares, permutation test, ceilings, against worlds whose truth is known."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recal_bench.outcomes import Arm
from recal_bench.toolbox import ceilings
from recal_bench.toolbox.signal import Signal, estimate_signal

ARMS = [Arm(model, strategy) for model, strategy in itertools.product("lms", ("cot", "direct"))]


def world(seed: int, slope: float, effect: float = 0.1, n: int = 200, tasks: int = 4) -> dict[str, Any]:
    """Right or wrong answers whose probability moves with the task by `effect` and with the text by `slope`."""
    rng = np.random.default_rng(seed)
    number_Q = np.repeat(np.arange(tasks), n)
    embedding_QE = rng.standard_normal((n * tasks, 24)) / np.sqrt(1 + np.arange(24))
    embedding_QE /= np.linalg.norm(embedding_QE, axis=1, keepdims=True)
    effect_TA = effect * rng.standard_normal((tasks, len(ARMS)))
    slope_TEA = slope * rng.standard_normal((tasks, 24, len(ARMS)))
    text_QA = np.einsum("qe,qea->qa", embedding_QE, slope_TEA[number_Q])
    truth_QA = np.clip(0.5 + effect_TA[number_Q] + text_QA, 0.02, 0.98)
    score_QA = (rng.random(truth_QA.shape) < truth_QA).astype(float)
    task_Q = np.array([f"task {number}" for number in number_Q], dtype=object)
    return {"value_QA": score_QA, "truth_QA": truth_QA, "task_Q": task_Q, "embedding_QE": embedding_QE}


def signal_of(data: dict[str, Any], **others: Any) -> Signal:
    return estimate_signal(data["value_QA"], data["task_Q"], data["embedding_QE"], ARMS, **others)


def gains(data: dict[str, Any]) -> tuple[float, float]:
    """What the best router truly gains over the best single arm, and over the best arm of each task."""
    tasks = np.unique(data["task_Q"])
    mean_TA = np.array([data["truth_QA"][data["task_Q"] == task].mean(axis=0) for task in tasks])
    best = np.mean([data["truth_QA"][data["task_Q"] == task].max(axis=1).mean() for task in tasks])
    return best - mean_TA.mean(axis=0).max(), best - mean_TA.max(axis=1).mean()


@pytest.mark.parametrize("slope", [0.15, 0.25])
def test_shares_and_ceilings_are_near_the_truth(slope: float) -> None:
    worlds = [world(seed, slope) for seed in range(6)]
    found = [signal_of(each) for each in worlds]
    for data, signal in zip(worlds, found, strict=True):
        assert signal.p < 0.05
        assert 0 < signal.achieved < signal.within.value
        assert signal.queries == len(data["task_Q"])
    true = [gains(data) for data in worlds]
    for number, name in enumerate(("over_single", "over_task")):
        estimates = [getattr(signal, name) for signal in found]
        inside = [each.low <= gain[number] <= each.high for each, gain in zip(estimates, true, strict=True)]
        assert sum(inside) >= 5
        truth = np.mean([gain[number] for gain in true])
        assert np.mean([each.value for each in estimates]) == pytest.approx(truth, rel=0.15)
    inner = []
    for data, signal in zip(worlds, found, strict=True):
        contrast_QA = data["truth_QA"] - data["truth_QA"].mean(axis=1, keepdims=True)
        rows = [contrast_QA[data["task_Q"] == task.task] for task in signal.tasks]
        total = np.mean([task.variance for task in signal.tasks]) / (1 - (signal.between or 0.0))
        inner.append(np.mean([((each - each.mean(axis=0)) ** 2).sum() / len(each) for each in rows]) / total)
    assert np.mean([signal.within.value for signal in found]) == pytest.approx(np.mean(inner), rel=0.15)


def test_without_signal_p_is_uniform_and_shares_are_about_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "TEXTS", 64)
    monkeypatch.setattr(ceilings, "DRAWS", 100)
    found = [signal_of(world(seed, slope=0.0, effect=0.0, n=60, tasks=3)) for seed in range(60)]
    p = np.array([signal.p for signal in found])
    # The Kolmogorov distance of 60 uniform values exceeds .21 once in a hundred times.
    assert np.abs(np.sort(p) - (np.arange(60) + 0.5) / 60).max() < 0.22
    shares = np.array([signal.within.value for signal in found])
    assert abs(shares.mean()) < 3 * shares.std() / np.sqrt(60)
    assert np.mean([signal.within.low <= 0 <= signal.within.high for signal in found]) > 0.85
    assert np.mean([signal.over_task.low < 1e-6 for signal in found]) > 0.85
    assert np.median([signal.between or 0.0 for signal in found]) < 0.01


def test_one_task_has_no_share_between_tasks_and_both_ceilings_are_one() -> None:
    signal = signal_of(world(0, 0.2, tasks=1, n=300))
    assert signal.between is None
    assert signal.over_single == signal.over_task


def test_repeated_draws_say_how_much_is_luck() -> None:
    data = world(1, 0.2)
    noise_QA = data["truth_QA"] * (1 - data["truth_QA"])
    signal = signal_of(data, noise_QA=noise_QA)
    assert signal.luck is not None
    assert signal.between is not None
    # Scores of right and wrong: task, text and luck are all there is.
    assert signal.between + signal.within.value + signal.luck == pytest.approx(1, abs=0.08)
    assert signal_of(data).luck is None
    noise_QA[data["task_Q"] == "task 2"] = np.nan
    assert signal_of(data, noise_QA=noise_QA).luck is None


def test_equal_arms_and_equal_texts_tell_nothing() -> None:
    data = world(0, 0.2)
    alike = {**data, "value_QA": np.repeat(data["value_QA"][:, :1], len(ARMS), axis=1)}
    same = {**data, "embedding_QE": np.repeat(data["embedding_QE"][:1], len(data["task_Q"]), axis=0)}
    for signal in map(signal_of, (alike, same)):
        assert signal.within.value == pytest.approx(0)
        assert signal.p == 1.0
        assert signal.over_task.high == pytest.approx(0, abs=1e-6)
    assert signal_of(alike).over_single.high == pytest.approx(0, abs=1e-6)


@settings(max_examples=8)
@given(st.floats(0.01, 10), st.floats(-5, 5), st.integers(0, 99))
def test_the_scale_of_the_values_and_what_all_arms_share_do_not_matter(scale: float, shift: float, seed: int) -> None:
    data = world(seed, 0.2, n=40, tasks=2)
    shared_Q1 = np.random.default_rng(seed).standard_normal((len(data["task_Q"]), 1))
    plain = signal_of(data)
    moved = signal_of({**data, "value_QA": scale * data["value_QA"] + shift + shared_Q1})
    assert moved.p == plain.p
    np.testing.assert_allclose(moved.within, plain.within, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(moved.over_task, np.array(plain.over_task) * scale, rtol=1e-5, atol=1e-6)


@settings(max_examples=20)
@given(st.integers(5, 30), st.integers(2, 5), st.integers(2, 8), st.integers(0, 99))
def test_the_moments_are_those_of_a_regression_over_all_pairs(n: int, n_arms: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    value_QA, embedding_QE = rng.standard_normal((n, n_arms)), rng.standard_normal((n, size))
    arms = [Arm(f"model {number}", "direct") for number in range(n_arms)]
    signal = estimate_signal(value_QA, np.array(["all"] * n, dtype=object), embedding_QE, arms)
    contrast_QA = value_QA - value_QA.mean(axis=1, keepdims=True)
    contrast_QA -= contrast_QA.mean(axis=0)
    embedding_QE = embedding_QE - embedding_QE.mean(axis=0)
    pairs = ~np.eye(n, dtype=bool)
    slope = np.polyfit((embedding_QE @ embedding_QE.T)[pairs], (contrast_QA @ contrast_QA.T)[pairs], 1)[0]
    told = slope * (embedding_QE**2).sum(axis=1).mean()
    assert signal.tasks[0].share == pytest.approx(told * (n - 1) / (contrast_QA**2).sum(), rel=1e-6, abs=1e-9)


def test_the_text_tells_at_least_what_a_ridge_achieves() -> None:
    data = world(0, 0.0, n=400)
    clue_Q = np.random.default_rng(0).choice([-1.0, 1.0], len(data["task_Q"]))
    truth_QA = 0.5 + 0.4 * clue_Q[:, None] * np.array([1, -1, 0, 0, 0, 0])
    score_QA = (np.random.default_rng(1).random(truth_QA.shape) < truth_QA).astype(float)
    # One weak direction of many tells all.
    embedding_QE = np.hstack([data["embedding_QE"], 0.15 * clue_Q[:, None]])
    signal = signal_of({**data, "value_QA": score_QA, "embedding_QE": embedding_QE})
    assert np.mean([task.share for task in signal.tasks]) < signal.achieved
    assert signal.within.value == pytest.approx(signal.achieved)
    truth = ((truth_QA - truth_QA.mean(axis=1, keepdims=True)) ** 2).sum(axis=1).mean()
    total = np.mean([task.variance for task in signal.tasks])
    assert signal.within.value == pytest.approx(truth / total, rel=0.2)
