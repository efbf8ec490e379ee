"""The stress test of the estimators: its worlds are as promised, and it runs from end to end."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def stress(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("stress")


@pytest.fixture
def worlds(stress: Any) -> Any:
    return importlib.import_module("stress_world")


def test_rates_costs_and_sizes_are_as_promised(worlds: Any) -> None:
    tasks = worlds.draw_tasks(np.random.default_rng([5, 0]))
    rates = [task.expected_KA.mean() for task in tasks.values() if task.kind.half_width is None]
    np.testing.assert_allclose([min(rates), max(rates)], [0.05, 0.95])
    costs = [task.mean_cost_usd for task in tasks.values()]
    sizes = [task.slot.n_train for task in tasks.values()]
    assert max(costs) / min(costs) == pytest.approx(100)
    assert max(sizes) / min(sizes) == 20
    for task in tasks.values():
        best_K = task.expected_KA.argmax(axis=1)
        assert len(set(best_K)) == len(best_K) == task.kind.n_topics
        if task.kind.half_width is not None:
            assert np.abs(task.expected_KA - task.kind.rate).max() <= task.kind.half_width + 1e-12


def test_the_truth_is_that_of_the_draws(worlds: Any) -> None:
    world = worlds.make_world(5)
    everything = worlds.draw_outcomes(world.tasks, 5, 1)
    for name in world.tasks:
        of_task = everything.take(everything.task_Q == name)
        error_A = of_task.score_QA.std(axis=0) / np.sqrt(len(of_task))
        difference_A = (of_task.score_QA - of_task.expected_score_QA).mean(axis=0)
        assert (np.abs(difference_A) < 4 * error_A).all()
        # Expectations that are right in the mean only would not hold where they are high.
        weighted_A = ((of_task.score_QA - of_task.expected_score_QA) * of_task.expected_score_QA).mean(axis=0)
        assert (np.abs(weighted_A) < 4 * error_A).all()
        ratio_A = of_task.cost_QA.mean(axis=0) / of_task.expected_cost_QA.mean(axis=0)
        assert np.abs(ratio_A - 1).max() < 4 * 0.45 / np.sqrt(len(of_task))
    assert (world.bayes_T >= world.best_single_T).all()
    assert (world.bayes_T > world.random_T).all()
    assert world.train.outcomes.expected_score_QA is None
    assert not set(world.splits.train.prompt_Q) & set(world.splits.test.prompt_Q)


def test_a_world_is_its_seed(worlds: Any) -> None:
    first, again, other = (worlds.make_world(seed, shrink=10).splits.train.data_hash for seed in (5, 5, 6))
    assert first == again != other


@pytest.mark.parametrize(("prior", "jobs"), [("none", 1), ("hierarchy", 2)])
def test_it_runs_from_end_to_end(stress: Any, tmp_path: Path, prior: str, jobs: int) -> None:
    plan = replace(
        stress.PLANS[prior],
        names=("grpo", "dr-grpo", "recal", "recal-unbiased", "recal-plain"),
        tuning_seeds=1,
        tuning_steps=3,
        learning_rates=(3e-3,),
        entropies=(0.01, 0.1),
        worlds=(101, 102),
        seeds=2,
        steps=(2, 3),
        family=("recal",),
        family_entropies=(0.1,),
        family_seeds=1,
        shrink=20,
    )
    content = json.loads(json.dumps(stress.study(plan, jobs)))
    assert np.array(content["utility"]["recal"]["102"]["3"]).shape == (2, 6)
    stress.write_report(content, tmp_path)
    stem = {"none": "stress", "hierarchy": "stress-hierarchy"}[prior]
    text = (tmp_path / f"{stem}.md").read_text(encoding="utf-8")
    assert text.startswith("# Stress test of the estimators")
    assert "against `grpo`" in text
    assert ("against `hierarchy`" in text) == (prior == "hierarchy")
    assert f"]({stem}.svg)" in text
    assert {path.name for path in tmp_path.iterdir()} == {f"{stem}.md", f"{stem}.svg", f"{stem}.png"}
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    stress.write_report(content, tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_measures_of_a_perfect_and_of_a_random_router(stress: Any) -> None:
    report = importlib.import_module("stress_report")
    world = {"bayes_T": [0.2, 0.9], "best_single_T": [0.1, 0.8], "random_T": [0.1, 0.5]}
    content = {
        "worlds": {"1": world},
        "utility": {"x": {"1": {"5": [[0.2, 0.9], [0.1, 0.5], [0.2, 0.7]]}}},
    }
    found = report.measures(content, "x", 5)
    np.testing.assert_allclose(found.worst_regret, [[0.0, 1.0, 0.5]], atol=1e-12)
    np.testing.assert_allclose(found.worst_utility, [[0.2, 0.1, 0.2]])
    np.testing.assert_allclose(found.macro, [[0.55, 0.3, 0.45]])
    np.testing.assert_allclose(found.worst_gap, [[1.0, -3.0, -1.0]])
    interval = report.paired(np.array([[1.0, 2.0], [3.0, 5.0]]), np.zeros((2, 2)))
    assert interval.estimate == 2.75
    assert interval.error == pytest.approx(np.sqrt((0.5 / 2 + 2 / 2) / 4))
