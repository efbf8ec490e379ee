"""Simulated outcomes: ranked by what is to be expected, and several worlds as one table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats
from synthetic_runs import World, write_run, write_standard_runs

from recal_bench.cli import cli
from recal_bench.experiments.records import read_runs
from recal_bench.reporting.figures import compare, worlds


def world(number: int, **changed: object) -> World:
    return World(f"embedded-seed{number}", f"{number:012}", seed=number, simulated=True, expected=True, **changed)


def write(folder: Path, numbers: range, routers: tuple[str, ...] = ("lucky", "good")) -> None:
    """In every world the one arm is worth more, and the other gives better answers by luck."""
    for number in numbers:
        made = world(number)
        write_standard_runs(folder, made)
        for router in routers:
            for seed in range(3):
                arm_Q = np.full(len(made.keys), 1 if router == "good" else 0)
                rng = np.random.default_rng([number, seed])
                arm_Q[rng.random(len(arm_Q)) < 0.1 + 0.02 * number] = 3
                if router == "lucky":
                    arm_Q = np.where(made.score_QA[:, 2] > 0, 2, 3)
                write_run(folder, made, router, arm_Q, seed=seed)


def test_rows_are_ranked_and_compared_by_what_is_to_be_expected(tmp_path: Path) -> None:
    write(tmp_path, range(1, 2))
    (table,) = worlds.tables(read_runs(tmp_path))
    rows = {row.router: row for row in table.rows}
    good, lucky = rows["good"], rows["lucky"]
    assert lucky.utility is not None
    assert good.utility is not None
    assert lucky.utility > good.utility
    names = [row.router for row in table.rows]
    assert names.index("good") < names.index("lucky")
    assert good.vs_baseline is not None
    assert good.utility_vs_baseline is not None
    assert (good.vs_baseline.metric, good.utility_vs_baseline.metric) == ("expected utility", "utility")
    assert good.expected_utility_ci is not None
    assert good.utility_ci is not None
    # What the answers add is luck: without it the interval is far narrower.
    assert np.diff(good.expected_utility_ci) < 0.5 * np.diff(good.utility_ci)
    assert any("ranked and compared by expected utility" in note for note in table.notes)


def test_a_row_whose_expectation_is_unknown_is_held_against_the_baseline_by_utility(tmp_path: Path) -> None:
    made = world(1)
    write_standard_runs(tmp_path, made)
    several = made.decisions(np.full(len(made.keys), 2)).assign(expected_utility=np.nan)
    write_run(tmp_path, made, "cascade", np.full(len(made.keys), 2), decisions=several, deterministic=True)
    (table,) = worlds.tables(read_runs(tmp_path))
    row = next(row for row in table.rows if row.router == "cascade")
    assert row.expected_utility is None
    assert row.vs_baseline is not None
    assert row.vs_baseline.metric == "utility"
    assert any("no expected utility is known of cascade" in note for note in table.notes)


def test_several_worlds_are_one_table_whose_intervals_hold_their_luck(tmp_path: Path) -> None:
    write(tmp_path, range(1, 5))
    runs = read_runs(tmp_path)
    single = compare.tables(runs)
    (table,) = worlds.tables(runs)
    assert len(single) == 4
    assert table.data.name == "embedded-seed1 to embedded-seed4 (4 worlds)"
    assert table.rows[0].n_queries == 4 * single[0].rows[0].n_queries
    values = [next(row.expected_utility for row in each.rows if row.router == "good") for each in single]
    pooled = next(row for row in table.rows if row.router == "good")
    assert pooled.expected_utility == pytest.approx(np.mean(values))
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert pooled.expected_utility_ci == pytest.approx((low, high))
    assert pooled.vs_baseline is not None
    differences = [
        row.vs_baseline.difference for each in single for row in each.rows if row.router == "good" and row.vs_baseline
    ]
    # Adjusted over the routers of the table, of which this one is not the last to be tested.
    assert pooled.vs_baseline.p_adjusted is not None
    assert pooled.vs_baseline.p_adjusted >= stats.ttest_1samp(differences, 0).pvalue
    assert any(note.startswith("4 worlds: every figure is the mean over them") for note in table.notes)


def test_ranks_over_worlds_hold_their_luck(tmp_path: Path) -> None:
    write(tmp_path, range(1, 6))
    (table,) = worlds.tables(read_runs(tmp_path))
    rows = {row.router: row for row in table.rows}
    routers = [row for row in table.rows if not row.reference]
    assert routers[0].tie_group == "best"
    for place, row in enumerate(routers, 1):
        assert row.rank is not None
        assert row.rank[0] <= place <= row.rank[1]
    assert rows["lucky"].tie_group is None
    assert rows["oracle"].rank is rows["oracle"].tie_group is None
    assert sum("cannot be told from the best" in note for note in table.notes) == 1


def test_a_router_that_was_not_run_on_all_worlds_is_named_and_left_out(tmp_path: Path) -> None:
    write(tmp_path, range(1, 3))
    write(tmp_path / "more", range(3, 4), routers=("good",))
    (table,) = worlds.tables([*read_runs(tmp_path), *read_runs(tmp_path / "more")])
    assert "lucky" not in [row.router for row in table.rows]
    assert any("not run on all of them, and left out: lucky" in note for note in table.notes)


def test_worlds_of_other_designs_and_logs_stay_apart(tmp_path: Path) -> None:
    for number, changed in enumerate(({}, {"alpha": 0.5}, {"simulated": False})):
        made = World(f"outcomes{number}", f"{number:012}", **{"simulated": True, "expected": True, **changed})
        write_standard_runs(tmp_path / str(number), made)
    runs = [run for number in range(3) for run in read_runs(tmp_path / str(number))]
    assert len(worlds.tables(runs)) == 3


def test_worlds_are_run_tuned_and_written_by_the_command_line(tmp_path: Path) -> None:
    def call(*words: str) -> str:
        result = CliRunner().invoke(cli, list(words))
        assert result.exit_code == 0, result.output
        return result.output

    runs, tuned, board = (str(tmp_path / name) for name in ("runs", "tuned.json", "board"))
    said = call("tune", "--router", "knn", "--tasks", "nq", "--trials", "2", "--worlds", "2", "--out", tuned)
    assert "--tasks nq --worlds 2 --tuned" in said.replace("\n", " ") or "--worlds 2" in said
    words = ("--router", "knn,random", "--tasks", "nq", "--world-seed", "1", "--worlds", "2", "--tuned", tuned)
    shown = call("run", *words, "--runs", runs)
    assert "(2 worlds)" in shown
    rows = json.loads(call("compare", runs, "--format", "json"))
    knn = next(row for row in rows if row["router"] == "knn")
    assert "2 trials on embedded, embedded-seed1" in knn["tuned"]
    assert "--world-seed 1 --worlds 2" in knn["command"].replace("--tasks nq ", "")
    assert knn["expected_utility_ci"][0] < knn["expected_utility"] < knn["expected_utility_ci"][1]
    call("leaderboard", runs, "--out", board)
    assert "2 worlds" in (tmp_path / "board" / "README.md").read_text(encoding="utf-8")
    refused = CliRunner().invoke(cli, ["run", "--router", "knn", "--outcomes", "log.csv", "--worlds", "2"])
    assert refused.exit_code == 2
    assert "several worlds are for the embedded pool" in refused.output
