"""Pictures."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_runs import World, write_standard_runs

from recal_bench.records import read_runs
from recal_bench.reporting.compare import tables
from recal_bench.reporting.plots import cost_quality, upper_hull

points = st.lists(st.tuples(st.integers(0, 50).map(float), st.integers(0, 50).map(float)), min_size=1, max_size=20)


@settings(deadline=None, max_examples=60)
@given(points)
def test_the_hull_lies_above_every_point_and_never_falls(pairs):
    hull = upper_hull(pairs)
    costs, qualities = np.array(hull).T
    assert (np.diff(costs) > 0).all()
    assert (np.diff(qualities) >= 0).all()
    slopes = np.diff(qualities) / np.diff(costs)
    assert (np.diff(slopes) <= 1e-9).all()
    for cost, quality in pairs:
        assert np.interp(cost, costs, qualities) >= quality - 1e-9
    assert hull[0][0] == min(cost for cost, _ in pairs)
    assert hull[-1][0] == max(cost for cost, _ in pairs)


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
