"""The leaderboard's folder."""

import csv
import json
import shutil

import numpy as np
import pytest
from synthetic_runs import World, sweep_runs, write_run, write_standard_runs

from recal_bench.errors import RecalBenchError
from recal_bench.experiments.records import read_runs
from recal_bench.reporting.leaderboard import write_leaderboard

COMMAND = "recal-bench leaderboard runs --out out"


def test_a_leaderboard_is_the_same_every_time_and_complete(tmp_path):
    write_standard_runs(tmp_path / "runs", World(simulated=True, name="embedded"))
    runs = read_runs(tmp_path / "runs")
    paths = write_leaderboard(runs, tmp_path / "one" / "deep", COMMAND)
    again = write_leaderboard(runs[::-1], tmp_path / "two", COMMAND)
    assert [path.name for path in paths] == [
        "README.md",
        "leaderboard.csv",
        "leaderboard.json",
        "embedded-differences.svg",
        "embedded-differences.png",
        "embedded-cost-quality.svg",
        "embedded-cost-quality.png",
        "stability.md",
        "stability.json",
        "embedded-training.svg",
        "embedded-training.png",
        "index.html",
        "embedded-queries.js",
    ]
    assert all(one.read_bytes() == two.read_bytes() for one, two in zip(paths, again, strict=True))
    text = paths[0].read_text()
    assert "**simulated**" in text
    assert COMMAND in text
    assert "`recal-bench run --router recal --seeds 3`" in text
    assert "numpy 2.0.0" in text
    assert "hash `0123456789ab`" in text
    assert "recal 0, 1, 2" in text
    assert "(embedded-cost-quality.svg)" in text
    assert "(embedded-training.svg)" in text
    assert "(stability.md)" in text
    parsed = json.loads(paths[2].read_text())
    assert parsed["command"] == COMMAND
    assert parsed["tables"][0]["data"]["hash"] == "0123456789ab"
    rows = list(csv.DictReader(paths[1].read_text().splitlines()))
    assert len(rows) == len(parsed["tables"][0]["rows"])


def test_timings_stay_out_of_the_page_and_the_pictures(tmp_path):
    world = World()
    write_standard_runs(tmp_path / "runs", world)
    first = write_leaderboard(read_runs(tmp_path / "runs"), tmp_path / "one", COMMAND)
    for run in read_runs(tmp_path / "runs"):
        record = run.record.model_copy(update={"fit_seconds": 99.0, "route_us_per_query": 7.0, "started": "later"})
        (run.folder / "run.json").write_text(record.model_dump_json())
    second = write_leaderboard(read_runs(tmp_path / "runs"), tmp_path / "two", COMMAND)
    differing = [one.name for one, two in zip(first, second, strict=True) if one.read_bytes() != two.read_bytes()]
    assert differing == ["leaderboard.csv", "leaderboard.json"]


def test_every_table_has_pictures_of_its_own(tmp_path):
    for world in (World(name="some log.parquet"), World(name="some log.parquet", alpha=0.5), World(cost=False)):
        write_standard_runs(tmp_path / "runs", world)
    paths = write_leaderboard(read_runs(tmp_path / "runs"), tmp_path / "out", COMMAND)
    names = [path.name for path in paths]
    assert len(set(names)) == len(names)
    assert {"some-log-training.svg", "some-log-2-cost-quality.png", "toy-training.svg"} <= set(names)
    assert "toy-cost-quality.svg" not in names


