"""From run records to rows."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from synthetic_runs import World, write_run, write_standard_runs

from recal_bench.cli import cli
from recal_bench.errors import RecalBenchError
from recal_bench.evaluation.bootstrap import iqm
from recal_bench.evaluation.metrics import task_means
from recal_bench.evaluation.statistics import crossed_interval, mde
from recal_bench.experiments.records import read_runs
from recal_bench.reporting.figures.compare import compare, tables
from recal_bench.reporting.text.rows import as_json

CONTRACT = [
    "router",
    "settings",
    "settings_hash",
    "tuned",
    "reference",
    "outcomes",
    "simulated",
    "alpha",
    "n_seeds",
    "n_queries",
    "tie_group",
    "rank",
    "accuracy_macro",
    "accuracy_micro",
    "cost_usd_per_1k",
    "router_cost_usd_per_1k",
    "savings",
    "utility",
    "utility_ci",
    "vs_baseline",
    "iqm",
    "gap_closed",
    "regret",
    "top_arm_share",
    "routing_entropy",
    "seed_sd",
    "collapse_rate",
    "per_task",
    "fit_seconds",
    "route_us_per_query",
    "command",
    "data_hash",
    "missing",
    "cost_rule",
    "encoder",
    "route_us_p95",
    "splits",
]


LATER = "2026-01-02T00:00:00+00:00"


def macro(frame, column):
    return frame.groupby("task")[column].mean().mean()


def rows_by_router(runs, **options):
    return {row.router: row for row in compare(runs, **options)}


def test_rows_have_the_keys_of_the_contract_and_no_nan(tmp_path):
    write_standard_runs(tmp_path, World(cost=False))
    for row in compare(read_runs(tmp_path)):
        values = as_json(row)
        assert set(CONTRACT) <= set(values)
        json.dumps(values, allow_nan=False)
        assert values["cost_usd_per_1k"] is values["savings"] is values["regret"] is values["collapse_rate"] is None
        if row.router == "recal":
            keys = {"metric", "difference", "ci", "p_adjusted", "p_improvement", "p_improvement_ci", "mde"}
            assert set(values["vs_baseline"]) == set(values["accuracy_vs_baseline"]) == keys
            assert [values[name]["metric"] for name in ("vs_baseline", "accuracy_vs_baseline")] == [
                "utility",
                "accuracy",
            ]


def test_figures_agree_with_the_decisions(tmp_path):
    world = World(queries=30)
    write_standard_runs(tmp_path, world, seeds=4)
    row = rows_by_router(read_runs(tmp_path))["recal"]
    frames = [run.decisions() for run in read_runs(tmp_path) if run.record.configuration.router == "recal"]
    by_task = pd.concat(frames).groupby("task").mean(numeric_only=True)
    assert row.n_seeds == 4
    assert row.n_queries == 90
    assert row.accuracy_macro == pytest.approx(by_task["score"].mean())
    assert row.per_task == pytest.approx(by_task["score"].to_dict())
    assert row.cost_usd_per_1k == pytest.approx(1000 * by_task["cost_usd"].mean())
    assert row.utility == pytest.approx(by_task["utility"].mean())
    # The utility is linear, so a table's own columns give it back.
    assert row.utility == pytest.approx(row.accuracy_macro - 0.2 * row.cost_usd_per_1k / 1000 / 0.004)
    seed_means = [frame.groupby("task")["utility"].mean().mean() for frame in frames]
    assert row.seed_sd == pytest.approx(np.std(seed_means, ddof=1))
    baseline = next(run for run in read_runs(tmp_path) if run.record.configuration.router == "best-single").decisions()
    utility_SQ = np.stack([frame["utility"] for frame in frames])
    interval = crossed_interval(
        [utility_SQ - baseline["utility"].to_numpy()], world.keys["task"].to_numpy(dtype=object)
    )
    assert row.vs_baseline.difference == pytest.approx(interval.estimate)
    assert row.vs_baseline.ci == pytest.approx((interval.low, interval.high))
    assert row.vs_baseline.p_adjusted >= interval.p
    assert row.command == "recal-bench run --router recal --outcomes toy.parquet --seeds 4"
    assert row.route_us_per_query == 121.5


def test_roles_of_the_rows(tmp_path):
    write_standard_runs(tmp_path, World(simulated=True))
    rows = compare(read_runs(tmp_path))
    by_router = {row.router: row for row in rows}
    assert [row.reference for row in rows] == sorted(row.reference for row in rows)
    routers = [row.utility for row in rows if not row.reference]
    assert routers == sorted(routers, reverse=True)
    assert by_router["oracle"].gap_closed == pytest.approx(1)
    assert by_router["best-single"].gap_closed == 0
    assert by_router["best-single"].vs_baseline is None
    assert by_router["best-accuracy"].savings == pytest.approx(0)
    assert by_router["oracle"].vs_baseline.p_adjusted is None
    assert by_router["best-single"].top_arm_share == 1
    assert by_router["best-single"].routing_entropy == 0
    assert by_router["random"].routing_entropy == pytest.approx(math.log(4), abs=0.05)
    assert by_router["recal"].regret > 0
    assert by_router["knn"].encoder == "tfidf"


def test_routers_have_ranks_and_those_that_may_be_the_best_are_a_group(tmp_path):
    world = World(queries=60, splits=("ood", "test"))
    write_standard_runs(tmp_path, world)
    rows = rows_by_router(read_runs(tmp_path))
    routers = [row for row in rows.values() if not row.reference]
    # It mostly takes the best arm in hindsight, which no other router does.
    assert (rows["recal"].tie_group, rows["recal"].rank) == ("best", (1, 1))
    for row in rows.values():
        for figures in (row, row.splits["ood"]):
            if row.reference:
                assert figures.tie_group is figures.rank is None
            else:
                assert (figures.tie_group == "best") == (row.router == "recal")
                assert (figures.rank == (1, 1)) == (row.router == "recal")
                assert 1 <= figures.rank[0] <= figures.rank[1] <= len(routers)


def test_ranks_are_by_accuracy_where_no_utility_may_be_reported(tmp_path):
    write_standard_runs(tmp_path, World(queries=60, unknown_costs=3))
    rows = rows_by_router(read_runs(tmp_path))
    assert rows["recal"].utility is None
    assert rows["recal"].tie_group == "best"
    assert rows["random"].rank[0] > 1


def test_savings_count_the_routers_own_cost(tmp_path):
    world = World()
    write_standard_runs(tmp_path, world)
    arm_Q = world.score_QA.argmax(axis=1)
    write_run(tmp_path, world, "free", arm_Q, deterministic=True)
    write_run(tmp_path, world, "billed", arm_Q, deterministic=True, router_cost=0.0004)
    rows = rows_by_router(read_runs(tmp_path))
    assert rows["billed"].router_cost_usd_per_1k == pytest.approx(0.4)
    assert rows["billed"].cost_usd_per_1k == pytest.approx(rows["free"].cost_usd_per_1k)
    assert rows["billed"].savings < rows["free"].savings
    assert rows["billed"].utility == pytest.approx(rows["free"].utility - 0.2 * 0.1)


def test_different_data_never_share_a_table(tmp_path):
    for world in (World(), World(alpha=0.5), World(name="other.parquet", data_hash="ff"), World(missing="zero")):
        write_standard_runs(tmp_path, world)
    found = tables(read_runs(tmp_path))
    assert [(table.data.name, table.data.alpha, table.data.missing) for table in found] == [
        ("other.parquet", 0.2, "error"),
        ("toy.parquet", 0.2, "error"),
        ("toy.parquet", 0.2, "zero"),
        ("toy.parquet", 0.5, "error"),
    ]
    assert all({row.alpha for row in table.rows} == {table.data.alpha} for table in found)


def test_results_do_not_depend_on_the_order_of_runs_and_decisions(tmp_path):
    world = World()
    write_standard_runs(tmp_path, world)
    before = compare(read_runs(tmp_path))
    for run in read_runs(tmp_path):
        shuffled = run.decisions().sample(frac=1, random_state=run.record.configuration.seed)
        shuffled.to_parquet(run.folder / "decisions.parquet", index=False)
    assert compare(read_runs(tmp_path)[::-1]) == before


def test_settings_make_rows_of_their_own_and_the_baseline_may_name_one(tmp_path):
    world = World()
    write_standard_runs(tmp_path, world)
    write_run(tmp_path, world, "knn", np.arange(120) % 3, settings={"k": 50}, deterministic=True)
    runs = read_runs(tmp_path)
    knn = [row for row in compare(runs) if row.router == "knn"]
    assert len(knn) == 2
    with pytest.raises(RecalBenchError, match=r"knn names 2 rows .* name one of knn@"):
        compare(runs, baseline="knn")
    named = f"knn@{knn[0].settings_hash}"
    against = compare(runs, baseline=named)
    assert [row.settings_hash for row in against if row.router == "knn" and row.vs_baseline is None] == [
        knn[0].settings_hash
    ]
    assert all(row.gap_closed == other.gap_closed for row, other in zip(against, compare(runs), strict=True))


def test_the_same_result_twice_is_one_row_and_takes_no_word(tmp_path):
    world = World()
    write_standard_runs(tmp_path, world)
    before = rows_by_router(read_runs(tmp_path))["recal"].vs_baseline.p_adjusted
    same = {"settings": {"k": 10}, "deterministic": True, "started": LATER}
    write_run(tmp_path, world, "knn", np.arange(120) % 2 + 1, versions={"numpy": "2.1.0"}, **same)
    write_run(tmp_path, world, "best-single", np.ones(120, dtype=int), deterministic=True, device="cuda")
    (table,) = tables(read_runs(tmp_path))
    assert (
        [row.router for row in table.rows].count("knn") == [row.router for row in table.rows].count("best-single") == 1
    )
    assert not any("older records" in note for note in table.notes)
    assert next(row for row in table.rows if row.router == "recal").vs_baseline.p_adjusted == before


def test_of_equal_configurations_the_newest_stands_and_older_ones_are_named(tmp_path):
    world = World()
    write_standard_runs(tmp_path, world)
    now = {"settings": {"k": 10}, "deterministic": True, "started": LATER}
    newest = write_run(tmp_path, world, "knn", np.ones(120, dtype=int), source="ba9876543210", **now)
    (table,) = tables(read_runs(tmp_path))
    (row,) = [row for row in table.rows if row.router == "knn"]
    assert row.accuracy_macro == pytest.approx(macro(newest.decisions(), "score"))
    (note,) = [note for note in table.notes if "older records" in note]
    assert "knn (1, knn-" in note
    assert "the router's code" in note
    assert "recal-bench runs --prune" in note


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"versions": {"python": "3.11", "numpy": "2.1.0"}}, "numpy 2.0.0, now 2.1.0"),
        ({"device": "cuda"}, "device cpu, now cuda"),
    ],
)
def test_what_an_older_record_was_made_with_is_said(tmp_path, made, says):
    world = World()
    write_standard_runs(tmp_path, world)
    write_run(
        *(tmp_path, world, "knn", np.ones(120, dtype=int)),
        **{"settings": {"k": 10}, "deterministic": True, "started": LATER, **made},
    )
    assert any(says in note for note in tables(read_runs(tmp_path))[0].notes)


def test_the_name_of_the_file_makes_no_table_of_its_own(tmp_path):
    write_standard_runs(tmp_path, World())
    renamed = World(name="renamed.csv")
    write_run(tmp_path, renamed, "twin", np.ones(120, dtype=int), deterministic=True, started=LATER)
    (table,) = tables(read_runs(tmp_path))
    assert table.data.name == "renamed.csv"
    assert {"twin", "knn"} <= {row.router for row in table.rows}
    assert any("toy.parquet" in note for note in table.notes)
    configuration = read_runs(tmp_path)[0].record.configuration
    other = configuration.data.model_copy(update={"name": "elsewhere.jsonl", "notes": ("said once",)})
    assert configuration.model_copy(update={"data": other}).key == configuration.key
    more = configuration.data.model_copy(update={"hash": "another"})
    assert configuration.model_copy(update={"data": more}).key != configuration.key


def test_seeds_that_were_run_by_different_code_are_said(tmp_path):
    world = World()
    write_standard_runs(tmp_path, world)
    settings = {"steps": 12, "lr": 0.01}
    write_run(tmp_path, world, "recal", np.ones(120, dtype=int), seed=0, settings=settings, source="new", started=LATER)
    (table,) = tables(read_runs(tmp_path))
    assert next(row for row in table.rows if row.router == "recal").n_seeds == 3
    assert any("not all seeds of recal were run by the same code" in note for note in table.notes)


def test_tuning_that_arrives_at_known_settings_adds_no_second_row(tmp_path):
    world = World()
    write_standard_runs(tmp_path, world)
    write_run(tmp_path, world, "knn", np.arange(120) % 2 + 1, settings={"k": 10}, deterministic=True, tuned="8 trials")
    knn = [row for row in compare(read_runs(tmp_path)) if row.router == "knn"]
    assert [row.tuned for row in knn] == ["8 trials"]


def test_deterministic_routers_count_once(tmp_path):
    world = World()
    write_standard_runs(tmp_path, world)
    write_run(tmp_path, world, "best-single", np.ones(120, dtype=int), seed=1, deterministic=True)
    assert rows_by_router(read_runs(tmp_path))["best-single"].n_seeds == 1


def test_routers_with_the_same_seeds_are_paired_by_seed(tmp_path):
    """`twin` does what `recal` does seed by seed: their difference is nothing, with no uncertainty."""
    world = World()
    write_standard_runs(tmp_path, world)
    for run in read_runs(tmp_path):
        if run.record.configuration.router == "recal":
            seed = run.record.configuration.seed
            write_run(tmp_path, world, "twin", np.zeros(120, dtype=int), seed=seed, decisions=run.decisions())
    twin = rows_by_router(read_runs(tmp_path), baseline="recal")["twin"].vs_baseline
    assert (twin.difference, twin.ci, twin.p_improvement) == (0, (0, 0), pytest.approx(0.5))


def test_partly_unknown_costs_leave_accuracy(tmp_path):
    write_standard_runs(tmp_path, World(unknown_costs=7))
    (table,) = tables(read_runs(tmp_path))
    recal = next(row for row in table.rows if row.router == "recal")
    assert recal.utility is recal.utility_ci is recal.vs_baseline is recal.gap_closed is recal.cost_usd_per_1k is None
    assert recal.unknown_costs == 7
    assert recal.accuracy_vs_baseline.difference > 0
    assert recal.accuracy_vs_baseline.p_adjusted < 0.05
    routers = [row.accuracy_macro for row in table.rows if not row.reference]
    assert routers == sorted(routers, reverse=True)
    assert any("7 outcomes have no known cost" in note for note in table.notes)


def test_other_splits_have_figures_of_their_own(tmp_path):
    world = World(splits=("ood", "test"), queries=20)
    write_standard_runs(tmp_path, world)
    row = rows_by_router(read_runs(tmp_path))["recal"]
    assert row.n_queries == 60
    assert set(row.splits) == {"ood"}
    assert row.splits["ood"].n_queries == 60
    assert row.splits["ood"].accuracy_macro != row.accuracy_macro
    assert row.splits["ood"].vs_baseline.p_adjusted is not None
    # The same task in two splits: test keeps the plain name.
    assert set(row.per_task) == {*world.tasks, *(f"ood/{task}" for task in world.tasks)}


def test_one_seed_of_a_learning_router_is_said(tmp_path):
    world = World()
    write_standard_runs(tmp_path, world, seeds=1)
    (table,) = tables(read_runs(tmp_path))
    assert any(note.startswith("one training seed only: random, recal.") for note in table.notes)
    row = next(row for row in table.rows if row.router == "recal")
    assert row.seed_sd is None
    assert row.utility_ci is not None


def test_missing_baseline_names_what_is_there(tmp_path):
    write_standard_runs(tmp_path, World())
    with pytest.raises(RecalBenchError, match=r"baseline grpo has no run on toy.parquet .*best-single, cheapest, knn"):
        compare(read_runs(tmp_path), baseline="grpo")


def test_runs_on_different_queries_are_refused(tmp_path):
    world = World()
    write_standard_runs(tmp_path, world)
    other = world.decisions(np.zeros(120, dtype=int)).assign(query_id=lambda frame: "other-" + frame["query_id"])
    write_run(tmp_path, world, "other", np.zeros(120, dtype=int), decisions=other)
    with pytest.raises(RecalBenchError, match="decide on different queries"):
        compare(read_runs(tmp_path))


def twice(frame):
    return pd.concat([frame, frame.iloc[:1]])


BAD_DECISIONS = {
    "gone": None,
    "torn": None,
    "short": lambda frame: frame.iloc[:-1],
    "twice": twice,
    "column": lambda frame: frame.drop(columns="score"),
    "text": lambda frame: frame.assign(score="abc"),
}


@pytest.mark.parametrize("damage", BAD_DECISIONS)
def test_one_run_whose_decisions_are_damaged_is_left_out_with_a_note(tmp_path, damage):
    world = World()
    write_standard_runs(tmp_path, world)
    before = compare(read_runs(tmp_path))
    run = write_run(tmp_path, world, "bad", np.zeros(120, dtype=int), deterministic=True)
    path = run.folder / "decisions.parquet"
    if damage == "gone":
        path.unlink()
    elif damage == "torn":
        path.write_bytes(path.read_bytes()[:100])
    else:
        BAD_DECISIONS[damage](run.decisions()).to_parquet(path)
    (table,) = tables(read_runs(tmp_path))
    assert [row.router for row in table.rows] == [row.router for row in before]
    (note,) = [note for note in table.notes if note.startswith("left out")]
    assert run.folder.name in note
    assert "--fresh" in note


def test_where_every_run_is_damaged_the_first_is_named(tmp_path):
    world = World()
    frame = twice(world.decisions(np.zeros(120, dtype=int)))
    write_run(tmp_path, world, "best-single", np.zeros(120, dtype=int), decisions=frame, deterministic=True)
    with pytest.raises(RecalBenchError, match=r"best-single-.*--fresh"):
        compare(read_runs(tmp_path))


def test_no_test_split_is_refused(tmp_path):
    write_standard_runs(tmp_path, World(splits=("ood",)))
    with pytest.raises(RecalBenchError, match="no test query"):
        compare(read_runs(tmp_path))


def test_detectable_differences_stand_beside_the_p(tmp_path):
    world = World(unknown_costs=0)
    write_standard_runs(tmp_path, world)
    write_run(tmp_path, world, "same", np.ones(120, dtype=int), deterministic=True)
    runs = read_runs(tmp_path)
    (table,) = tables(runs)
    by_router = {row.router: row for row in table.rows}
    utility = {
        router: np.stack([run.decisions()["utility"] for run in runs if run.record.configuration.router == router])
        for router in ("recal", "best-single")
    }
    expected = mde([utility["recal"] - utility["best-single"]], world.keys["task"].to_numpy(dtype=object))
    assert by_router["recal"].vs_baseline.mde == pytest.approx(expected)
    assert by_router["oracle"].vs_baseline.mde is None
    # A router that does what the baseline does has no query to be told by.
    assert by_router["same"].vs_baseline.mde is None
    sizes = [row.vs_baseline.mde for row in table.rows if row.vs_baseline and row.vs_baseline.mde]
    (note,) = [note for note in table.notes if "MDE" in note]
    assert f"±{min(sizes):.3f} (" in note
    assert f"to ±{max(sizes):.3f} (" in note
    assert "difference of utility to best-single" in note


def test_without_utility_the_detectable_difference_is_in_points(tmp_path):
    write_standard_runs(tmp_path, World(unknown_costs=7))
    (table,) = tables(read_runs(tmp_path), aggregate="iqm")
    assert any("difference of accuracy to best-single" in note and " points (" in note for note in table.notes)
    assert {row.iqm.metric for row in table.rows} == {"accuracy"}


def test_interquartile_means_only_where_asked(tmp_path):
    world = World(tasks=("a", "b", "c", "d", "e"), splits=("ood", "test"), queries=20)
    write_standard_runs(tmp_path, world)
    runs = read_runs(tmp_path)
    plain, rows = compare(runs), rows_by_router(runs, aggregate="iqm")
    assert all(row.iqm is None and row.splits["ood"].iqm is None for row in plain)
    recal = rows["recal"]
    frames = [run.decisions() for run in runs if run.record.configuration.router == "recal"]
    frames = [frame[frame["split"] == "test"] for frame in frames]
    score_ST = task_means(np.stack([frame["utility"] for frame in frames]), frames[0]["task"].to_numpy(dtype=object))
    assert recal.iqm.value == pytest.approx(iqm(score_ST))
    assert recal.iqm.ci[0] < recal.iqm.value < recal.iqm.ci[1]
    assert recal.iqm.difference == pytest.approx(recal.iqm.value - rows["best-single"].iqm.value)
    assert recal.iqm.p_adjusted < 0.001
    assert recal.splits["ood"].iqm.value != recal.iqm.value
    assert rows["best-single"].iqm.difference is rows["oracle"].iqm.p_adjusted is None
    # Every other figure stays what it was.
    without = {"iqm": None, "splits": {}}
    assert {name: row.model_copy(update=without) for name, row in rows.items()} == {
        row.router: row.model_copy(update=without) for row in plain
    }
    ranked = [row.iqm.value for row in rows.values() if not row.reference]
    assert ranked == sorted(ranked, reverse=True)


def test_one_seed_makes_an_interquartile_mean_drop_tasks_and_that_is_said(tmp_path):
    write_standard_runs(tmp_path / "five", World(tasks=("a", "b", "c", "d", "e"), queries=10))
    write_standard_runs(tmp_path / "three", World())
    five, three = (tables(read_runs(tmp_path / name), aggregate="iqm")[0] for name in ("five", "three"))
    assert any("one seed and 5 tasks the IQM leaves out 2 of them (best-single" in note for note in five.notes)
    assert any("one seed and 3 tasks the IQM is the plain mean" in note for note in three.notes)
    single = next(row for row in three.rows if row.router == "best-single")
    assert single.iqm.value == pytest.approx(single.utility)
    assert single.iqm.ci == pytest.approx(single.utility_ci)


def test_the_p_of_few_differing_queries_has_the_same_bound_for_interquartile_means(tmp_path):
    """Five queries differ, all in one direction: by chance that happens to two of 32, whatever is averaged."""
    world = World(queries=40)
    write_standard_runs(tmp_path, world)
    arm_Q = np.ones(len(world.keys), dtype=int)
    arm_Q[np.flatnonzero((world.score_QA[:, 1] == 0) & (world.score_QA[:, 3] == 1))[:5]] = 3
    write_run(tmp_path, world, "few", arm_Q, deterministic=True)
    row = rows_by_router(read_runs(tmp_path), aggregate="iqm")["few"]
    for found, low_high in ((row.vs_baseline, row.vs_baseline.ci), (row.iqm, row.iqm.difference_ci)):
        assert found.p_adjusted >= 2**-4
        assert low_high[0] <= 0 <= low_high[1]


def test_an_unknown_aggregate_is_refused(tmp_path):
    write_standard_runs(tmp_path, World())
    with pytest.raises(RecalBenchError, match="no aggregate median: choose one of mean, iqm"):
        tables(read_runs(tmp_path), aggregate="median")


def test_the_command_takes_the_aggregate(tmp_path):
    write_standard_runs(tmp_path, World())
    result = CliRunner().invoke(cli, ["compare", str(tmp_path), "--aggregate", "iqm"])
    assert result.exit_code == 0, result.output
    assert "IQM of utility [95%]" in result.output
    assert "IQM" not in CliRunner().invoke(cli, ["compare", str(tmp_path)]).output


def test_no_interval_leaves_the_scale_of_the_score(tmp_path):
    """A handful of queries: the t interval of the oracle, which is nearly always right, would end above 1."""
    write_standard_runs(tmp_path, World(queries=2))
    for row in compare(read_runs(tmp_path)):
        low, high = row.utility_ci
        assert -0.3 < low <= row.utility <= high <= 1
        for found in (row.vs_baseline, row.accuracy_vs_baseline):
            if found is not None:
                assert -1.3 <= found.ci[0] <= found.difference <= found.ci[1] <= 1.3


@pytest.mark.parametrize(("queries", "small"), [(9, True), (10, False)])
def test_a_note_counts_tasks_of_few_queries(tmp_path, queries, small):
    write_standard_runs(tmp_path, World(queries=queries))
    (table,) = tables(read_runs(tmp_path))
    assert any("3 of 3 tasks have fewer than 10 test queries:" in note for note in table.notes) == small
    write_standard_runs(tmp_path / "single", World(queries=1))
    (table,) = tables(read_runs(tmp_path / "single"))
    assert any("fewer than 10 test queries, 3 of them a single one" in note for note in table.notes)
    assert all(row.utility_ci is None for row in table.rows)
