"""Names that others gave reach tables, CSV and pictures as text, whatever they hold."""

import csv
import io
import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_runs import World, write_run, write_standard_runs

from recal_bench.experiments.records import read_run, read_runs
from recal_bench.reporting.figures.compare import tables
from recal_bench.reporting.figures.frames import comparison_frame
from recal_bench.reporting.figures.names import labels
from recal_bench.reporting.leaderboard import write_leaderboard
from recal_bench.reporting.text.report import render_all
from recal_bench.reporting.text.show import show_run
from recal_bench.wording import harmless

TASKS = (
    "bio_ci", "ci", "vs_baseline", "accuracy_vs_baseline", "a", "a.b", "a.ci", "iqm", "macro", "=1+1", "_under",
    "pipe|d", "two\nlines", "\x1b]0;title\x07\x1b[31mred", "<script>alert(1)</script>", "![i](http://x/y.png)",
    "**bold** `code`", "$\\frac{", "\u202eright to left", "名前",
)  # fmt: skip
ROWS = len(TASKS) * 6


@pytest.fixture
def runs(tmp_path):
    world = World(tasks=TASKS, queries=6, name="<b>|$x$\x1b[1m.csv")
    write_standard_runs(tmp_path, world)
    for value in ("<i>|\n" + "x" * 40, "$\\frac{" + "y" * 40):
        write_run(tmp_path, world, "mlp", np.arange(ROWS) % 3, settings={"layers": value})
    write_run(tmp_path, world, "_private", np.arange(ROWS) % 3, deterministic=True)
    return read_runs(tmp_path)


def is_harmless(text):
    return all(line.isprintable() for line in text.split("\n"))


def test_csv_has_a_column_for_every_task(runs):
    made = tables(runs)
    header, *lines = list(csv.reader(io.StringIO(render_all(made, "csv"))))
    assert [name for name in header if name.startswith("per_task.")] == [
        harmless(f"per_task.{task}") for task in sorted(TASKS)
    ]
    assert len(set(header)) == len(header)
    cells = {row.router: dict(zip(header, line, strict=True)) for row, line in zip(made[0].rows, lines, strict=True)}
    for row in made[0].rows:
        for task in TASKS:
            assert float(cells[row.router][harmless(f"per_task.{task}")]) == pytest.approx(row.per_task[task])
    assert {"vs_baseline.ci.low", "vs_baseline.p_improvement_ci.high", "utility_ci.low"} <= set(header)
    assert is_harmless(render_all(made, "csv"))


def test_a_data_frame_has_a_column_for_every_task(runs):
    frame = comparison_frame(tables(runs))
    (table,) = tables(runs)
    assert frame.columns.is_unique
    assert frame["accuracy"].tolist() == pytest.approx([row.accuracy_macro for row in table.rows])
    for task in TASKS:
        column = f"accuracy_{task}" + ("_" if task in ("ci", "macro") and f"accuracy_{task}_" in frame else "")
        assert frame[column].tolist() == pytest.approx([row.per_task[task] for row in table.rows])


@pytest.mark.parametrize("format", ["table", "markdown"])
def test_no_escape_and_no_markup_gets_into_a_table(runs, format):
    text = render_all(tables(runs), format)
    assert is_harmless(text)
    if format == "markdown":
        assert not re.search(r"<[A-Za-z/!]|(?<!\\)\[i|(?<!\\)\*\*bold", text)
        rows = [line for line in text.splitlines() if line.startswith("|")]
        widths = [len(re.findall(r"(?<!\\)\|", line)) for line in rows]
        blocks = [width for width, after in pairwise(widths) if width != after]
        assert len(blocks) <= 2


def test_everything_a_leaderboard_writes_is_harmless(runs, tmp_path):
    paths = write_leaderboard(runs, tmp_path / "board", "recal-bench leaderboard `x`")
    texts = {path.name: path.read_text() for path in paths if path.suffix in (".md", ".csv", ".svg")}
    assert all("\x1b" not in text and "\u202e" not in text for text in texts.values())
    assert not re.search(r"<(b|i|script)>", re.sub(r"`[^`]*`", "", texts["README.md"]))
    # Commands stay what was typed, as code.
    assert "`` recal-bench leaderboard `x` ``" in texts["README.md"]


def test_one_run_is_shown_without_escapes(runs):
    for run in runs:
        if run.record.configuration.router == "mlp":
            assert is_harmless(show_run(read_run(run.folder), runs))


def test_long_settings_leave_a_readable_difference(runs):
    names = labels(tables(runs)[0].rows)
    longs = [name for name in names if name.startswith("mlp@")]
    assert len(set(longs)) == 2
    assert all("layers=" in name and len(name) <= 40 for name in longs)
    assert all(name in render_all(tables(runs), "table") for name in longs)


def test_many_tasks_are_folded_into_the_worst_and_the_best(tmp_path):
    world = World(tasks=tuple(f"task_{index:02}" for index in range(60)), queries=2)
    write_standard_runs(tmp_path, world)
    (table,) = tables(read_runs(tmp_path))
    for format in ("table", "markdown"):
        text = render_all([table], format).partition("Accuracy by task")[2]
        assert "worst" in text
        assert "best" in text
        assert " 60 " in text
        assert max(map(len, text.splitlines())) < 700
    row = table.rows[0]
    lowest = min(row.per_task, key=lambda task: (row.per_task[task], task))
    assert lowest in render_all([table], "markdown").partition("Accuracy by task")[2]
    frame = pd.read_csv(io.StringIO(render_all([table], "csv")))
    assert sum(name.startswith("per_task.") for name in frame) == 60
    assert any("60 of 60 tasks have fewer than 10 test queries" in note for note in table.notes)


@given(st.text(max_size=30))
def test_what_is_harmless_is_printable_everywhere(text):
    for place in ("terminal", "markdown", "code", "csv", "picture"):
        assert harmless(text, place).isprintable()
    assert harmless(harmless(text)) == harmless(text)
    assert "<" not in harmless(text, "markdown")
    assert not harmless(f"={text}", "csv").startswith("=")
    if text.isascii() and text.isprintable():
        assert harmless(text) == text


@given(st.floats(allow_nan=False))
def test_numbers_are_no_formulas(value):
    assert harmless(str(value), "csv") == str(value)
