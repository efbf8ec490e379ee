"""`import recal_bench`: what a script or a notebook does, through the names that the package offers."""

import json
import os
import pkgutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from click.testing import CliRunner
from small_log import small_log, write_small_log

import recal_bench
from recal_bench import (
    Context,
    Decisions,
    Queries,
    Train,
    compare,
    create,
    list_routers,
    list_runs,
    load_bench,
    load_outcomes,
    read_runs,
    route,
    run,
    tune,
    validate,
)
from recal_bench.cli import cli


@dataclass
class Sticky:
    """Registered nowhere: the arm that was best on train among the first `rows` queries."""

    rows: int = 20
    words: tuple[str, ...] = ()
    deterministic: ClassVar[bool] = True

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        self.value_A = np.nanmean(train.utility_QA[: self.rows], axis=0)

    def route(self, queries: Queries, calls: recal_bench.Calls) -> Decisions:
        return calls.choose(np.tile(self.value_A, (len(queries.prompt), 1)))

    def save(self, folder: Path) -> None:
        (folder / "value.json").write_text(json.dumps(self.value_A.tolist()))

    def load(self, folder: Path) -> None:
        self.value_A = np.array(json.loads((folder / "value.json").read_text()))


@dataclass
class Lucky(Sticky):
    """Draws an arm for all queries."""

    deterministic: ClassVar[bool] = False

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        assert not hasattr(self, "value_A"), "a seed is fitted on the router of another"
        self.value_A = np.random.default_rng(context.seed).random(len(train.outcomes.arms))


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return write_small_log(tmp_path_factory.mktemp("log") / "log.parquet")


@pytest.fixture(scope="module")
def bench(log):
    return load_bench(log)


