"""Logs in which some queries show all arms and the others the one that was drawn, and logs with small tasks."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from small_log import small_log

from recal_bench.cli import cli
from recal_bench.errors import OutcomesError
from recal_bench.experiments.bench import load_bench
from recal_bench.outcomes.files import check_file, read_outcomes

CHANCE = {"geo": np.array([0.6, 0.2, 0.2]), "law": np.array([0.2, 0.2, 0.6])}


def cli_run(*words: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, words)])


def mixed(complete: pd.DataFrame, every: int = 3, several: float | None = None) -> pd.DataFrame:
    """Of every third query all rows, of the others one that is drawn by the chances of its task."""
    rng = np.random.default_rng(0)
    kept = []
    for number, (key, rows) in enumerate(complete.groupby(["task", "query_id"], sort=False)):
        if number % every == 0:
            kept.append(rows.assign(propensity=several))
            continue
        chance = CHANCE[key[0]]
        row = rng.choice(len(rows), p=chance)
        kept.append(rows.iloc[[row]].assign(propensity=chance[row]))
    return pd.concat(kept, ignore_index=True).astype({"propensity": float})


def rows_of(runs: Path) -> dict[str, dict[str, object]]:
    shown = cli_run("compare", runs, "--format", "json")
    assert shown.exit_code == 0, shown.output
    return {row["router"]: row for row in json.loads(shown.output)}


@pytest.mark.parametrize("several", [None, 1.0])
def test_a_mixed_log_is_one_whatever_is_written_where_all_arms_were_asked(
    tmp_path: Path, several: float | None
) -> None:
    mixed(small_log(60), several=several).to_csv(tmp_path / "log.csv", index=False)
    outcomes = read_outcomes(tmp_path / "log.csv")
    assert outcomes.logged
    assert outcomes.several_Q.sum() == 20
    assert (outcomes.propensity_Q[outcomes.several_Q] == 1).all()
    assert (outcomes.propensity_Q[~outcomes.several_Q] < 1).all()
    shown = cli_run("validate", tmp_path / "log.csv")
    assert shown.exit_code == 0, shown.output
    assert "but for 20 queries that show several arms" in shown.output
    assert "--missing" not in shown.output


def test_a_propensity_that_is_missing_where_one_arm_is_shown_is_named(tmp_path: Path) -> None:
    frame = mixed(small_log(60))
    alone = frame.index[frame["propensity"].notna()][4]
    frame.loc[alone, "propensity"] = np.nan
    frame.to_csv(tmp_path / "log.csv", index=False)
    (problem,) = check_file(tmp_path / "log.csv").problems
    assert problem.startswith(f"propensity is missing in 1 of {len(frame)} rows (first: row {alone + 1})")


def test_where_several_arms_were_asked_others_may_be_missing(tmp_path: Path) -> None:
    frame = mixed(small_log(60))
    of_three = frame.index[frame["propensity"].isna()]
    frame = frame.drop(of_three[0])
    frame.to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(OutcomesError, match="1 query of the 20 with several arms lack others"):
        load_bench(tmp_path / "log.csv")
    bench = load_bench(tmp_path / "log.csv", missing="restrict")
    part = next(part for part in bench.splits.parts.values() if (part.several_Q & ~part.observed_QA.all(axis=1)).any())
    available_QA = bench.calls(part).available_QA
    assert available_QA.sum() == available_QA.size - 1
    assert "--missing restrict" in cli_run("validate", tmp_path / "log.csv").output


def test_a_mixed_log_is_used_whole_and_its_estimates_hold_the_truth(tmp_path: Path) -> None:
    complete, runs = small_log(900), tmp_path / "runs"
    complete.to_parquet(tmp_path / "complete.parquet", index=False)
    mixed(complete).to_parquet(tmp_path / "log.parquet", index=False)
    words = [part for name in ("ridge", "elo", "recal") for part in ("--router", name)]
    log = ("--outcomes", tmp_path / "log.parquet")
    done = cli_run("run", *words, "--set", "recal:steps=10", *log, "--runs", runs)
    assert done.exit_code == 0, done.output
    assert "a mixed log: 300 of 900 queries show several arms, and are replayed" in " ".join(done.output.split())
    bench = load_bench(tmp_path / "log.parquet")
    test = load_bench(tmp_path / "complete.parquet").splits.test
    arms = {str(arm): index for index, arm in enumerate(test.arms)}
    rows = rows_of(runs)
    for name in ("ridge", "elo", "recal", "best-single", "random", "knn"):
        (run,) = runs.glob(f"{name}-*")
        decided = pd.read_parquet(run / "decisions.parquet").sort_values(["task", "query_id"])
        arm_Q = decided["arm"].map(arms).to_numpy()
        score_Q, cost_Q = (value_QA[np.arange(len(test)), arm_Q] for value_QA in (test.score_QA, test.cost_QA))
        utility_Q = bench.objective.utility(score_Q, cost_Q)
        truth = np.mean([utility_Q[test.task_Q == task].mean() for task in test.tasks])
        for figure in ("snips", "dr", "ips"):
            low, high = rows[name][figure]["ci"]
            spare = (high - low) / 3
            assert low - spare <= truth <= high + spare, (name, figure)
        several = decided["propensity"].isna().to_numpy()
        assert several.sum() == 60
        np.testing.assert_array_equal(decided["score"].to_numpy()[several], score_Q[several])
        assert rows[name]["effective_queries"] > 40
    assert rows["logged"]["n_queries"] == 120
    for command in ("show", "stability"):
        target = next(runs.glob("recal-*")) if command == "show" else runs
        shown = cli_run(command, target)
        assert shown.exit_code == 0, shown.output
        assert "nan" not in shown.output
    board = cli_run("leaderboard", runs, "--out", tmp_path / "board")
    assert board.exit_code == 0, board.output


def test_cascades_are_refused_where_most_queries_cannot_answer_them(tmp_path: Path) -> None:
    mixed(small_log(60)).assign(response="an answer").to_parquet(tmp_path / "log.parquet", index=False)
    refused = cli_run("run", "--router", "frugal-gpt", "--outcomes", tmp_path / "log.parquet", "--runs", tmp_path / "r")
    assert refused.exit_code == 2
    assert "router frugal-gpt asks arms before it decides" in refused.output


def test_a_task_that_says_too_little_does_not_take_the_answer_away(tmp_path: Path) -> None:
    complete = small_log(900)
    number = complete["query_id"].str[1:].astype(int)
    complete["task"] = complete["task"].where(number % 14 != 1, "rare")
    chance, rng, kept = np.array([0.8, 0.1, 0.1]), np.random.default_rng(0), []
    for _, rows in complete.groupby("query_id", sort=False):
        row = rng.choice(3, p=chance)
        kept.append(rows.iloc[[row]].assign(propensity=chance[row]))
    pd.concat(kept).to_parquet(tmp_path / "log.parquet", index=False)
    words = ("--outcomes", tmp_path / "log.parquet", "--runs", tmp_path / "runs")
    done = cli_run("run", "--router", "ridge", "--router", "mlp", *words)
    assert done.exit_code == 0, done.output
    assert "means over queries (micro)" in done.output
    assert "No estimate for ridge" not in done.output
    assert "effective rows for this policy" not in done.output
    assert all(row["mean"] == "micro" for row in rows_of(tmp_path / "runs").values())
    test = pd.read_parquet(tmp_path / "log.parquet").query("split == 'test'")
    assert rows_of(tmp_path / "runs")["logged"]["accuracy"]["value"] == pytest.approx(test["score"].mean())
