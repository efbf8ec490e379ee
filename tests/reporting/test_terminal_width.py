"""What the commands print is as wide as the terminal, and whole where it goes elsewhere."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from synthetic_runs import World, sweep_runs, write_run, write_standard_runs
from terminal import on_terminal

from recal_bench.cli import cli
from recal_bench.reporting.text.layout import terminal_table

CURVE = [0.5, 0.55, 0.6, 0.58, 0.61]
LONG = "a-router-with-a-very-long-name-that-goes-on-and-on-and-on-until-nobody-reads-it"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("width") / "runs"
    world = World(
        simulated=True, expected=True, splits=("ood", "test"), tasks=("hotpotqa", "a_task_of_a_long_name", "nq")
    )
    count = len(write_standard_runs(folder, world)[0].decisions())
    for seed in range(3):
        write_run(folder, world, LONG, [seed % 4] * count, seed=seed, curve=CURVE)
    sweep_runs(folder, {("knn", 0): 0.0})
    return folder


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "a_log.csv"
    rows = [
        f"task{query % 9},q{query},what is {query},model-{arm},direct,{(query + arm) % 2}"
        for query in range(60)
        for arm in range(2)
    ]
    path.write_text("\n".join(["task,query_id,prompt,model,strategy,score", *rows]) + "\n")
    return path


def is_copied(line):
    """Commands and paths are copied, and therefore in one piece however long they are."""
    return line.startswith(("command: ", "/")) or " is usable: " in line


def widest(text):
    return max(cell_len(line) for line in text.splitlines() if not is_copied(line))


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_compare_fits_the_terminal_and_a_pipe_gets_everything(runs, columns):
    text = on_terminal(columns, "compare", runs)
    assert widest(text) <= columns
    assert (f"to fit {columns} columns (a wider terminal, a pipe and --format csv show" in text) or columns == 200
    piped = CliRunner().invoke(cli, ["compare", str(runs)]).output
    assert "to fit" not in piped
    assert LONG in piped
    assert "us med/p95" in piped


@pytest.mark.parametrize("columns", [80, 120, 200])
@pytest.mark.parametrize("command", ["compare", "stability", "runs", "show", "validate"])
def test_every_command_heeds_the_columns_it_is_given(runs, log, monkeypatch, command, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    one = next(path for path in sorted(runs.iterdir()) if path.name.startswith("recal-"))
    words = {"show": [str(one)], "validate": [str(log)]}.get(command, [str(runs)])
    result = CliRunner().invoke(cli, [command, *words])
    assert result.exit_code == 0, result.output
    assert widest(result.output) <= columns
    cut = [word for word in result.output.split() if "..." in word.rstrip(".")]
    assert not cut or f"to fit {columns} columns" in " ".join(result.output.split())


def test_the_leaderboards_note_is_broken_and_its_paths_are_not(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(cli, ["leaderboard", str(runs), "--out", str(tmp_path / "out")])
    assert "show every query's prompt" in result.output
    assert widest(result.output) <= 80
    assert all(Path(line).exists() for line in result.output.splitlines() if line.startswith("/"))


def test_at_80_columns_what_show_tells_of_a_decision_is_on_one_line(runs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    one = next(path for path in sorted(runs.iterdir()) if path.name.startswith("recal-"))
    text = CliRunner().invoke(cli, ["show", str(one)]).output
    head, _, *lines = text[text.index("Decisions on test") :].split("\n\n")[1].splitlines()
    told = [line for line in lines if "|" in line]
    assert len(told) == 10
    assert all(len(line.split()) == len(head.split()) for line in told)
    assert "Left out to fit 80 columns (a wider terminal or a pipe shows them): USD" in text


names = st.text("abc|-中é", min_size=1, max_size=60)


@given(st.lists(st.tuples(names, names), min_size=1, max_size=5), st.integers(50, 200))
@settings(max_examples=40)
def test_texts_lose_their_middle_and_numbers_nothing(rows, columns):
    lines = [[one, two, "0.123 [0.001, 0.200]"] for one, two in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        text = terminal_table(["router", "arm", "a rather long header of numbers"], lines, (0, 0, 0), left=(0, 1))
    body = text.splitlines()[2 : 2 + len(lines)]
    assert all(cell_len(line) <= columns for line in text.splitlines())
    assert all(line.endswith("0.123 [0.001, 0.200]") for line in body)
    cut = [row for row, line in zip(rows, body, strict=True) if not all(name in line for name in row)]
    assert not cut or "Shortened to fit" in text
