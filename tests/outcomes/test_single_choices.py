"""Logs of single choices: one arm a query, chosen with a known probability; what routers are worth is estimated."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from small_log import small_log

from recal_bench.cli import cli
from recal_bench.errors import RecalBenchError
from recal_bench.evaluation.references import arm_effects
from recal_bench.experiments.bench import load_bench
from recal_bench.experiments.variants import with_held_out
from recal_bench.outcomes import mean_over_observed
from recal_bench.outcomes.files import check_file, read_outcomes

ARMS = 3
EVEN = np.full(ARMS, 1 / ARMS)


def logged(complete: pd.DataFrame, seed: int = 0, by_task: dict[str, np.ndarray] | None = None) -> pd.DataFrame:
    """One row a query of a complete file, drawn by the probabilities of its task (even where none are given)."""
    rng = np.random.default_rng(seed)
    kept = []
    for key, rows in complete.groupby(["task", "query_id"], sort=False):
        chance = (by_task or {}).get(key[0], EVEN)
        row = rng.choice(len(rows), p=chance)
        kept.append(rows.iloc[[row]].assign(propensity=chance[row]))
    return pd.concat(kept, ignore_index=True)


def cli_run(*words: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, words)])


def problem_of(tmp_path: Path, frame: pd.DataFrame) -> str:
    frame.to_parquet(tmp_path / "log.parquet", index=False)
    (problem,) = check_file(tmp_path / "log.parquet").problems
    return problem


@pytest.mark.parametrize("extension", ["parquet", "csv", "jsonl"])
def test_a_log_keeps_its_propensities_in_every_format_and_row_order(tmp_path: Path, extension: str) -> None:
    frame = logged(small_log(20))
    path, shuffled = tmp_path / f"log.{extension}", tmp_path / f"shuffled.{extension}"
    for target, rows in ((path, frame), (shuffled, frame.sample(frac=1, random_state=1))):
        if extension == "parquet":
            rows.to_parquet(target, index=False)
        elif extension == "csv":
            rows.to_csv(target, index=False)
        else:
            rows.to_json(target, orient="records", lines=True)
    outcomes = read_outcomes(path)
    assert outcomes.logged
    assert outcomes.observed_QA.sum(axis=1).tolist() == [1] * 20
    names = [str(outcomes.arms[arm]) for arm in outcomes.logged_arm_Q]
    expected = frame.sort_values(["split", "task", "query_id"])
    assert names == (expected["model"] + "|" + expected["strategy"]).tolist()
    np.testing.assert_allclose(outcomes.propensity_Q, expected["propensity"])
    assert read_outcomes(shuffled).data_hash == outcomes.data_hash


def test_other_propensities_are_other_data(tmp_path: Path) -> None:
    frame = logged(small_log(20))
    hashes = set()
    for chance in (0.2, 0.4):
        frame.assign(propensity=chance).to_parquet(tmp_path / "log.parquet", index=False)
        hashes.add(read_outcomes(tmp_path / "log.parquet").data_hash)
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("value", "what"),
    [(0.0, "propensity is 0"), (1.5, "propensity is outside 0..1"), (None, "propensity is missing")],
)
def test_a_propensity_that_cannot_be_is_named_with_its_row(tmp_path: Path, value: float | None, what: str) -> None:
    frame = logged(small_log(20))
    frame.loc[4, "propensity"] = value
    problem = problem_of(tmp_path, frame)
    assert problem.startswith(what)
    assert "1 of 20 rows (first: row 5" in problem


def test_what_is_nearly_a_log_says_what_to_do(tmp_path: Path) -> None:
    complete = small_log(20)
    extra = complete[complete["query_id"] == "q0000"].assign(propensity=0.5)
    log = logged(complete)
    both = pd.concat([log[log["query_id"] != "q0000"], extra])
    assert "1 query show several arms" in problem_of(tmp_path, both)
    assert "Add a column propensity" in problem_of(tmp_path, log.drop(columns="propensity"))
    twice = pd.concat([log.assign(sample=0), log.assign(sample=1)])
    assert "has one row a query" in problem_of(tmp_path, twice)


def test_validate_and_run_agree_that_a_log_is_usable(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    logged(small_log(60)).to_parquet(path, index=False)
    shown = cli_run("validate", path)
    assert shown.exit_code == 0, shown.output
    assert "a log of single choices: one arm a query, with its propensity" in shown.output
    assert "--missing" not in shown.output
    for rule in ("zero", "restrict"):
        refused = cli_run("run", "--router", "ridge", "--outcomes", path, "--missing", rule)
        assert refused.exit_code == 2
        assert f"leave out --missing {rule}" in refused.output
    with pytest.raises(RecalBenchError, match="several arms on the same queries"):
        with_held_out(load_bench(path), ["atlas"], 5)


@given(
    score_QA=st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=3, max_size=3),
    chance=st.floats(0.2, 0.8),
)
@settings(max_examples=30, deadline=None)
def test_weights_undo_what_the_policy_preferred(score_QA: list[list[float]], chance: float) -> None:
    """In a log where every query's choices stand in proportion to their chances, weighted means are the true ones."""
    complete_QA = np.array(score_QA)
    counts = np.array([round(chance * 10), 10 - round(chance * 10)])
    values, propensities = [], []
    for score_A in complete_QA:
        for arm in range(2):
            row = [np.nan, np.nan]
            row[arm] = score_A[arm]
            values += [row] * counts[arm]
            propensities += [counts[arm] / 10] * counts[arm]
    value_NA, propensity_N = np.array(values), np.array(propensities)
    np.testing.assert_allclose(mean_over_observed(value_NA, propensity_N), complete_QA.mean(axis=0), atol=1e-12)
    task_N = np.array(["one"] * len(values), dtype=object)
    np.testing.assert_allclose(arm_effects(value_NA, task_N, propensity_N), complete_QA.mean(axis=0), atol=1e-12)


