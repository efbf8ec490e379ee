"""`payback`: after how many queries a router has paid for the labels of train."""

import json
import math

import pandas as pd
import pytest
from click.testing import CliRunner
from small_log import small_log, write_small_log

from recal_bench.cli import cli


def invoke(*words):
    return CliRunner().invoke(cli, list(map(str, words)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("payback")
    log = write_small_log(folder / "log.parquet", queries=300)
    result = invoke("run", "--outcomes", log, "--router", "ridge", "--runs", folder / "runs")
    assert result.exit_code == 0, result.output
    return log, folder / "runs"


def rows(folder, *words):
    result = invoke("payback", folder, "--format", "json", *words)
    assert result.exit_code == 0, result.output
    return {row["router"]: row for row in json.loads(result.output)}


def test_the_figures_are_those_of_the_file_and_the_decisions(runs):
    log, folder = runs
    frame = pd.read_parquet(log)
    labels = frame.loc[frame["split"] == "train", "cost_usd"].sum()
    cost, score = {}, {}
    for name in ("ridge", "best-single"):
        (path,) = folder.glob(f"{name}-*/decisions.parquet")
        by_task = pd.read_parquet(path).groupby("task")[["cost_usd", "score"]].mean().mean()
        cost[name], score[name] = by_task["cost_usd"], by_task["score"]
    saved = cost["best-single"] - cost["ridge"]
    ridge = rows(folder, "--horizon", 5000)["ridge"]
    assert ridge["label_cost_usd"] == pytest.approx(labels)
    assert ridge["saved_usd_per_1k"] == pytest.approx(1000 * saved)
    assert ridge["break_even"] == math.ceil(labels / saved)
    low, high = ridge["break_even_ci"]
    assert low < ridge["break_even"] < high
    assert ridge["cost_ratio"] == pytest.approx((labels + 5000 * cost["ridge"]) / (5000 * cost["best-single"]))
    assert ridge["cost_ratio_ci"][0] < ridge["cost_ratio"] < ridge["cost_ratio_ci"][1]
    # The accuracy counts in dollars at alpha: utility = score - 0.2 * cost / cost_ref.
    arm = frame[frame["split"] == "train"].groupby(["model", "strategy"])["cost_usd"].mean().max()
    worth = saved + (score["ridge"] - score["best-single"]) * arm / 0.2
    assert ridge["worth_usd_per_1k"] == pytest.approx(1000 * worth)
    assert ridge["worth_break_even"] == math.ceil(labels / worth)


def test_a_router_that_costs_more_never_pays(runs):
    found = rows(runs[1], "--baseline", "cheapest")
    assert found["random"]["break_even"] is None
    assert found["random"]["break_even_ci"] == [None, None]
    assert "cheapest" not in found
    assert "oracle" not in found
    text = invoke("payback", runs[1], "--baseline", "cheapest").output
    assert "never" in text
    assert "break-even at equal utility" in text
    assert "cost ratio" not in text
    assert "| ridge |" in " ".join(invoke("payback", runs[1], "--format", "markdown").output.split())


def test_costs_must_be_known_and_the_baseline_there(runs, tmp_path):
    small_log(cost=False).to_parquet(tmp_path / "log.parquet")
    words = ("run", "--outcomes", tmp_path / "log.parquet", "--router", "ridge", "--runs", tmp_path / "runs")
    assert invoke(*words).exit_code == 0
    result = invoke("payback", tmp_path / "runs")
    assert result.exit_code == 2
    assert "payback needs what every outcome cost" in result.stderr
    result = invoke("payback", runs[1], "--baseline", "nobody")
    assert result.exit_code == 2
    assert "baseline nobody has no run" in result.stderr
    assert invoke("payback", runs[1], "--horizon", "0").exit_code == 2


def test_records_of_older_versions_are_named(runs, tmp_path):
    import shutil

    shutil.copytree(runs[1], tmp_path / "runs")
    (path,) = (tmp_path / "runs").glob("ridge-*/run.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["label_cost_usd"]
    path.write_text(json.dumps(record), encoding="utf-8")
    result = invoke("payback", tmp_path / "runs")
    assert "left out, since an older version wrote their records: ridge" in " ".join(result.output.split())
