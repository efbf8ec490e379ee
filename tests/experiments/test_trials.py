"""The search for settings: what is tried, and by what it is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_log import write_small_log

from recal_bench import routers
from recal_bench.evaluation.metrics import macro_mean
from recal_bench.experiments.bench import load_bench, queries_of
from recal_bench.experiments.trials import Search, tune
from recal_bench.routers import Context, decide


@pytest.fixture(autouse=True)
def everything() -> None:
    routers.discover()


@pytest.mark.parametrize(("name", "held"), [("recal-no-shrinkage", {"trust"}), ("recal-unbiased", set())])
def test_what_a_name_implies_is_not_searched(tmp_path: Path, name: str, held: set[str]) -> None:
    write_small_log(tmp_path / "log.parquet")
    search = Search.of(load_bench(tmp_path / "log.parquet"), name, 30)
    tried = [settings for settings, _ in search.trials()]
    searched = {key for settings in tried for key in settings}
    assert searched == set(routers.flags_of(routers.create(name)).space) - held
    assert all(routers.settings_of(part[0][1].router)["trust"] == 1 for _, part in search.trials()) == bool(held)


def test_simulated_outcomes_are_judged_by_their_truth(tmp_path: Path) -> None:
    bench = load_bench(world_seed=61)
    (trial,) = tune(Search.of(bench, "ridge", 1)).trials
    ridge, validation = routers.create("ridge"), bench.splits.validation
    ridge.fit(bench.train, bench.validation, Context(0, "cpu", tmp_path, lambda line: None))
    arm_Q = np.asarray(decide(ridge, queries_of(validation), bench.calls(validation, ridge)).arm_Q)
    rows = np.arange(len(validation))
    true_QA = bench.objective.utility(validation.expected_score_QA, validation.expected_cost_QA)
    drawn_QA = bench.objective.utility(validation.score_QA, validation.cost_QA)
    true, drawn = (macro_mean(value_QA[rows, arm_Q], validation.task_Q) for value_QA in (true_QA, drawn_QA))
    assert trial.validation_utility == pytest.approx(true)
    assert trial.validation_utility != pytest.approx(drawn)
