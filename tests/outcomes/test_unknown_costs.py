"""Costs that are known only in part: refused, left out or estimated, and said in every table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from small_log import small_log

from recal_bench.cli import cli
from recal_bench.errors import OutcomesError, SettingsError
from recal_bench.experiments.bench import load_bench

RATES = {"atlas": (0.4e-6, 1.6e-6), "codex-iuris": (3e-6, 12e-6)}
POOL = """
pool: mine
endpoints: {e: {base_url: "http://127.0.0.1:1/v1", api_key_env: null}}
models:
  atlas: {endpoint: e, served_model: atlas, context_length: 8192, price: {date: 2026-11-01, input: 0.4, output: 1.6}}
  codex-iuris:
    {endpoint: e, served_model: codex, context_length: 8192, price: {date: 2026-11-01, input: 3, output: 12}}
"""


def cli_run(*words: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, words)])


def priced_log() -> pd.DataFrame:
    """A log whose costs are exactly tokens by price."""
    frame, rng = small_log(120, cost=False), np.random.default_rng(0)
    prompt, completion = rng.integers(20, 400, len(frame)), rng.integers(5, 300, len(frame))
    rates = np.array([RATES[model] for model in frame["model"]])
    cost = prompt * rates[:, 0] + completion * rates[:, 1]
    return frame.assign(prompt_tokens=prompt, completion_tokens=completion, cost_usd=cost)


def with_unknown(frame: pd.DataFrame, path: Path, n: int = 5) -> Path:
    """The log with `n` costs less, of every part of it."""
    frame = frame.copy()
    frame.loc[frame.index[np.linspace(0, len(frame) - 1, n).astype(int)], "cost_usd"] = np.nan
    frame.to_parquet(path, index=False)
    return path


def cost_of(bench) -> np.ndarray:
    return np.concatenate([part.cost_QA for _, part in sorted(bench.splits.parts.items())])


def test_a_small_share_stops_a_run_and_says_what_to_do(tmp_path: Path) -> None:
    path = with_unknown(priced_log(), tmp_path / "log.parquet")
    refused = cli_run("run", "--router", "knn", "--outcomes", path, "--runs", tmp_path / "r")
    assert refused.exit_code == 2
    assert "the cost of 5 of 360 outcomes (1%) is unknown, of " in refused.output
    assert "--unknown-cost drop" in refused.output
    assert "--unknown-cost estimate" in refused.output
    shown = cli_run("validate", path)
    assert "`run` needs --unknown-cost drop or estimate" in shown.output
    assert f"--outcomes {path} --unknown-cost estimate" in shown.output


def test_a_large_share_is_scored_without_costs_but_not_where_a_rule_is_given(tmp_path: Path) -> None:
    path = with_unknown(priced_log(), tmp_path / "log.parquet", 60)
    bench = load_bench(path)
    assert bench.data.unknown_costs == 60
    assert not bench.objective.has_cost
    with pytest.raises(OutcomesError, match="the cost of 60 of 360 outcomes"):
        load_bench(path, unknown_cost="error")
    assert load_bench(path, unknown_cost="estimate").objective.has_cost


def test_drop_leaves_out_the_queries_or_beside_restrict_the_outcomes(tmp_path: Path) -> None:
    path = with_unknown(priced_log(), tmp_path / "log.parquet")
    bench = load_bench(path, unknown_cost="drop")
    assert sum(bench.data.n_queries.values()) == 115
    assert any("5 of 120 queries with such an outcome are left out" in note for note in bench.data.notes)
    assert not np.isnan(cost_of(bench)).any()
    narrow = load_bench(path, unknown_cost="drop", missing="restrict")
    assert sum(narrow.data.n_queries.values()) == 120
    assert np.isnan(cost_of(narrow)).sum() == 5
    assert bench.data != narrow.data


@pytest.mark.parametrize("with_prices", [True, False])
def test_estimates_from_tokens_are_exact_where_tokens_make_the_cost(tmp_path: Path, with_prices: bool) -> None:
    (tmp_path / "pool.yaml").write_text(POOL)
    priced_log().to_parquet(tmp_path / "whole.parquet", index=False)
    path = with_unknown(priced_log(), tmp_path / "log.parquet", 12)
    prices = tmp_path / "pool.yaml" if with_prices else None
    bench = load_bench(path, unknown_cost="estimate", prices=prices)
    np.testing.assert_allclose(cost_of(bench), cost_of(load_bench(tmp_path / "whole.parquet")), rtol=1e-9)
    how = (
        "12 by their tokens and the price book" if with_prices else "12 by their tokens at the arm's own rate on train"
    )
    assert any(how in note for note in bench.data.notes)
    assert bench.data.cost_rule.startswith("estimate by price book " if with_prices else "estimate")


def test_without_tokens_the_arm_s_mean_train_cost_stands_in(tmp_path: Path) -> None:
    frame = priced_log().drop(columns=["prompt_tokens", "completion_tokens"])
    bench = load_bench(with_unknown(frame, tmp_path / "log.parquet"), unknown_cost="estimate")
    assert any("5 as the arm's mean train cost" in note for note in bench.data.notes)


def test_an_arm_whose_cost_is_known_nowhere_needs_prices(tmp_path: Path) -> None:
    frame = priced_log()
    frame.loc[frame["model"] == "atlas", "cost_usd"] = np.nan
    frame.to_parquet(tmp_path / "log.parquet", index=False)
    with pytest.raises(OutcomesError, match=r"nothing to go by for 120 outcomes, of 1 arm: atlas\|direct"):
        load_bench(tmp_path / "log.parquet", unknown_cost="estimate")
    (tmp_path / "pool.yaml").write_text(POOL)
    assert load_bench(
        tmp_path / "log.parquet", unknown_cost="estimate", prices=tmp_path / "pool.yaml"
    ).objective.has_cost
    with pytest.raises(OutcomesError, match="without their queries no"):
        load_bench(tmp_path / "log.parquet", unknown_cost="drop")


def test_a_file_without_any_cost_is_priced_by_its_tokens(tmp_path: Path) -> None:
    (tmp_path / "pool.yaml").write_text(POOL)
    priced_log().drop(columns="cost_usd").to_parquet(tmp_path / "log.parquet", index=False)
    priced_log().to_parquet(tmp_path / "whole.parquet", index=False)
    bench = load_bench(tmp_path / "log.parquet", unknown_cost="estimate", prices=tmp_path / "pool.yaml")
    np.testing.assert_allclose(cost_of(bench), cost_of(load_bench(tmp_path / "whole.parquet")), rtol=1e-9)
    assert not load_bench(tmp_path / "log.parquet", unknown_cost="estimate").objective.has_cost


def test_rules_are_kept_apart_and_the_command_repeats_them(tmp_path: Path) -> None:
    path, runs = with_unknown(priced_log(), tmp_path / "log.parquet"), tmp_path / "r"
    for rule in ("drop", "estimate"):
        done = cli_run("run", "--router", "best-single", "--outcomes", path, "--unknown-cost", rule, "--runs", runs)
        assert done.exit_code == 0, done.output
        assert f"unknown costs: {rule}" in done.output
    shown = cli_run("compare", runs, "--format", "csv")
    assert f"--outcomes {path} --unknown-cost estimate" in shown.output
    assert f"--outcomes {path} --unknown-cost drop" in shown.output


def test_a_rule_for_what_does_not_occur_changes_nothing(tmp_path: Path) -> None:
    priced_log().to_parquet(tmp_path / "log.parquet", index=False)
    assert load_bench(tmp_path / "log.parquet", unknown_cost="drop").data == load_bench(tmp_path / "log.parquet").data


def test_other_rules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean estimate"):
        load_bench(unknown_cost="estimated")
    (tmp_path / "pool.yaml").write_text(POOL)
    with pytest.raises(SettingsError, match="--prices is for --unknown-cost estimate"):
        load_bench(prices=tmp_path / "pool.yaml")
    with pytest.raises(SettingsError, match="leave them out without --outcomes"):
        load_bench(zero_cost="free")


def test_a_log_of_single_choices_may_lack_costs_too(tmp_path: Path) -> None:
    log = priced_log().groupby(["task", "query_id"], sort=False).sample(1, random_state=0).assign(propensity=1 / 3)
    bench = load_bench(with_unknown(log, tmp_path / "log.parquet"), unknown_cost="drop")
    assert sum(bench.data.n_queries.values()) == 115


def test_an_arm_that_is_free_beside_dear_ones_is_a_note_in_every_table(tmp_path: Path) -> None:
    frame, runs = priced_log(), tmp_path / "r"
    frame.loc[frame["model"] == "atlas", "cost_usd"] = 0.0
    frame.to_parquet(tmp_path / "log.parquet", index=False)
    said = "the cost is always 0 for 1 of 3 arms, above 0 for others"
    shown = cli_run("validate", tmp_path / "log.parquet")
    assert said in shown.output
    done = cli_run("run", "--router", "knn", "--outcomes", tmp_path / "log.parquet", "--runs", runs)
    assert done.exit_code == 0, done.output
    assert said in " ".join(done.output.split())
    bench = load_bench(tmp_path / "log.parquet", zero_cost="unknown")
    assert bench.data.unknown_costs == 120


def test_scales_of_scores_at_the_command_line(tmp_path: Path) -> None:
    frame = priced_log()
    frame.assign(score=1 + 4 * frame["score"]).to_parquet(tmp_path / "log.parquet", index=False)
    options = ("--score-range", "1,5")
    shown = cli_run("validate", tmp_path / "log.parquet", *options)
    assert shown.exit_code == 0, shown.output
    assert f"--outcomes {tmp_path}/log.parquet --score-range 1,5" in shown.output
    done = cli_run("run", "--router", "knn", "--outcomes", tmp_path / "log.parquet", *options, "--runs", tmp_path / "r")
    assert done.exit_code == 0, done.output
    for wrong in ("5,1", "one,five", "1", "0,nan"):
        refused = cli_run("validate", tmp_path / "log.parquet", "--score-range", wrong)
        assert refused.exit_code == 2
        assert "give the lowest and the highest possible score" in refused.output
