"""Pictures."""

from synthetic_runs import World, write_standard_runs

from recal_bench.experiments.records import read_runs
from recal_bench.reporting.figures.compare import tables
from recal_bench.reporting.pictures.cost_quality import cost_quality


def test_pictures_are_written_twice_alike(tmp_path):
    write_standard_runs(tmp_path / "runs", World(simulated=True))
    runs = read_runs(tmp_path / "runs")
    (table,) = tables(runs)
    drawn = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        paths = cost_quality(table, folder / "cost.quality")
        drawn.append({path.name: path.read_bytes() for path in paths})
    assert sorted(drawn[0]) == ["cost.quality.png", "cost.quality.svg"]
    assert drawn[0] == drawn[1]
    assert b"<dc:date>" not in drawn[0]["cost.quality.svg"]


def test_nothing_is_drawn_where_nothing_is_known(tmp_path):
    write_standard_runs(tmp_path, World(cost=False))
    runs = [run for run in read_runs(tmp_path) if run.record.configuration.router != "recal"]
    (table,) = tables(runs)
    assert cost_quality(table, tmp_path / "x") == []


def test_where_names_would_cover_each_other_only_the_hull_the_baseline_and_references_have_one(tmp_path, monkeypatch):
    write_standard_runs(tmp_path, World())
    (table,) = tables(read_runs(tmp_path))
    plain = cost_quality(table, tmp_path / "plain")[0].read_text()
    monkeypatch.setattr("recal_bench.reporting.pictures.cost_quality._MOST_NAMES", 2)
    fewer = cost_quality(table, tmp_path / "fewer")[0].read_text()
    names = {row.router for row in table.rows}
    assert {name for name in names if f"<!-- {name} -->" in plain} == names
    assert {name for name in names if f"<!-- {name} -->" in fewer} == names - {"random", "knn"}