def test_best_single_is_not_misled_by_who_got_the_hard_queries(tmp_path: Path) -> None:
    """The good arm was mostly given the hard queries: its plain mean is the lower one."""
    rng, rows = np.random.default_rng(0), []
    for number in range(900):
        hard = number % 3 > 0
        for model, easy_score, hard_score in (("good", 1.0, 0.4), ("poor", 0.9, 0.1)):
            score = float(rng.random() < (hard_score if hard else easy_score))
            split = ("train", "validation", "test")[number // 3 % 3]
            rows.append({"task": "t", "query_id": f"{number}", "prompt": f"p{number}", "model": model, "strategy": "s"})
            rows[-1] |= {"score": score, "split": split, "hard": hard}
    complete = pd.DataFrame(rows)
    kept = []
    for _, pair in complete.groupby("query_id", sort=False):
        chance = np.array([0.9, 0.1] if pair["hard"].iloc[0] else [0.1, 0.9])
        row = rng.choice(2, p=chance)
        kept.append(pair.iloc[[row]].assign(propensity=chance[row]))
    log = pd.concat(kept).drop(columns="hard")
    train = log[log["split"] == "train"].groupby("model")["score"].mean()
    assert train["good"] < train["poor"]
    log.to_parquet(tmp_path / "log.parquet", index=False)
    result = cli_run(
        "run", "--router", "best-single", "--outcomes", tmp_path / "log.parquet", "--runs", tmp_path / "runs"
    )
    assert result.exit_code == 0, result.output
    (folder,) = (tmp_path / "runs").glob("best-single-*")
    assert set(pd.read_parquet(folder / "decisions.parquet")["arm"]) == {"good|s"}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs on a log of 1,500 queries, and runs of the same routers' twin file with every outcome."""
    folder = tmp_path_factory.mktemp("both")
    complete = small_log(1500)
    complete.to_parquet(folder / "complete.parquet", index=False)
    policy = {"geo": np.array([0.5, 0.3, 0.2]), "law": np.array([0.25, 0.25, 0.5])}
    logged(complete, by_task=policy).to_parquet(folder / "log.parquet", index=False)
    names = ("ridge", "linucb", "best-single", "random")
    words = [part for name in names for part in ("--router", name)]
    result = cli_run("run", *words, "--seeds", 2, "--outcomes", folder / "log.parquet", "--runs", folder / "runs")
    assert result.exit_code == 0, result.output
    assert "a log of single choices" in result.output
    return folder, folder / "runs"


def rows_of(runs: Path) -> dict[str, dict[str, object]]:
    shown = cli_run("compare", runs, "--format", "json")
    assert shown.exit_code == 0, shown.output
    return {row["router"]: row for row in json.loads(shown.output)}


def test_estimates_hold_the_truth_of_the_choices_that_were_made(both: tuple[Path, Path]) -> None:
    folder, runs = both
    bench = load_bench(folder / "complete.parquet")
    test = bench.splits.test
    arms = {str(arm): index for index, arm in enumerate(test.arms)}
    log = load_bench(folder / "log.parquet")
    rows = rows_of(runs)
    for name in ("ridge", "linucb", "best-single", "random", "knn", "cheapest"):
        truths, accuracies, costs = [], [], []
        for run in sorted(runs.glob(f"{name}-*")):
            decided = pd.read_parquet(run / "decisions.parquet").sort_values(["task", "query_id"])
            assert decided["query_id"].tolist() == test.query_id_Q.tolist()
            arm_Q = decided["arm"].map(arms).to_numpy()
            score_Q, cost_Q = (value_QA[np.arange(len(test)), arm_Q] for value_QA in (test.score_QA, test.cost_QA))
            # Judged by the log's own objective: its reference cost is estimated.
            truths.append(
                np.mean([log.objective.utility(score_Q, cost_Q)[test.task_Q == t].mean() for t in test.tasks])
            )
            accuracies.append(np.mean([score_Q[test.task_Q == task].mean() for task in test.tasks]))
            costs.append(1000 * np.mean([cost_Q[test.task_Q == task].mean() for task in test.tasks]))
        for figure, truth in (
            ("snips", truths), ("dr", truths), ("ips", truths), ("accuracy", accuracies), ("cost_usd_per_1k", costs),
        ):  # fmt: skip
            low, high = rows[name][figure]["ci"]
            # Wider than the interval by a third: these are thirty intervals at once.
            spare = (high - low) / 3
            assert low - spare <= np.mean(truth) <= high + spare, (name, figure)
    assert rows["ridge"]["snips"]["value"] > rows["best-single"]["snips"]["value"]
    assert rows["linucb"]["snips"]["value"] > rows["best-single"]["snips"]["value"]
    assert rows["ridge"]["against_logged"]["ci"][0] > 0
    assert rows["ridge"]["against_logged_p_adjusted"] < 0.05
    assert rows["best-single"]["against_baseline"] is None


def test_the_log_itself_is_a_row_of_plain_means(both: tuple[Path, Path]) -> None:
    folder, runs = both
    test = pd.read_parquet(folder / "log.parquet").query("split == 'test'")
    row = rows_of(runs)["logged"]
    assert row["accuracy"]["value"] == pytest.approx(test.groupby("task")["score"].mean().mean())
    assert row["cost_usd_per_1k"]["value"] == pytest.approx(1000 * test.groupby("task")["cost_usd"].mean().mean())
    assert row["matched"] == 1
    assert "oracle" not in rows_of(runs)


def test_reports_of_a_log(both: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, runs = both
    monkeypatch.setenv("COLUMNS", "120")
    table = cli_run("compare", runs).output
    assert "utility (SNIPS)" in table
    assert max(map(len, table.splitlines())) <= 120
    written = cli_run("leaderboard", runs, "--out", tmp_path / "board")
    assert written.exit_code == 0, written.output
    readme = (tmp_path / "board" / "README.md").read_text(encoding="utf-8")
    assert "against best-single" in readme
    assert "`recal-bench run --router ridge" in readme
    parsed = json.loads((tmp_path / "board" / "leaderboard.json").read_text(encoding="utf-8"))
    assert parsed["tables"][0]["data"]["logged"] is True
    (ridge,) = runs.glob("ridge-*")
    shown = cli_run("show", ridge)
    assert shown.exit_code == 0, shown.output


def test_what_has_too_little_overlap_is_refused_with_the_reason(tmp_path: Path) -> None:
    """The log hardly ever took the arm that is best on law."""
    scarce = {"geo": np.array([0.98, 0.01, 0.01]), "law": np.array([0.98, 0.01, 0.01])}
    logged(small_log(600), by_task=scarce).to_parquet(tmp_path / "log.parquet", index=False)
    words = ("--outcomes", tmp_path / "log.parquet", "--runs", tmp_path / "runs")
    result = cli_run("run", "--router", "dearest", *words)
    assert result.exit_code == 0, result.output
    assert "No estimate for dearest: " in result.output
    row = rows_of(tmp_path / "runs")["dearest"]
    assert row["snips"] is row["dr"] is row["ips"] is row["accuracy"] is None
    assert row["refusal"]
    assert rows_of(tmp_path / "runs")["cheapest"]["snips"] is not None


@pytest.mark.parametrize("name", ["recal", "elo", "svm"])
@pytest.mark.parametrize("command", ["run", "tune"])
def test_routers_that_compare_arms_are_refused_before_any_work(tmp_path: Path, name: str, command: str) -> None:
    path = tmp_path / "log.parquet"
    logged(small_log(60)).to_parquet(path, index=False)
    words = ["--out", tmp_path / "tuned.json"] if command == "tune" else ["--runs", tmp_path / "runs"]
    result = cli_run(command, "--router", name, "--outcomes", path, *words)
    assert result.exit_code == 2
    assert f"router {name} learns by comparing arms" in result.output


def test_settings_are_tuned_by_the_estimate_on_validation(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    logged(small_log(600)).to_parquet(path, index=False)
    result = cli_run("tune", "--router", "ridge", "--trials", 2, "--outcomes", path, "--out", tmp_path / "tuned.json")
    assert result.exit_code == 0, result.output
    (tuned,) = json.loads((tmp_path / "tuned.json").read_text(encoding="utf-8"))
    assert all(0.3 < trial["validation_utility"] < 1.1 for trial in tuned["trials"])


def test_a_share_of_a_log_is_learnt_from(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    logged(small_log(600)).to_parquet(path, index=False)
    words = ("--outcomes", path, "--runs", tmp_path / "runs", "--train-fraction", "0.3,1")
    result = cli_run("run", "--router", "ridge", *words)
    assert result.exit_code == 0, result.output
    assert "0.3 of train" in result.output


def test_a_log_without_costs_estimates_accuracy(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    frame = logged(small_log(900))
    frame.loc[::7, "cost_usd"] = np.nan
    frame.to_parquet(path, index=False)
    result = cli_run("run", "--router", "ridge", "--outcomes", path, "--runs", tmp_path / "runs")
    assert result.exit_code == 0, result.output
    row = rows_of(tmp_path / "runs")["ridge"]
    assert row["metric"] == "accuracy"
    assert row["snips"] == row["accuracy"]
    assert row["cost_usd_per_1k"] is None
    assert "accuracy (SNIPS)" in result.output