@pytest.fixture(scope="module")
def compared(bench, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    run(bench, ["knn", Sticky(rows=5), Lucky()], seeds=2, runs=folder)
    return folder


def python(code, folder, **environment):
    path = os.pathsep.join([str(Path(recal_bench.__file__).parent.parent), str(Path(__file__).parent)])
    words = [sys.executable, "-c", code]
    done = subprocess.run(
        words, cwd=folder, env=os.environ | {"PYTHONPATH": path} | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows_of_command(runs):
    result = CliRunner().invoke(cli, ["compare", str(runs), "--format", "json"])
    return {row["router"]: row for row in json.loads(result.output)}


def written_at(runs):
    return {each.folder: (each.folder / "run.json").stat().st_mtime_ns for each in runs}


# The names


def test_a_name_is_loaded_when_it_is_first_used(tmp_path):
    code = """
import sys
import recal_bench
heavy = {"numpy", "pandas", "torch", "scipy", "click", "pydantic"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert set(recal_bench.__all__) <= set(dir(recal_bench))
recal_bench.RecalBenchError
assert not heavy & set(sys.modules)
from recal_bench import *
assert run.__module__ == "recal_bench.api" and create.__module__ == "recal_bench.api"
"""
    python(code, tmp_path)


def test_no_name_hides_a_module_and_each_has_something_behind_it():
    modules = {module.name for module in pkgutil.iter_modules(recal_bench.__path__)}
    assert not modules & set(recal_bench.__all__)
    assert all(getattr(recal_bench, name).__doc__ for name in recal_bench.__all__)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        recal_bench.nothing_of_the_kind  # noqa: B018
    with pytest.raises(ImportError):
        from recal_bench import nothing_of_the_kind  # noqa: F401


@pytest.mark.parametrize("module", ["recal_bench", "recal_bench.cli"])
def test_the_package_is_the_command_line(module, tmp_path):
    done = subprocess.run([sys.executable, "-m", module, "tasks"], capture_output=True, text=True, check=True)
    assert "bamboogle" in done.stdout


# Outcomes


def test_outcomes_and_what_a_report_says_of_them(log, tmp_path):
    outcomes = load_outcomes(str(log))
    assert len(outcomes) == 120
    report = validate(str(log))
    assert report.outcomes.arms == outcomes.arms
    assert not report.problems
    frame = small_log().drop(columns="score")
    frame.to_csv(tmp_path / "bad.csv", index=False)
    bad = validate(tmp_path / "bad.csv")
    assert bad.outcomes is None
    assert "score" in bad.problems[0]
    small_log(queries=2).assign(split="train").to_csv(tmp_path / "only_train.csv", index=False)
    assert validate(tmp_path / "only_train.csv").problems


def test_tasks_of_the_embedded_pool(tmp_path):
    bench = load_bench(tasks=["nq"], alpha=0.1)
    assert bench.data.simulated
    assert bench.data.tasks == ("nq",)
    (row,) = [each for each in run(bench, [], runs=tmp_path) if each.record.configuration.router == "knn"]
    assert row.record.command == "recal-bench run --router knn --tasks nq --alpha 0.1"
    assert compare(tmp_path)["simulated"].all()


# Runs and comparisons


def test_a_comparison_has_the_figures_of_the_command(compared):
    table = compare(compared)
    rows = rows_of_command(compared)
    assert set(table["router"]) == set(rows)
    assert {"best-single", "random", "cheapest", "knn", "sticky", "lucky", "oracle"} < set(table.index)
    assert table.index.name == "label"
    for name, row in rows.items():
        line, difference = table.loc[name], row["vs_baseline"]
        assert line["utility"] == row["utility"]
        assert (line["utility_low"], line["utility_high"]) == tuple(row["utility_ci"])
        assert line["accuracy"] == row["accuracy_macro"]
        assert line["accuracy_geo"] == row["per_task"]["geo"]
        assert line["command"] == row["command"]
        if difference is not None:
            assert line["difference"] == difference["difference"]
            assert line["difference_high"] == difference["ci"][1]
            assert line["accuracy_difference"] == row["accuracy_vs_baseline"]["difference"]
    assert np.isnan(table.loc["best-single", "difference"])
    assert np.isnan(compare(compared, baseline="knn").loc["knn", "difference"])
    assert any("smallest difference" in note for note in table.attrs["notes"])
    assert "iqm" not in table
    assert compare(compared, aggregate="iqm")["iqm_low"].notna().any()


def test_runs_one_by_one(compared):
    table = list_runs(compared)
    assert len(table) == len(read_runs(compared))
    lucky = table[table["router"] == "lucky"]
    assert sorted(lucky["seed"]) == [0, 1]
    assert lucky["utility"].mean() == pytest.approx(compare(compared).loc["lucky", "utility"])
    assert lucky["cost_usd_per_1k"].mean() == pytest.approx(compare(compared).loc["lucky", "cost_usd_per_1k"])
    assert all(Path(folder, "run.json").exists() for folder in table["folder"])


def test_rows_on_other_outcomes_are_told_apart(log, bench, tmp_path):
    runs = run(bench, "knn", runs=tmp_path) + run(load_bench(log, alpha=0.5), "knn", runs=tmp_path)
    table = compare(runs)
    assert sorted(table.loc["knn", "alpha"]) == [0.2, 0.5]
    assert set(table["outcomes"]) == {"log"}


def test_a_log_of_single_choices_has_the_same_columns(tmp_path):
    frame = small_log(queries=1000)
    chosen = np.random.default_rng(0).integers(3, size=1000)
    kept = frame.groupby("query_id", sort=False).cumcount() == np.repeat(chosen, 3)
    frame[kept].assign(propensity=1 / 3).to_parquet(tmp_path / "log.parquet", index=False)
    table = compare(run(load_bench(tmp_path / "log.parquet"), "ridge", runs=tmp_path / "runs"))
    row = rows_of_command(tmp_path / "runs")["ridge"]
    for column, name in (("utility", "snips"), ("difference", "against_baseline"), ("accuracy", "accuracy")):
        found = tuple(table.loc["ridge", [column, f"{column}_low", f"{column}_high"]])
        assert found == (row[name]["value"], *row[name]["ci"])
    assert table.loc["logged", "reference"]


def test_splits_beside_test_have_columns_of_their_own(tmp_path):
    frame = small_log()
    frame.loc[frame["query_id"].isin(sorted(set(frame["query_id"]))[:20]), "split"] = "ood"
    frame.to_parquet(tmp_path / "log.parquet", index=False)
    table = compare(run(load_bench(tmp_path / "log.parquet"), [], runs=tmp_path / "runs"))
    assert table.loc["knn", "ood_n_queries"] == 20
    assert table.loc["oracle", "ood_utility"] >= table.loc["knn", "ood_utility"]


# Routers given as instances


def test_an_instance_is_the_router_of_that_name(bench, tmp_path):
    by_name = run(bench, "knn", settings={"knn": {"k": 5}}, runs=tmp_path)
    before = written_at(by_name)
    again = run(bench, create("knn", {"k": 5}), runs=tmp_path)
    assert written_at(again) == before
    (knn,) = [each for each in again if each.record.configuration.router == "knn"]
    assert knn.record.command.endswith("--set k=5")
    assert knn.record.router_class is None


def test_of_several_names_an_instance_has_the_one_of_its_preset(bench, tmp_path):
    asked = [create("recal-no-floor", {"steps": 2}), create("recal", {"steps": 2})]
    names = {each.record.configuration.router for each in run(bench, asked, runs=tmp_path)}
    assert {"recal", "recal-no-floor"} < names


def test_an_instance_of_a_class_that_nobody_registered(bench, tmp_path):
    mine = Sticky(rows=30)
    runs = run(bench, [mine, Sticky(rows=3), Lucky(words=("a",))], seeds=3, runs=tmp_path)
    assert not hasattr(mine, "value_A")
    table = compare(runs)
    assert {"sticky rows=3", "sticky rows=30", "lucky"} < set(table.index)
    assert table.loc["lucky", "n_seeds"] == 3
    assert table.loc["lucky", "settings"] == {"rows": 20, "words": ["a"]}
    assert table.loc["sticky rows=3", "command"].startswith(
        "recal_bench.run(bench, [test_api.Sticky(rows=3, words=())])"
    )
    before = written_at(runs)
    again = run(bench, [mine, Sticky(rows=3), Lucky(words=("a",))], seeds=3, runs=tmp_path)
    assert written_at(again) == before
    fresh = written_at(run(bench, mine, runs=tmp_path, fresh=True))
    assert all(time > before[folder] for folder, time in fresh.items() if folder in before)
    assert any(folder.name.startswith("sticky") for folder in fresh)


def test_a_router_that_nobody_registered_can_be_asked(bench, compared):
    of_router = {each.record.configuration.router: each for each in read_runs(compared)}
    (advice,) = route(of_router["sticky"], ["question 7: river"])
    decided = of_router["sticky"].decisions()
    assert {str(advice.arm)} == set(decided["arm"])
    elsewhere = of_router["sticky"].record.model_copy(update={"router_class": "my_module:Sticky"})
    with pytest.raises(recal_bench.PluginError, match="import my_module first"):
        route(of_router["sticky"].model_copy(update={"record": elsewhere}), ["question 7: river"])
    dangerous = of_router["sticky"].record.model_copy(update={"router_class": "subprocess:Popen"})
    with pytest.raises(recal_bench.PluginError, match="the class Popen of subprocess"):
        route(of_router["sticky"].model_copy(update={"record": dangerous}), ["question 7: river"])
    assert route(of_router["knn"].folder, ["question 7: river"])[0].predicted


NOTEBOOK = """
from dataclasses import dataclass
from typing import ClassVar
import json
import numpy as np
from recal_bench import load_bench, run

LEVEL = {level}
WORDS = {{"river", "island", "capital", "clause"}}

def shift(value_A):
    return value_A {sign} 1

@dataclass
class Cell:
    deterministic: ClassVar[bool] = True

    def fit(self, train, validation, context):
        self.value_A = shift(np.nanmean(train.utility_QA, axis=0)) * LEVEL

    def route(self, queries, calls):
        words = [word for prompt in queries.prompt for word in prompt.split() if word in {{"river", "island", "law"}}]
        return calls.choose(np.tile(self.value_A, (len(queries.prompt), 1)))

    def save(self, folder):
        (folder / "value.json").write_text(json.dumps(self.value_A.tolist()))

    def load(self, folder):
        self.value_A = json.loads((folder / "value.json").read_text())

made = run(load_bench("log.parquet"), Cell(), runs="runs")
print(*(each.folder.name for each in made if each.record.configuration.router == "cell"))
"""


def test_a_class_of_a_notebook_is_found_again_while_what_it_uses_is_the_same(tmp_path):
    write_small_log(tmp_path / "log.parquet")
    cells = [NOTEBOOK.format(level=level, sign=sign) for level, sign in ((1, "+"), (2, "+"), (1, "-"))]
    one, two = (
        python(f"for cell in {cells!r}:\n    exec(cell)", tmp_path, PYTHONHASHSEED=seed).split() for seed in ("1", "2")
    )
    assert one == two
    assert len(set(one)) == 3


# Tuning


def test_tuned_settings_run_and_are_marked(bench, log, tmp_path):
    tuned = tune(bench, "knn", trials=3)
    assert len(tuned.trials) == 3
    table = compare(run(bench, ["knn"], tuned=[tuned], runs=tmp_path))
    assert table.loc["knn", "tuned"] == "3 trials"
    assert tuned.settings.items() <= table.loc["knn", "settings"].items()
    (tmp_path / "tuned.json").write_text(json.dumps([tuned.model_dump()]))
    assert compare(run(bench, ["knn"], tuned=tmp_path / "tuned.json", runs=tmp_path)).equals(table)
    with pytest.raises(recal_bench.SettingsError, match="knn was tuned on log"):
        run(load_bench(log, alpha=0.5), ["knn"], tuned=tuned, runs=tmp_path)


# What is refused


@dataclass
class Holder:
    value: object = None
    deterministic: ClassVar[bool] = True

    def fit(self, train, validation, context): ...
    def route(self, queries, calls): ...
    def save(self, folder): ...
    def load(self, folder): ...


class Plain:
    deterministic = True


@dataclass
class Knn(Holder):
    """Not the registered one."""


@dataclass
class Lame:
    deterministic: ClassVar[bool] = True


@pytest.mark.parametrize(
    ("error", "says", "asked"),
    [
        ("SettingsError", "did you mean knn", {"routers": "knnn"}),
        ("SettingsError", "has no setting kk", {"routers": "knn", "settings": {"knn": {"kk": 1}}}),
        ("SettingsError", "settings for ridge", {"routers": "knn", "settings": {"ridge": {}}}),
        ("SettingsError", "device gpu", {"routers": "knn", "device": "gpu"}),
        ("SettingsError", "give 1 or more", {"routers": "knn", "seeds": 0}),
        ("SettingsError", "holds no tuned settings", {"routers": "knn", "tuned": "nowhere.json"}),
        ("SettingsError", "setting value: a record holds", {"routers": Holder(np.arange(3))}),
        ("OutcomesError", r"responses=True\)", {"routers": "frugal-gpt"}),
        ("PluginError", r"give an instance of it, Holder\(\)", {"routers": Holder}),
        ("PluginError", "is not a dataclass", {"routers": [Plain()]}),
        ("PluginError", "would be called knn, which is another class", {"routers": Knn()}),
        ("PluginError", "router lame lacks fit", {"routers": Lame()}),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_done(bench, tmp_path, error, says, asked):
    with pytest.raises(recal_bench.RecalBenchError, match=says) as caught:
        run(bench, **asked, runs=tmp_path / "runs")
    assert type(caught.value).__name__ == error
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_other_errors_are_of_the_kind_that_fits(bench, log, compared, tmp_path):
    for kind, call in (
        (recal_bench.OutcomesError, lambda: load_bench(tmp_path / "absent.parquet")),
        (recal_bench.OutcomesError, lambda: load_bench(log, tasks="geography")),
        (recal_bench.SettingsError, lambda: load_bench(log, world_seed=3)),
        (recal_bench.SettingsError, lambda: tune(bench, "knn", trials=0)),
        (recal_bench.SettingsError, lambda: create("knn", {"k": 0})),
        (recal_bench.RunError, lambda: read_runs(tmp_path)),
        (recal_bench.RunError, lambda: compare(compared, baseline="ridge")),
        (recal_bench.RunError, lambda: route(tmp_path, ["a question"])),
    ):
        with pytest.raises(kind):
            call()


def test_the_routers_that_there_are():
    table = list_routers()
    assert {"recal", "knn", "best-single"} < set(table.index)
    assert table.loc["knn", "settings"]["k"] == 200
