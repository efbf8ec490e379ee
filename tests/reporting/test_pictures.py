"""Pictures: what they show, that nothing in them covers another thing, and that the same rows give the same bytes."""

import functools
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text
from synthetic_runs import ARMS, World, sweep_runs, write_run, write_standard_runs

from recal_bench.evaluation.stability import Curve
from recal_bench.experiments.records import read_runs
from recal_bench.reporting.figures.compare import tables
from recal_bench.reporting.pictures.cost_quality import cost_quality
from recal_bench.reporting.pictures.differences import differences
from recal_bench.reporting.pictures.drawing import LINES, shared_out, spread
from recal_bench.reporting.pictures.frontier import frontiers
from recal_bench.reporting.pictures.training import PANELS, training_curves


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would be written: each once, although to two files."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self) if self not in figures else None)
    return figures


@functools.cache
def texts_of(figure):
    """The texts that a reader sees, with their boxes in pixels (of a name with a line back to its point its own).

    A figure is drawn once for it: nothing changes it after it was saved.
    """
    figure.draw_without_rendering()
    beyond = {
        tick.label1
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    found = [text for text in figure.findobj(Text) if text.get_visible() and text not in beyond]
    hidden = [text for axes in figure.axes if not axes.axison for text in axes.xaxis.findobj(Text)]
    hidden += [text for axes in figure.axes if not axes.axison for text in axes.yaxis.findobj(Text)]
    found = [text for text in found if text not in hidden and text.get_text().strip("\u200b ")]
    return [(text.get_text(), Text.get_window_extent(text)) for text in found]


def assert_readable(figure):
    """No text covers another, and none is cut off by the figure's edge."""
    texts = texts_of(figure)
    covering = [(one, two) for (one, a), (two, b) in combinations(texts, 2) if a.padded(-1).overlaps(b.padded(-1))]
    assert covering == []
    width, height = figure.get_size_inches() * figure.dpi
    cut = [text for text, box in texts if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1]
    assert cut == []


def routers(folder, names, world=None, swept=False):
    """The standard rows and a router of each name, which send other shares of the queries to the better arms."""
    world = world or World(simulated=True)
    write_standard_runs(folder, world)
    rng = np.random.default_rng(1)
    for number, name in enumerate(names):
        share = 0.15 + 0.8 * number / max(1, len(names) - 1)
        for seed in range(2):
            arm_Q = np.where(rng.random(len(world.keys)) < share, 0, 1 + number % 3)
            write_run(folder, world, name, arm_Q, seed=seed)
    if swept:
        sweep_runs(folder, {(name, seed): number / 500 for number, name in enumerate(names) for seed in range(2)})
    runs = read_runs(folder)
    (table,) = tables(runs)
    return table, runs


FORTY = [f"router-{number:02}" for number in range(36)]
STRANGE = [
    "маршрутизатор-日本語-🚀",
    "_under $x_1$ \\frac{1}{2}",
    "a-router-with-a-very-long-name-that-goes-on-and-on-and-on-until-nobody-reads-it-any-more-v2",
    "a-router-with-a-very-long-name-that-goes-on-and-on-and-on-until-nobody-reads-it-any-more-v3",
]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """The table and the runs of some routers; many runs take time to write, so that each case is made once."""
    return functools.cache(lambda *names: routers(tmp_path_factory.mktemp("runs"), names, swept=True))


CASES = {"two rows": [], "a few": ["ridge", "mlp", "svm"], "strange names": STRANGE, "forty": FORTY}


@pytest.mark.parametrize("names", CASES.values(), ids=CASES.keys())
def test_the_differences_name_every_router_with_its_numbers(tmp_path, drawn, case, names):
    table, _ = case(*names)
    assert len(differences(table, tmp_path / "x")) == 2
    (figure,) = drawn
    assert_readable(figure)
    axes = figure.axes[0]
    compared = [row for row in table.rows if row.vs_baseline is not None]
    shown = [text.get_text() for text in axes.get_yticklabels()]
    assert len(shown) == len(set(shown)) == len(compared)
    numbers = [text for text, _ in texts_of(figure)]
    low, high = axes.get_xlim()
    for row in compared:
        assert row.reference or low < row.vs_baseline.difference < high
        assert f"{row.vs_baseline.difference:+.3f}".replace("-", "\N{MINUS SIGN}") in numbers
    told = sum(row.vs_baseline.p_adjusted is not None and row.vs_baseline.p_adjusted < 0.05 for row in compared)
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert sum(line.get_markerfacecolor() != "white" for line in points) == told


def test_differences_are_of_accuracy_where_no_utility_is_known(tmp_path, drawn):
    table, _ = routers(tmp_path / "runs", ["ridge"], World(unknown_costs=7))
    assert differences(table, tmp_path / "x")
    assert_readable(drawn[0])
    assert any("Difference of accuracy" in text for text, _ in texts_of(drawn[0]))


def test_nothing_is_drawn_where_there_is_nothing_but_the_baseline(tmp_path):
    write_run(tmp_path / "runs", World(), "best-single", np.ones(120, dtype=int), deterministic=True)
    (table,) = tables(read_runs(tmp_path / "runs"))
    assert differences(table, tmp_path / "x") == []


@pytest.mark.parametrize("names", CASES.values(), ids=CASES.keys())
def test_cost_and_quality_hold_every_router_and_name_it(tmp_path, drawn, case, names):
    table, runs = case(*names)
    assert len(cost_quality(table, runs, tmp_path / "x")) == 2
    (figure,) = drawn
    assert_readable(figure)
    (left, right), (low, high) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    for row in table.rows:
        if not row.reference:
            assert left < row.total_cost_usd_per_1k < right
            assert low < 100 * row.accuracy_macro < high
    named = " ".join(text for text, _ in texts_of(figure))
    assert all(name in named for name in names if name not in STRANGE)
    assert names == [] or all(arm in named for arm in ARMS)
    assert names != STRANGE or "until-nobody" not in named
    assert "same utility as best-single (alpha 0.2)" in named


def test_what_lies_beyond_the_axes_is_told_at_their_border(tmp_path, drawn, case):
    table, runs = case("ridge", "mlp")
    cost_quality(table, runs, tmp_path / "x")
    oracle = next(row for row in table.rows if row.router == "oracle")
    assert 100 * oracle.accuracy_macro > drawn[0].axes[0].get_ylim()[1]
    told = [text for text, _ in texts_of(drawn[0]) if text.startswith("oracle")]
    assert told == [f"oracle ({oracle.total_cost_usd_per_1k:.3g}, {100 * oracle.accuracy_macro:.1f})"]


def test_the_line_of_equal_utility_goes_through_the_baseline(tmp_path, drawn, case):
    table, runs = case("ridge", "mlp")
    cost_quality(table, runs, tmp_path / "x")
    (line,) = [each for each in drawn[0].axes[0].lines if each.get_linestyle() == "--" and len(each.get_xdata()) == 2]
    base = next(row for row in table.rows if row.is_baseline)
    x, y = line.get_xdata(), line.get_ydata()
    utility = y / 100 - 0.2 * x / (1000 * table.data.cost_ref)
    assert utility == pytest.approx([base.utility] * 2)


def test_without_costs_there_is_no_picture_of_them(tmp_path):
    runs = write_standard_runs(tmp_path, World(cost=False))
    (table,) = tables(runs)
    assert cost_quality(table, runs, tmp_path / "x") == []


@pytest.mark.parametrize("draw", [differences, cost_quality, frontiers])
def test_the_same_rows_give_the_same_bytes(tmp_path, case, draw):
    table, runs = case("ridge", "mlp")
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        words = (table,) if draw is differences else (table, runs)
        paths = draw(*words, tmp_path / name / "a.picture")
        written.append({path.name: path.read_bytes() for path in paths})
    assert sorted(written[0]) == ["a.picture.png", "a.picture.svg"]
    assert written[0] == written[1]
    assert b"<dc:date>" not in written[0]["a.picture.svg"]


@pytest.mark.parametrize(("names", "count"), [(STRANGE, 1), (FORTY, 6)], ids=["strange names", "forty"])
def test_frontiers_are_of_routers_that_were_swept_with_names_at_their_ends(tmp_path, drawn, case, names, count):
    table, runs = case(*names)
    paths = frontiers(table, runs, tmp_path / "x")
    assert len(paths) == 2 * count == 2 * len(drawn)
    for figure in drawn:
        assert_readable(figure)
        solid = [line for line in figure.axes[0].lines if line.get_linestyle() == "-"]
        assert len({line.get_color() for line in solid}) == len(solid) <= len(LINES)
        assert figure.axes[0].get_xlim() == drawn[0].axes[0].get_xlim()
    named = " ".join(text for figure in drawn for text, _ in texts_of(figure))
    assert all(name in named for name in names if name not in STRANGE)
    assert "random" not in named.replace("mixed at random", "")


def curves(n_routers, panels=tuple(PANELS), seeds=2):
    rng = np.random.default_rng(0)
    step_N = np.arange(0.0, 401, 25)
    return [
        (f"router {number}", [{name: Curve(step_N, 1 + rng.random(17)) for name in panels} for _ in range(seeds)])
        for number in range(n_routers)
    ]


def key_of(figure):
    return next(axes.get_legend() for axes in figure.axes if axes.get_legend()).get_texts()


@pytest.mark.parametrize(("n_routers", "blocks"), [(1, [1]), (6, [6]), (7, [4, 3]), (13, [4, 5, 4])])
def test_training_curves_never_have_a_colour_twice(tmp_path, drawn, n_routers, blocks):
    paths = training_curves(curves(n_routers), "some outcomes", tmp_path / "x")
    assert [path.name for path in paths[:2]] == ["x.svg", "x.png"]
    assert len(drawn) == len(blocks)
    for figure, block in zip(drawn, blocks, strict=True):
        assert_readable(figure)
        panels = [axes for axes in figure.axes if axes.lines]
        assert len(panels) == len(PANELS)
        assert all(len({line.get_color() for line in axes.lines}) == block for axes in panels)
        assert [axes.get_ylim() for axes in panels] == [axes.get_ylim() for axes in drawn[0].axes if axes.lines]
        assert any("band: from the lowest to the highest seed" in text for text, _ in texts_of(figure))
    names = [text.get_text() for figure in drawn for text in key_of(figure)]
    assert names == [f"router {number} (2)" for number in range(n_routers)]


@pytest.mark.parametrize("n_panels", [1, 2, 3, 4])
def test_a_column_that_does_not_vary_has_no_panel(tmp_path, drawn, n_panels):
    logged = curves(2, tuple(PANELS)[:n_panels])
    step_N = np.arange(0.0, 401, 25)
    for _, seeds in logged:
        for seed in seeds:
            seed["gradient_norm"] = Curve(step_N, np.full(len(step_N), 0.3))
    assert training_curves(logged, "some outcomes", tmp_path / "x")
    assert sum(bool(axes.lines) for axes in drawn[0].axes) == n_panels
    assert_readable(drawn[0])


def test_routers_without_a_log_are_not_in_the_key(tmp_path, drawn):
    logged = [*curves(2), ("knn", [{}]), ("kl alone", [{"kl": Curve(np.arange(3.0), np.arange(3.0))}])]
    training_curves(logged, "some outcomes", tmp_path / "x")
    names = [text.get_text() for text in key_of(drawn[0])]
    assert names == ["router 0 (2)", "router 1 (2)"]
    assert training_curves(logged[2:], "some outcomes", tmp_path / "y") == []


@given(st.integers(0, 60))
def test_lines_are_shared_out_evenly(count):
    parts = shared_out(list(range(count)))
    assert [each for part in parts for each in part] == list(range(count))
    sizes = [len(part) for part in parts]
    assert all(1 <= size <= len(LINES) for size in sizes)
    assert not sizes or max(sizes) - min(sizes) <= 1


@given(st.lists(st.floats(0, 100), max_size=30), st.floats(0.01, 10))
def test_spread_heights_are_apart_in_their_order_and_near(heights, gap):
    found = spread(heights, gap, 0, 100)
    order = np.argsort(heights, kind="stable")
    placed = np.array(found)[order]
    least = min(gap, 100 / max(len(heights) - 1, 1))
    assert (np.diff(placed) >= least - 1e-6).all()
    assert ((placed >= -1e-6) & (placed <= 100 + 1e-6)).all()
    if (np.diff(np.sort(heights)) > gap).all():
        assert found == pytest.approx(heights, abs=1e-6)
