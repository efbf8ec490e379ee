"""Latency of the chosen arms: shown where the outcomes hold it, charged with `--latency-price`."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from small_log import small_log

from recal_bench.cli import cli
from recal_bench.experiments.records import read_runs

PRICE = 0.3


def log(path, **changes):
    frame = small_log(200)
    # Each task's better arm is the slow one, by three seconds.
    slow = frame["model"].eq("atlas").to_numpy() == frame["task"].eq("geo").to_numpy()
    frame["latency_s"] = np.where(slow, 4.0, 1.0)
    frame.assign(**changes).to_parquet(path, index=False)
    return path


def invoke(*words):
    return CliRunner().invoke(cli, list(map(str, words)))


def figures(folder):
    rows = json.loads(invoke("compare", folder, "--format", "json").output)
    return {row["router"]: row for row in rows}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latency")
    path = log(folder / "log.parquet")
    for name, words in (("plain", []), ("priced", ["--latency-price", PRICE])):
        result = invoke("run", "--outcomes", path, "--router", "ridge,mlp", "--runs", folder / name, *words)
        assert result.exit_code == 0, result.output
    return path, folder / "plain", folder / "priced"


def decisions(folder, router):
    (run,) = (each for each in read_runs(folder) if each.record.configuration.router == router)
    return run, run.decisions()


def test_tables_show_mean_and_percentile_of_the_chosen_arms(runs):
    path, plain, _ = runs
    frame = pd.read_parquet(path).assign(arm=lambda each: each["model"] + "|" + each["strategy"])
    chosen = decisions(plain, "ridge")[1].merge(frame, on=["task", "query_id", "arm"])
    row = figures(plain)["ridge"]
    assert row["latency_mean_s"] == pytest.approx(chosen["latency_s_y"].mean())
    assert row["latency_p95_s"] == pytest.approx(np.percentile(chosen["latency_s_y"], 95))
    assert row["latency_known"] == 1
    assert "arm s mean/p95" in invoke("compare", plain, "--format", "markdown").output
    header = invoke("compare", plain, "--format", "csv").output.splitlines()[0].split(",")
    assert {"latency_mean_s", "latency_p95_s"} <= set(header)


def test_a_price_is_part_of_the_utility_and_every_router_learns_it(runs):
    _, plain, priced = runs
    before, after = figures(plain), figures(priced)
    for router in ("ridge", "mlp"):
        assert after[router]["latency_mean_s"] < before[router]["latency_mean_s"] - 1
        run, frame = decisions(priced, router)
        data = run.record.configuration.data
        assert data.latency_price == PRICE
        utility = frame["score"] - 0.2 * frame["cost_usd"] / data.cost_ref - PRICE * frame["latency_s"]
        assert frame["utility"].to_numpy() == pytest.approx(utility.to_numpy())
        assert f"--latency-price {PRICE}" in run.record.command
    assert after["oracle"]["utility"] >= max(row["utility"] for row in after.values() if not row["reference"])
    # USD stay what was paid.
    assert after["cheapest"]["cost_usd_per_1k"] < 1
    assert "0.3 a second" in invoke("compare", priced).output


def test_unknown_latencies_are_not_zero(tmp_path):
    path = log(tmp_path / "log.parquet")
    frame = pd.read_parquet(path)
    unknown = np.random.default_rng(0).random(len(frame)) < 0.2
    frame.loc[unknown, "latency_s"] = None
    frame.to_parquet(path)
    result = invoke("run", "--outcomes", path, "--router", "ridge", "--runs", tmp_path / "runs")
    assert result.exit_code == 0, result.output
    assert "latencies are means over the queries where they are known" in " ".join(result.output.split())
    row = figures(tmp_path / "runs")["ridge"]
    assert row["latency_mean_s"] >= 1
    assert 0.5 < row["latency_known"] < 1
    result = invoke("run", "--outcomes", path, "--router", "ridge", "--latency-price", "0.1")
    assert result.exit_code == 2
    assert f"{unknown.sum()} outcomes of log have no known latency" in result.stderr


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        ({"latency_s": "fast"}, [], "has no latencies that can be read"),
        ({"latency_s": -1.0}, [], "has no latencies that can be read"),
        ({}, ["--alpha", "0"], "an --alpha above 0"),
        ({}, ["--latency-price", "nan"], "finite number above 0"),
        ({}, ["--latency-price", "0"], "finite number above 0"),
    ],
)
def test_what_cannot_be_charged_is_one_line(tmp_path, changes, words, message):
    path = log(tmp_path / "log.parquet", **changes)
    result = invoke("run", "--outcomes", path, "--router", "ridge", "--latency-price", "0.1", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_a_column_of_other_things_is_told_and_not_used(tmp_path):
    path = log(tmp_path / "log.parquet", latency_s="fast")
    result = invoke("run", "--outcomes", path, "--router", "ridge", "--runs", tmp_path / "runs")
    assert result.exit_code == 0
    assert "latencies are not used: latency_s is not a number" in " ".join(result.output.split())


def test_settings_tuned_at_another_price_are_refused(runs, tmp_path):
    tuned = tmp_path / "tuned.json"
    words = ("--outcomes", runs[0], "--router", "ridge")
    result = invoke("tune", *words, "--trials", "2", "--out", tuned, "--latency-price", PRICE)
    assert result.exit_code == 0, result.output
    found = invoke("run", *words, "--tuned", tuned, "--runs", tmp_path / "runs")
    assert found.exit_code == 2
    assert "latency price 0.3); this run has" in found.stderr
    again = invoke("run", *words, "--tuned", tuned, "--latency-price", PRICE, "--runs", tmp_path / "runs")
    assert again.exit_code == 0