@pytest.mark.parametrize(
    ("absent", "simulated", "command"),
    [
        ({"knn", "random"}, False, "recal-bench run --outcomes toy.parquet --router random --router knn --runs "),
        ({"cheapest"}, True, "recal-bench run --router cheapest --runs "),
        ({"oracle", "task-best"}, True, "recal-bench run --router best-single --runs "),
    ],
)
def test_a_missing_row_names_the_command_that_adds_it(tmp_path, absent, simulated, command):
    write_standard_runs(tmp_path / "runs", World(simulated=simulated))
    for run in read_runs(tmp_path / "runs"):
        if run.record.configuration.router in absent:
            shutil.rmtree(run.folder)
    with pytest.raises(RecalBenchError) as caught:
        write_leaderboard(read_runs(tmp_path / "runs"), tmp_path / "out", COMMAND)
    assert all(name in str(caught.value) for name in absent)
    assert f"add them with `{command}{tmp_path / 'runs'}`" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_command_keeps_its_data_and_loses_its_router(tmp_path):
    world = World()
    write_standard_runs(tmp_path / "runs", world)
    for run in read_runs(tmp_path / "runs"):
        if run.record.configuration.router == "knn":
            shutil.rmtree(run.folder)
            continue
        command = (
            "recal-bench run --router=recal --outcomes \"$RECAL_BENCH_DATA\"/'a b.parquet' --set 'note=two words' "
            "--set steps=3 --seeds 5 --alpha 0.2 --fresh"
        )
        record = run.record.model_copy(update={"command": command})
        (run.folder / "run.json").write_text(record.model_dump_json())
    with pytest.raises(RecalBenchError) as caught:
        write_leaderboard(read_runs(tmp_path / "runs"), tmp_path / "out", COMMAND)
    expected = "recal-bench run --outcomes \"$RECAL_BENCH_DATA\"/'a b.parquet' --alpha 0.2 --router knn --runs"
    assert expected in str(caught.value)


def test_without_costs_no_cheapest_is_asked_for(tmp_path):
    write_standard_runs(tmp_path / "runs", World(unknown_costs=3))
    assert write_leaderboard(read_runs(tmp_path / "runs"), tmp_path / "out", COMMAND)


def test_without_any_training_log_there_is_no_stability(tmp_path):
    write_standard_runs(tmp_path / "runs", World())
    runs = [run for run in read_runs(tmp_path / "runs") if run.record.configuration.router != "recal"]
    names = {path.name for path in write_leaderboard(runs, tmp_path / "out", COMMAND)}
    assert names == {
        "README.md", "leaderboard.csv", "leaderboard.json", "toy-differences.svg", "toy-differences.png",
        "toy-cost-quality.svg", "toy-cost-quality.png", "index.html", "toy-queries.js",
    }  # fmt: skip
    assert "stability.md" not in (tmp_path / "out" / "README.md").read_text()


def test_a_file_is_no_folder(tmp_path):
    write_standard_runs(tmp_path / "runs", World())
    (tmp_path / "out").write_text("")
    with pytest.raises(RecalBenchError, match="takes a folder"):
        write_leaderboard(read_runs(tmp_path / "runs"), tmp_path / "out", COMMAND)


def test_the_differences_are_the_first_picture_and_the_frontiers_come_after_cost_and_quality(tmp_path):
    write_standard_runs(tmp_path / "runs", World(simulated=True))
    runs = sweep_runs(tmp_path / "runs", {("knn", 0): 0.0})
    paths = write_leaderboard(runs, tmp_path / "out", COMMAND)
    assert [path.name for path in paths[3:9]] == [
        "toy-differences.svg", "toy-differences.png", "toy-cost-quality.svg", "toy-cost-quality.png",
        "toy-frontier.svg", "toy-frontier.png",
    ]  # fmt: skip
    text = paths[0].read_text()
    pictures = [f"(toy-{name}.svg)" for name in ("differences", "cost-quality", "frontier", "training")]
    assert sorted(pictures, key=text.index) == pictures
    assert text.index(pictures[0]) < text.index("| router") < text.index(pictures[1])


def test_of_many_routers_the_first_picture_is_shown_and_the_others_are_linked(tmp_path):
    world = World(simulated=True)
    write_standard_runs(tmp_path / "runs", world)
    for number in range(7):
        write_run(tmp_path / "runs", world, f"router-{number}", np.arange(len(world.keys)) % 3)
    runs = sweep_runs(tmp_path / "runs", {(f"router-{number}", 0): 0.0 for number in range(7)})
    paths = write_leaderboard(runs, tmp_path / "out", COMMAND)
    assert "toy-frontier-2.png" in [path.name for path in paths]
    text = paths[0].read_text()
    assert "(toy-frontier.svg)" in text
    assert "More routers: [2](toy-frontier-2.svg)." in text
