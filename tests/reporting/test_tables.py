"""Rows as text."""

import csv
import io
import json

import numpy as np
import pytest
from synthetic_runs import World, sweep_runs, write_run, write_standard_runs

from recal_bench.errors import RecalBenchError
from recal_bench.experiments.records import read_runs
from recal_bench.reporting.figures.compare import compare, tables
from recal_bench.reporting.figures.names import labels, title
from recal_bench.reporting.text.layout import terminal_table
from recal_bench.reporting.text.report import render_all
from recal_bench.reporting.text.tables import FORMATS, render


@pytest.fixture
def made(tmp_path):
    write_standard_runs(tmp_path, World(simulated=True, splits=("ood", "test"), queries=20))
    return tables(read_runs(tmp_path))


def test_the_terminal_table_fits_and_names_what_it_leaves_out(made, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    text = render(made[0])
    assert max(map(len, text.splitlines())) <= 120
    assert "Left out to fit 120 columns" in text
    lines = text.splitlines()
    order = [line.split()[0] for line in lines[4:] if line and not line.startswith("-")]
    assert order.index("recal") < order.index("best-single") < order.index("oracle")
    first = lines[: lines.index("Split ood")]
    assert sum(line.startswith("---") for line in first) == 2
    assert "Split ood" in text
    assert "baseline" in next(line for line in lines if line.startswith("best-single"))


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_terminal_table_is_as_wide_as_the_terminal(made, columns, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    text = render(made[0])
    assert max(map(len, text.splitlines())) <= columns
    assert ("MDE" in text.partition("Left out to fit")[0]) == (columns == 200)
    assert ("Left out to fit 80 columns" in text) == (columns == 80)
    assert "utility" in text


def test_columns_of_the_highest_rank_are_left_out_first_and_named(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    headers, lines = ["router", "[95%]", "late", "[bold]"], [["a", "x" * 60, "y" * 40, "z" * 40], ["b", "", "", "1"]]
    text = terminal_table(headers, lines, ranks=[0, 0, 2, 1], n_below=1)
    assert text.splitlines()[0].split() == ["router", "[95%]", "[bold]"]
    assert text.splitlines()[3].startswith("---")
    assert text.splitlines()[-1].endswith("shows them): late")
    monkeypatch.delenv("COLUMNS")
    assert "late" in terminal_table(headers, lines, ranks=[0, 0, 2, 1]).splitlines()[0]


def test_many_tasks_are_broken_into_parts_that_fit(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    tasks = tuple(f"a_rather_long_task_name_{index:02}" for index in range(12))
    write_standard_runs(tmp_path, World(tasks=tasks, queries=5))
    text = render(tables(read_runs(tmp_path))[0])
    assert max(map(len, text.splitlines())) <= 120
    assert all(task in text for task in tasks)


@pytest.mark.parametrize("format", ["table", "markdown"])
def test_titles_say_what_the_table_is_about(made, format):
    text = render(made[0], format).splitlines()[0]
    assert all(part in text for part in ("toy.parquet", "0123456789ab", "alpha 0.2", "60 test"))
    assert "simulated" in text
    assert ("**simulated**" in text) == (format == "markdown")


def test_logged_outcomes_are_not_called_simulated(tmp_path):
    write_standard_runs(tmp_path, World())
    assert "simulated" not in title(tables(read_runs(tmp_path))[0])


def test_markdown_has_every_column_and_marks_references(made):
    text = render(made[0], "markdown")
    assert "*oracle* (reference)" in text
    assert all(column in text for column in ("regret", "us med/p95", "top arm", "micro", "savings", "seeds"))


@pytest.mark.parametrize("format", ["table", "markdown"])
def test_a_rank_is_shown_with_who_cannot_be_told_from_the_best(made, format):
    text = render(made[0], format)
    first = text.partition("Split")[0]
    header = next(line for line in first.splitlines() if "rank" in line)
    place = header.replace("|", " ").split().index("rank")
    for row in made[0].rows:
        lines = [each.replace("(reference)", "").replace("*", " ").replace("|", " ") for each in first.splitlines()]
        cell = next(each.split()[place] for each in lines if each.split()[:1] == [row.router])
        if row.reference:
            assert cell == "-"
            continue
        low, high = row.rank
        assert cell == ("=" if row.tie_group == "best" else "") + (f"{low}" if low == high else f"{low}-{high}")
    assert "cannot be told from the best" in " ".join(text.split())


def test_by_interquartile_means_no_rank_is_shown(tmp_path):
    write_standard_runs(tmp_path, World(queries=20))
    (table,) = tables(read_runs(tmp_path), aggregate="iqm")
    assert "rank" not in render(table).replace("|", " ").split()
    assert "rank.low,rank.high" in render(table, "csv").splitlines()[0]


def test_json_is_one_list_of_all_rows(made, tmp_path):
    rows = json.loads(render_all([*made, *made], "json"))
    assert len(rows) == 2 * len(made[0].rows)
    assert rows[0]["router"] == "recal"
    assert json.loads(render(made[0], "json")) == rows[: len(rows) // 2]


def test_csv_has_one_header_for_tables_of_different_tasks(tmp_path):
    write_standard_runs(tmp_path, World())
    write_standard_runs(tmp_path, World(name="other.parquet", data_hash="ff", tasks=("gsm8k",), cost=False))
    rows = list(csv.DictReader(io.StringIO(render_all(tables(read_runs(tmp_path)), "csv"))))
    assert len(rows) == len(compare(read_runs(tmp_path)))
    by_key = {(row["outcomes"], row["router"]): row for row in rows}
    recal = by_key["toy.parquet", "recal"]
    assert float(recal["vs_baseline.ci.low"]) < float(recal["vs_baseline.difference"])
    assert json.loads(recal["settings"]) == {"lr": 0.01, "steps": 12}
    assert recal["per_task.gsm8k"] == ""
    assert float(recal["per_task.nq"]) > 0
    assert by_key["other.parquet", "recal"]["savings"] == ""
    assert by_key["toy.parquet", "best-single"]["vs_baseline.difference"] == ""
    names = list(rows[0])
    assert abs(names.index("per_task.gsm8k") - names.index("per_task.nq")) <= 3


def test_the_routers_own_cost_stands_beside(tmp_path):
    world = World()
    write_standard_runs(tmp_path, world)
    write_run(tmp_path, world, "billed", np.arange(120) % 2, deterministic=True, router_cost=0.0004)
    line = next(line for line in render(tables(read_runs(tmp_path))[0]).splitlines() if line.startswith("billed"))
    assert "+0.400" in line


def test_without_utility_accuracy_is_compared_and_said(tmp_path):
    write_standard_runs(tmp_path, World(unknown_costs=7))
    text = render(tables(read_runs(tmp_path))[0])
    assert "acc % vs best-single [95%]" in text
    assert "utility [95%]" not in text
    assert "7 outcomes have no known cost" in text


def test_without_costs_there_are_no_cost_columns(tmp_path):
    write_standard_runs(tmp_path, World(cost=False))
    text = render(tables(read_runs(tmp_path))[0])
    assert "USD" not in text
    assert "savings" not in text
    assert "utility is the score: no outcome has a cost" in text


def test_rows_of_one_router_are_told_apart(tmp_path):
    world = World()
    write_standard_runs(tmp_path, world)
    for k in (50, 100):
        write_run(tmp_path, world, "knn", np.arange(120) % 3, settings={"k": k}, deterministic=True)
    write_run(tmp_path, world, "best-single", np.ones(120, dtype=int), deterministic=True, device="cuda")
    rows = tables(read_runs(tmp_path))[0].rows
    names = labels(rows)
    assert len(set(names)) == len(names)
    assert {"knn k=10", "knn k=50", "knn k=100", "recal"} <= set(names)
    assert names.count("best-single") == 1


def test_settings_too_long_for_a_label_become_a_hash(tmp_path):
    world = World()
    write_standard_runs(tmp_path, world)
    for letter in "xy":
        settings = {"a_long_setting": letter * 9, "another_long_setting": letter * 9}
        write_run(tmp_path, world, "mlp", np.arange(120) % 3, settings=settings)
    names = labels(tables(read_runs(tmp_path))[0].rows)
    assert sum(name.startswith("mlp@") for name in names) == 2


def test_an_unknown_format_is_refused(made):
    with pytest.raises(RecalBenchError, match="no format html"):
        render(made[0], "html")
    assert FORMATS == ("table", "markdown", "csv", "json")


def test_the_probability_of_improvement_names_its_metric(made, tmp_path):
    assert "P(utility > best-single)" in render(made[0], "markdown")
    write_standard_runs(tmp_path / "other", World(unknown_costs=7))
    accuracies = tables(read_runs(tmp_path / "other"))
    assert "P(accuracy > best-single)" in render(accuracies[0], "markdown")
    assert "MDE, points" in render(accuracies[0], "markdown")
    rows = list(csv.DictReader(io.StringIO(render_all(made, "csv"))))
    assert rows[0]["vs_baseline.metric"] == "utility"
    assert rows[0]["accuracy_vs_baseline.metric"] == "accuracy"
    assert float(rows[0]["vs_baseline.mde"]) > 0


@pytest.mark.parametrize("unknown_costs", [0, 7])
def test_interquartile_means_take_the_place_of_the_means(tmp_path, unknown_costs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    write_standard_runs(tmp_path, World(unknown_costs=unknown_costs, tasks=("a", "b", "c", "d", "e")))
    found = tables(read_runs(tmp_path), aggregate="iqm")
    text = render(found[0])
    assert max(map(len, text.splitlines())) <= 120
    head = next(line for line in text.splitlines() if line.startswith("router"))
    assert ("IQM of accuracy % [95%]" if unknown_costs else "IQM of utility [95%]") in head
    assert "IQM vs best-single [95%]" in head
    assert "baseline" in next(line for line in text.splitlines() if line.startswith("best-single"))
    lines = list(csv.DictReader(io.StringIO(render_all(found, "csv"))))
    assert float(lines[0]["iqm.ci.low"]) < float(lines[0]["iqm.value"])
    assert float(lines[0]["iqm.difference_ci.low"]) < float(lines[0]["iqm.difference"])
    means = render_all(tables(read_runs(tmp_path)), "csv")
    assert "iqm" not in means.splitlines()[0]


def test_frontiers_are_summed_up_where_routers_were_swept(tmp_path):
    world = World()
    write_standard_runs(tmp_path, world)
    assert "AIQ" not in render(tables(read_runs(tmp_path))[0], "markdown")
    lifts = {("knn", 0): -0.1, ("random", 0): -0.1, ("random", 1): 0.1, ("random", 2): 0.1}
    found = tables(sweep_runs(tmp_path, lifts | {("recal", seed): 0.01 * seed for seed in range(3)}))
    lines = [[cell.strip() for cell in line.split("|")] for line in render(found[0], "markdown").splitlines()]
    head = next(line for line in lines if "router" in line)
    at = [head.index(name) for name in ("AIQ", "QNC", "deferral AUC", "gap")]
    assert at == list(range(at[0], at[0] + 4))
    qnc = {line[1]: line[at[1]] for line in lines[2:] if len(line) == len(head)}
    assert (qnc["knn"], qnc["random"], qnc["best-single"]) == ("never", "67% of seeds", "-")
    assert 0 < float(qnc["recal"]) < 1
    rows = {row["router"]: row for row in csv.DictReader(io.StringIO(render_all(found, "csv")))}
    recal = rows["recal"]
    for name in ("aiq", "deferral_auc", "qnc"):
        assert float(recal[f"{name}_ci.low"]) < float(recal[name]) < float(recal[f"{name}_ci.high"])
        assert rows["best-single"][name] == rows["knn"][f"{name}_ci.low"] == ""


def test_grouped_settings_are_named_by_their_last_part(tmp_path):
    world = World()
    write_standard_runs(tmp_path, world)
    for value in ("fixed", "conditioned"):
        settings = {"policy.alpha": value, "policy.hidden": 8}
        write_run(tmp_path, world, "policy", np.arange(120) % 3, settings=settings)
    names = labels(tables(read_runs(tmp_path))[0].rows)
    assert {"policy alpha=fixed", "policy alpha=conditioned"} <= set(names)
