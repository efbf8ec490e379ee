"""`run --budget` and `--min-accuracy`: the price of cost chosen on validation, and whether it held on test."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from small_log import small_log, write_small_log

from recal_bench import load_router
from recal_bench.cli import cli
from recal_bench.experiments.records import read_runs


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return write_small_log(tmp_path_factory.mktemp("log") / "log.parquet", queries=300)


def run(log, folder, *words):
    return CliRunner().invoke(cli, ["run", "--outcomes", str(log), "--runs", str(folder), *words])


@pytest.fixture(scope="module")
def budgeted(log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("budgeted")
    result = run(log, folder, "--router", "ridge,uniroute", "--budget", "0.2", "--seeds", "2")
    assert result.exit_code == 0, result.output
    return folder, result.output


def of(folder, router):
    return [
        each
        for each in read_runs(folder)
        if each.record.configuration.router == router and each.record.configuration.constraint
    ]


def at_price(run, log, alpha):
    """Macro cost on validation of the saved router at a price, in USD per 1,000 queries."""
    router = load_router(run)
    frame = pd.read_parquet(log)
    frame = frame[frame["split"] == "validation"].assign(arm=frame["model"] + "|" + frame["strategy"])
    cost = frame.pivot(index=["task", "query_id", "prompt"], columns="arm", values="cost_usd")
    router._objective = router._objective.__class__(alpha, router._objective.cost_ref)
    chosen = router.route(cost.index.get_level_values("prompt").tolist())
    paid = [cost.iloc[row][str(each.arm)] for row, each in enumerate(chosen)]
    return 1000 * pd.Series(paid, index=cost.index).groupby("task").mean().mean()


def test_the_price_is_the_lowest_that_keeps_the_budget_on_validation(budgeted, log):
    (ridge,) = of(budgeted[0], "ridge")
    point = ridge.record.on_validation
    assert point.cost_usd_per_1k <= 0.2
    assert at_price(ridge, log, point.alpha) == pytest.approx(point.cost_usd_per_1k)
    lower = np.linspace(0, point.alpha, 60)[:-1]
    costs = [at_price(ridge, log, alpha) for alpha in lower]
    # The last ones lie on the same stretch of prices; nothing below it keeps the budget.
    below = [cost for cost in costs if cost <= 0.2]
    assert below == pytest.approx([point.cost_usd_per_1k] * len(below))
    assert costs[0] > 0.2


def test_the_row_is_a_variant_with_target_and_verdict(budgeted):
    folder, output = budgeted
    assert "ridge --budget=0.2" in output
    assert "<= 0.2 USD/1k" in output
    assert len(of(folder, "uniroute")) == 2
    result = CliRunner().invoke(cli, ["compare", str(folder), "--format", "json"])
    rows = {row["router"]: row for row in json.loads(result.output) if not row["reference"]}
    found = rows["ridge"]["constraint"]
    assert (found["kind"], found["target"]) == ("budget", 0.2)
    assert found["reached"] == pytest.approx(rows["ridge"]["total_cost_usd_per_1k"])
    low, high = found["reached_ci"]
    assert found["held"] == ("yes" if high <= 0.2 else "no" if low > 0.2 else "not certain")
    assert rows["best-single"]["constraint"] is None
    assert "--budget 0.2" in rows["ridge"]["command"]
    header = CliRunner().invoke(cli, ["compare", str(folder), "--format", "csv"]).output.splitlines()[0]
    assert "constraint.held" in header
    assert "| <= 0.2 USD/1k |" in CliRunner().invoke(cli, ["compare", str(folder), "--format", "markdown"]).output


def test_the_plain_row_stands_beside_and_a_found_run_is_found(log, tmp_path):
    first = run(log, tmp_path, "--router", "knn", "--min-accuracy", "0.7")
    assert first.exit_code == 0, first.output
    assert "knn --min-accuracy=0.7" in first.output
    assert "knn defaults" in first.output
    (held_to,) = of(tmp_path, "knn")
    assert held_to.record.on_validation.accuracy >= 0.7
    before = (held_to.folder / "run.json").stat().st_mtime_ns
    assert run(log, tmp_path, "--router", "knn", "--min-accuracy", "0.7").exit_code == 0
    assert (held_to.folder / "run.json").stat().st_mtime_ns == before


def test_routers_that_cannot_be_asked_or_cannot_meet_it_are_left_out(log, tmp_path):
    result = run(log, tmp_path, "--router", "elo,ridge", "--budget", "0.3")
    assert result.exit_code == 0
    assert "elo is left out: it cannot be asked at another price of cost" in result.stderr
    # Its own best is below what a perfect choice could reach.
    result = run(log, tmp_path, "--router", "ridge", "--min-accuracy", "0.94")
    assert result.exit_code == 2
    assert "ridge is left out: --min-accuracy 0.94 is not met" in result.stderr
    assert "at any price it has an accuracy of" in result.stderr
    assert not list(tmp_path.glob(".ridge*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--router", "elo", "--budget", "0.2"], "cannot be asked at another price"),
        (["--router", "ridge", "--budget", "0.0001"], "the cheapest arm of each validation query alone costs"),
        (["--router", "ridge", "--min-accuracy", "1"], "with the right arm for each validation query accuracy is"),
        (["--router", "ridge", "--min-accuracy", "80"], "as in 0.8"),
        (["--router", "ridge", "--budget", "nan"], "USD per 1,000 queries"),
        (["--router", "ridge", "--budget", "1", "--min-accuracy", "0.5"], "give one of them"),
        (["--router", "ridge", "--budget", "1", "--hold-out-arms", "atlas"], "--hold-out-arms"),
    ],
)
def test_what_cannot_be_met_is_one_line(log, tmp_path, words, message):
    result = run(log, tmp_path / "runs", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert isinstance(result.exception, SystemExit)
    assert not (tmp_path / "runs").exists()


def test_costs_must_be_known(tmp_path):
    frame = small_log()
    frame.drop(columns="cost_usd").to_parquet(tmp_path / "none.parquet")
    result = run(tmp_path / "none.parquet", tmp_path / "runs", "--router", "ridge", "--budget", "1")
    assert result.exit_code == 2
    assert "has no cost" in result.stderr


def test_worlds_are_one_row_with_one_verdict(tmp_path):
    words = ["run", "--router", "ridge", "--tasks", "nq", "--worlds", "2", "--budget", "1", "--runs", str(tmp_path)]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert "<= 1 USD/1k" in result.output
    rows = json.loads(CliRunner().invoke(cli, ["compare", str(tmp_path), "--format", "json"]).output)
    (found,) = [row["constraint"] for row in rows if row["constraint"]]
    reached = [each.record.on_validation.cost_usd_per_1k for each in of(tmp_path, "ridge")]
    assert len(reached) == 2
    assert found["on_validation"] == pytest.approx(np.mean(reached))
