"""AIQ, deferral AUC and quality-neutral cost of runs, and their picture."""

import math

import pytest
from scipy.stats import t
from synthetic_runs import ARM_POINTS, ARMS, World, sweep_runs, swept, write_standard_runs

from recal_bench.evaluation.frontier import aiq
from recal_bench.reporting.figures.compare import tables
from recal_bench.reporting.figures.frontier import (
    FrontierFigures,
    arm_points,
    arms_figures,
    frontier_figures,
    points_of,
)
from recal_bench.reporting.pictures.frontier import frontiers


@pytest.fixture
def runs(tmp_path):
    """The standard runs; `knn` and the three seeds of `recal` were swept."""
    folder = tmp_path / "runs"
    write_standard_runs(folder, World(simulated=True))
    return sweep_runs(folder, {("knn", 0): -0.02, ("recal", 0): 0.0, ("recal", 1): 0.02, ("recal", 2): 0.04})


def of(runs, router):
    return [run for run in runs if run.record.configuration.router == router]


def test_figures_are_means_over_seeds_with_a_t_interval(runs):
    found = frontier_figures(of(runs, "recal"), "test")
    each = [aiq(points_of(run.record.frontier[0].points), 0.2, 4.0) for run in of(runs, "recal")]
    mean = sum(each) / 3
    sd = math.sqrt(sum((value - mean) ** 2 for value in each) / 2)
    half = t.ppf(0.975, 2) * sd / math.sqrt(3)
    assert found.aiq == pytest.approx(mean)
    assert found.aiq_ci == pytest.approx((mean - half, mean + half))
    assert found.qnc < 1
    assert found.qnc_reached == 1
    assert found.deferral_auc_ci[0] < found.deferral_auc < found.deferral_auc_ci[1]


def test_one_run_has_no_interval(runs):
    found = frontier_figures(of(runs, "knn"), "test")
    assert found.aiq is not None
    assert found.aiq_ci is None


def test_a_router_that_was_not_swept_has_no_figures(runs):
    assert frontier_figures(of(runs, "random"), "test") == FrontierFigures()
    assert frontier_figures(of(runs, "recal"), "ood") == FrontierFigures()
    # Half of the seeds swept, as where old runs are found again: a mean of those would be another router's.
    assert frontier_figures([*of(runs, "recal"), *of(runs, "random")], "test") == FrontierFigures()


def test_a_seed_that_never_reaches_the_best_arm_leaves_no_mean(runs):
    low = [run.model_copy(update={"record": run.record.model_copy(update={"frontier": swept(-0.1)})}) for run in runs]
    found = frontier_figures(low[:2], "test")
    assert (found.qnc, found.qnc_ci, found.qnc_reached) == (None, None, 0)
    mixed = frontier_figures([low[0], of(runs, "recal")[0]], "test")
    assert (mixed.qnc, mixed.qnc_reached) == (None, 0.5)
    assert mixed.aiq is not None


def test_the_single_arms_reach_what_their_hull_does():
    found = arms_figures(swept()[0])
    assert found.aiq == pytest.approx(aiq([(cost, accuracy) for accuracy, cost in ARM_POINTS], 0.2, 4.0))
    assert found.qnc == 1


def test_single_arms_have_points_where_a_run_was_swept(runs):
    assert arm_points(runs, "test") == {
        arm: pytest.approx((cost, accuracy)) for arm, (accuracy, cost) in zip(ARMS, ARM_POINTS, strict=True)
    }
    assert arm_points(of(runs, "random"), "test") == {}


def test_nothing_is_drawn_where_nothing_was_swept(tmp_path):
    runs = write_standard_runs(tmp_path, World())
    (table,) = tables(runs)
    assert frontiers(table, runs, tmp_path / "x") == []
