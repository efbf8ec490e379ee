"""One run as text."""

import pytest
from synthetic_runs import World, write_standard_runs

from recal_bench.experiments.records import read_runs
from recal_bench.reporting.text.show import learning_curve, most_regretted, per_task_table, show_run


@pytest.fixture
def by_router(tmp_path):
    write_standard_runs(tmp_path, World(simulated=True, splits=("ood", "test"), queries=15), seeds=1)
    return {run.record.configuration.router: run for run in read_runs(tmp_path)}


def test_a_run_is_shown_whole(by_router):
    text = show_run(by_router["recal"], list(by_router.values()))
    assert "recal, seed 0, on toy.parquet (0123456789ab), simulated" in text
    assert "settings: steps=12, lr=0.01" in text
    assert "lost most against the oracle" in text
    assert "Utility on validation by training step" in text


def test_tasks_of_every_split_are_listed(by_router):
    lines = per_task_table(by_router["best-single"]).splitlines()
    assert len(lines) == 2 + 6
    assert all("large|direct (100%)" in line for line in lines[2:])


def test_the_greatest_losses_come_first(by_router):
    lines = most_regretted(by_router["cheapest"], by_router["oracle"], 5).splitlines()[4:]
    lost = [float(line.split()[2]) for line in lines]
    assert len(lost) == 5
    assert lost == sorted(lost, reverse=True)
    assert all(line.split()[3:5] == ["small|direct", "0.00"] for line in lines)


def test_the_oracle_loses_nothing(by_router):
    assert most_regretted(by_router["oracle"], by_router["oracle"], 5).startswith("No decision on test lost")


def test_what_is_not_there_is_said(by_router):
    text = show_run(by_router["knn"], [by_router["knn"]])
    assert "There is no oracle of the same outcomes" in text
    assert "no learning curve" in text


def test_scores_stand_in_where_no_utility_is_reported(tmp_path):
    write_standard_runs(tmp_path, World(unknown_costs=5), seeds=1)
    runs = {run.record.configuration.router: run for run in read_runs(tmp_path)}
    assert "in score" in most_regretted(runs["knn"], runs["oracle"], 3)


def test_a_long_curve_is_drawn_within_the_width(by_router):
    run = by_router["recal"]
    lines = [f'{{"step": {step}, "validation_utility": {0.3 + step / 2000}}}' for step in range(500)]
    (run.folder / "metrics.jsonl").write_text("\n".join(lines))
    text = learning_curve(run)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("*") == 64
    assert "best 0.5495 at step 499, last 0.5495" in text
