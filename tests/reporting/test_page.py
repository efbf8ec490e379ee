"""The page in a real browser: sorting, filtering, drill-down; and that nothing from a file is ever more than text."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import chromium
import pandas as pd
import pytest
from click.testing import CliRunner
from small_log import small_log
from synthetic_runs import World, sweep_runs, write_standard_runs

import recal_bench
from recal_bench.cli import cli
from recal_bench.experiments.records import read_runs
from recal_bench.reporting.figures.compare import Comparison, tables
from recal_bench.reporting.figures.families import family_of
from recal_bench.reporting.page.columns import REPLAYED, cell, filled
from recal_bench.reporting.page.data import in_html
from recal_bench.reporting.page.write import view_page

NASTY = "<script>document.title='owned'</script>|<img src=x onerror=alert(1)>\n</script>\x1b[31m\u202eright\u2028&amp;"
SHOWN = NASTY.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e").replace("\u2028", " ")


class Board(NamedTuple):
    folder: Path
    log: pd.DataFrame
    rows: tuple[Comparison, ...]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if chromium.FOUND is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with chromium.browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    """The page of a log with two tasks: RL, kNN, ridge, a bandit, and what every table holds."""
    folder = tmp_path_factory.mktemp("board")
    log = small_log()
    log.to_parquet(folder / "log.parquet", index=False)
    bench = recal_bench.load_bench(folder / "log.parquet")
    quick = {"recal": {"steps": 10, "batch_size": 16}}
    recal_bench.run(bench, ["recal", "ridge", "linucb"], seeds=2, settings=quick, runs=folder / "runs")
    runs = read_runs(folder / "runs")
    (folder / "out").mkdir()
    view_page(runs, folder / "out", "recal-bench view runs", "best-single")
    return Board(folder / "out", log, tables(runs)[0].rows)


@pytest.fixture
def opened(page: Any, board: Board) -> Any:
    page.media()
    page.open(f"file://{board.folder}/index.html")
    yield page
    assert page.errors == []
    assert all(address.startswith(f"file://{board.folder}/") for address in page.requests)


def texts(page: Any, selector: str) -> list[str]:
    found: list[str] = page.run(f"[...document.querySelectorAll({selector!r})].map((node) => node.textContent)")
    return found


def test_a_header_sorts_by_its_column_from_the_keyboard_too(opened: Any, board: Board) -> None:
    assert texts(opened, "#rows tbody th") == [row.router for row in board.rows]
    position = texts(opened, "#rows thead th").index("accuracy")
    opened.run(f"document.querySelectorAll('#rows thead th button')[{position}].focus()")
    opened.press("Enter")
    accuracy = {row.router: row.accuracy_macro for row in board.rows}
    assert [accuracy[name] for name in texts(opened, "#rows tbody th")] == sorted(accuracy.values(), reverse=True)
    assert opened.run("document.querySelector('#rows [aria-sort=descending]').textContent") == "accuracy"
    opened.press("Enter")  # the header keeps the focus
    assert opened.run("document.querySelector('#rows [aria-sort=ascending]').textContent") == "accuracy"
    opened.press("Enter")
    assert texts(opened, "#rows tbody th") == [row.router for row in board.rows]


def test_families_and_names_filter_the_table_and_the_pictures(opened: Any) -> None:
    families = dict(zip(texts(opened, "#rows tbody th"), texts(opened, "#rows tbody td.family"), strict=True))
    assert families["recal"] == "RL"
    assert families["knn"] == families["ridge"] == "predict-then-choose"
    assert families["linucb"] == "bandit"
    assert families["best-single"] == families["random"] == "trivial"
    assert families["oracle"] == "reference"
    for family in ("reference", "trivial"):
        opened.run(f"document.querySelector('#families input[value={family}]').click()")
    assert set(texts(opened, "#rows tbody th")) == {"recal", "knn", "ridge", "linucb"}
    assert set(texts(opened, "#tasks tbody th")) == {"recal", "knn", "ridge", "linucb"}
    assert opened.run("document.querySelectorAll('#plot .dot').length") == 4
    opened.run("text.value = 'RID'; text.dispatchEvent(new Event('input'))")
    assert texts(opened, "#rows tbody th") == ["ridge"]


def test_a_row_opens_its_settings_seeds_command_and_figures(opened: Any) -> None:
    opened.run(
        "[...document.querySelectorAll('#rows tbody button')].find((each) => each.textContent === 'recal').focus()"
    )
    opened.press("Enter")
    shown = opened.run("detail.open && detail.textContent")
    for part in ("recal-bench run --router recal", "batch_size16", "seeds0, 1", "geo", "law", "tuned on validationno"):
        assert part in shown
    opened.press("Escape")
    assert not opened.run("detail.open")


def test_a_point_tells_its_router_and_opens_it(opened: Any, board: Board) -> None:
    for name in [row.router for row in board.rows if not row.reference]:
        opened.run(f"document.querySelector('#plot .dot[aria-label^=\"{name} (\"]').focus()")
        assert opened.run("point.textContent").startswith(f"{name} (")
        opened.press("Enter")
        assert opened.run("detail.open && document.getElementById('detail-name').textContent") == name
        opened.run("document.querySelector('#detail form button').click()")
        assert not opened.run("detail.open")


def test_curves_are_those_of_the_picked_routers(opened: Any) -> None:
    assert texts(opened, "#curves-told .swatch") == ["recal"]
    opened.run("document.querySelector('#rows input[aria-label=\"pick recal\"]').click()")
    assert "Pick routers" in opened.run("document.getElementById('curves-told').textContent")
    assert "recal" in texts(opened, "#stable tbody th")


def test_queries_are_loaded_when_asked_and_filtered(opened: Any, board: Board) -> None:
    assert opened.requests == [f"file://{board.folder}/index.html"]
    opened.run("document.querySelector('#load button').click()")
    opened.until("!filters.hidden")
    test = board.log[board.log["split"] == "test"]
    prompts = test.drop_duplicates("query_id").set_index("query_id")["prompt"]
    assert (
        dict(zip(texts(opened, "#list tbody th"), texts(opened, "#list td.prompt"), strict=True)) == prompts.to_dict()
    )
    lost = [float(text) for text in opened.run("[...$('list').rows].slice(1).map((row) => row.cells[3].textContent)")]
    assert lost == sorted(lost, reverse=True)
    opened.run("task.value = '1'; task.dispatchEvent(new Event('change'))")
    assert set(opened.run("[...$('list').rows].slice(1).map((row) => row.cells[1].textContent)")) == {"law"}
    opened.run("task.value = ''; differ.click()")
    choices = opened.run(
        "[...$('list').rows].slice(1).map((row) => [row.cells[4].textContent, row.cells[5].textContent])"
    )
    assert all(one != other for one, other in choices)
    opened.run("differ.click(); least.value = '0.5'; least.dispatchEvent(new Event('input'))")
    assert opened.run("$('list').rows.length - 1") == sum(value >= 0.5 for value in lost)
    opened.run("least.value = ''; words.value = 'question 8:'; words.dispatchEvent(new Event('input'))")
    opened.run("document.querySelector('#list tbody button').click()")
    shown = opened.run("document.getElementById('detail-body').textContent")
    assert prompts["q0008"] in shown
    arms = test[test["query_id"] == "q0008"]
    names, scores = (texts(opened, f"#detail tbody {each}") for each in ("th", "td:nth-child(2)"))
    assert {f"{each.model}|{each.strategy}": each.score for each in arms.itertuples()} == dict(
        zip(names, map(float, scores), strict=True)
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_a_phone_in_the_dark_and_on_paper(page: Any, board: Board, scheme: str) -> None:
    page.media(prefers_color_scheme=scheme)
    page.open(f"file://{board.folder}/index.html", 380, 800)
    assert page.run("document.documentElement.scrollWidth") == 380
    assert page.run(
        "[...document.querySelectorAll('svg text')].every((each) => each.getBoundingClientRect().height > 9)"
    )
    ink, paper = (
        sum(map(int, re.findall(r"\d+", page.run(f"getComputedStyle(document.body).{name}"))[:3]))
        for name in ("color", "backgroundColor")
    )
    assert abs(ink - paper) > 450
    assert (ink > paper) == (scheme == "dark")
    page.media(media="print", prefers_color_scheme=scheme)
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.run("[...document.querySelectorAll('.controls, dialog')].every((each) => !each.checkVisibility())")
    pdf = base64.b64decode(page.call("Page.printToPDF")["data"])
    assert pdf.startswith(b"%PDF")
    assert page.errors == []


def test_whatever_a_file_holds_is_text(page: Any, tmp_path: Path) -> None:
    log = small_log(queries=60)
    for column in ("task", "query_id", "prompt", "model", "strategy"):
        log[column] = (
            log[column] + " " + (NASTY if column in ("prompt", "query_id", "task") else NASTY.replace("|", "/"))
        )
    name = "<b>\u202e&amp; log.parquet"
    log.to_parquet(tmp_path / name, index=False)
    recal_bench.run(recal_bench.load_bench(tmp_path / name), "ridge", settings={"ridge": {}}, runs=tmp_path / "runs")
    for run in read_runs(tmp_path / "runs"):
        record = run.record.model_dump()
        record["configuration"]["settings"] = {NASTY: NASTY}
        if record["configuration"]["router"] == "ridge":
            record["configuration"]["router"] = record["command"] = NASTY
        record["configuration"]["tuned"] = record["code"] = record["device_name"] = record["encoder"] = NASTY
        record["packages"] = {NASTY: NASTY}
        record["configuration"]["data"]["notes"] = [NASTY]
        (run.folder / "run.json").write_text(type(run.record).model_validate(record).model_dump_json())
    runs = read_runs(tmp_path / "runs")
    (out := tmp_path / "out").mkdir()
    view_page(runs, out, f"recal-bench view {NASTY}", "best-single")
    assert (out / "index.html").read_text().count("<script") == 2
    page.open(f"file://{tmp_path}/out/index.html")
    page.run("document.querySelector('#load button').click()")
    page.until("!filters.hidden")
    for selector in ("#rows tbody button", "#list tbody button"):
        page.run(f"detail.close(); [...document.querySelectorAll({selector!r})].pop().click()")
        shown = page.run("detail.textContent")
        assert "<script>" in shown
        assert not {"\x1b", "\u202e", "\u2028"} & set(page.run("document.documentElement.textContent"))
    assert SHOWN in page.run("document.querySelector('#detail-body pre').textContent")
    assert page.run("document.querySelectorAll('img, iframe, object, b').length") == 0
    assert page.run("document.scripts.length") == 3  # data, the page's own, the query list
    assert "owned" not in page.run("document.title").split()
    assert page.errors == []
    assert all(address.startswith(f"file://{tmp_path}/out/") for address in page.requests)


def test_several_outcomes_and_splits_and_a_frontier(page: Any, tmp_path: Path) -> None:
    write_standard_runs(tmp_path / "runs", World(splits=("test", "ood"), simulated=True))
    write_standard_runs(tmp_path / "runs", World(name="other.parquet", cost=False))
    runs = sweep_runs(tmp_path / "runs", {("knn", 0): 0.02})
    (tmp_path / "out").mkdir()
    view_page(runs, tmp_path / "out", "recal-bench view runs", "best-single")
    page.open(f"file://{tmp_path}/out/index.html")
    titles = texts(page, "#table option")
    assert len(titles) == 2
    for index, title in enumerate(titles):
        page.run(f"$('table').value = '{index}'; $('table').dispatchEvent(new Event('change'))")
        assert page.run("subject.textContent") == title
        splits = texts(page, "#split option")
        assert splits == (["test", "ood"] if "toy" in title else ["test"])
        assert page.run("cost.hidden") == ("other" in title)
        if "toy" in title:
            assert page.run("document.querySelectorAll('#plot path.line').length") == 1
            before = texts(page, "#rows tbody td")
            page.run("split.value = 'ood'; split.dispatchEvent(new Event('change'))")
            assert texts(page, "#rows tbody td") != before
        page.run("document.querySelector('#load button').click()")
        page.until("!filters.hidden")
        assert "Prompts are not shown" in page.run("found.textContent")
    assert page.errors == []


def test_worlds_are_one_table_with_a_query_list_each(page: Any, tmp_path: Path) -> None:
    for seed in (0, 1):
        world = World(name=f"embedded-seed{seed}", data_hash=f"{seed}" * 12, simulated=True, seed=seed)
        write_standard_runs(tmp_path / "runs", world)
    (out := tmp_path / "out").mkdir()
    view_page(read_runs(tmp_path / "runs"), out, "recal-bench view runs", "best-single")
    page.open(f"file://{out}/index.html")
    assert "2 worlds" in page.run("subject.textContent")
    assert texts(page, "#curves-told .swatch") == ["recal"]
    assert len(texts(page, "#stable table")) == 2
    for index, name in enumerate(texts(page, "#load button")):
        page.run(f"found.textContent = ''; document.querySelectorAll('#load button')[{index}].click()")
        page.until("found.textContent")
        assert f"embedded-seed{index}" in name
    assert page.errors == []


@pytest.mark.parametrize(
    ("router", "family"),
    [
        ("recal-no-floor", "RL"),
        ("grpo", "RL"),
        ("thompson", "bandit"),
        ("automix", "cascade"),
        ("cascade-routing", "cascade"),
        ("graphrouter", "predict-then-choose"),
        ("uniroute", "predict-then-choose"),
        ("routerdc", "direct choice"),
        ("cheapest", "trivial"),
        ("arm:small|cot", "trivial"),
        ("of-somebody-else", "other"),
    ],
)
def test_a_family_follows_from_what_a_router_is(router: str, family: str) -> None:
    assert family_of(router, reference=False) == family
    assert family_of(router, reference=True) == "reference"


def test_ranks_sort_and_who_may_be_the_best_stands_in_a_band(opened: Any, board: Board) -> None:
    routers = [row for row in board.rows if not row.reference]
    ranks = {row.router: row.rank for row in routers}
    position = texts(opened, "#rows thead th").index("rank")
    shown = opened.run(
        f"[...document.querySelectorAll('#rows tbody tr')].map((row) => row.cells[{position}].textContent)"
    )
    wanted = [f"{low}\u2013{high}" if low != high else str(low) for low, high in ranks.values()]
    assert shown == [*wanted, *[""] * (len(board.rows) - len(routers))]
    tied = {row.router for row in routers if row.tie_group == "best"}
    assert tied
    assert set(texts(opened, "#rows tbody tr.tied th")) == tied
    assert "cannot be told from the best" in opened.run("tied.hidden || tied.textContent")
    opened.run(f"document.querySelectorAll('#rows thead th button')[{position}].click()")
    ranked = [ranks[name][0] for name in texts(opened, "#rows tbody th")[: len(routers)]]
    assert ranked == sorted(ranked)


def test_ties_and_ranks_are_shown_where_rows_have_them() -> None:
    rows = [{"tie_group": 1, "rank": [1, 4], "utility": 0.5}, {"tie_group": 2, "rank": [3, 5], "utility": 0.4}]
    shown = {column.path: [cell(column, row) for row in rows] for column in filled(REPLAYED, rows)}
    assert shown == {"tie_group": ["1", "2"], "rank": [[1, 1, 4], [3, 3, 5]], "utility": [0.5, 0.4]}


def test_without_queries_no_prompt_leaves_the_log(board: Board, tmp_path: Path) -> None:
    out = shutil.copytree(board.folder, tmp_path / "out")
    assert list(out.glob("*-queries.js"))
    runs = board.folder.parent / "runs"
    done = CliRunner().invoke(cli, ["leaderboard", str(runs), "--out", str(out), "--no-queries"])
    assert done.exit_code == 0
    assert done.stderr == ""
    assert not any("question 8:" in path.read_text(errors="replace") for path in out.iterdir())


def test_the_same_runs_give_the_same_page_whatever_took_how_long(tmp_path: Path) -> None:
    write_standard_runs(tmp_path / "runs", World(simulated=True, name="embedded"))
    for out in ("one", "two"):
        (tmp_path / out).mkdir()
        view_page(read_runs(tmp_path / "runs"), tmp_path / out, "recal-bench view runs", "best-single")
        for run in read_runs(tmp_path / "runs"):
            record = run.record.model_copy(update={"fit_seconds": 99.0, "route_us_per_query": 7.0, "started": "later"})
            (run.folder / "run.json").write_text(record.model_dump_json())
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {"index.html", "embedded-queries.js"}
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)


def test_view_serves_this_machine_alone_and_opens_the_browser(board: Board, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    (script := tmp_path / "browser").write_text(
        f'#!/bin/sh\nprintf %s "$1" > {opened}.part && mv {opened}.part {opened}\n'
    )
    script.chmod(0o755)
    # A shell's background job ignores SIGINT, and its children inherit that.
    hearing = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{hearing}; from recal_bench.cli import main; main()"
    command = [sys.executable, "-c", program, "view", str(board.folder.parent / "runs")]
    environment = {**os.environ, "BROWSER": f"{script} %s", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            address = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())[0]  # type: ignore[index]
            with urlopen(address) as reply:
                assert b"Leaderboard" in reply.read()
            with urlopen(f"{address}log-queries.js") as reply:
                assert reply.read().startswith(b"recalQueries(")
            with pytest.raises(HTTPError, match="403") as refused:
                urlopen(Request(address, headers={"Host": "elsewhere.example:80"}))
            refused.value.close()
            with pytest.raises(HTTPError, match="404") as absent:
                urlopen(f"{address}../log.parquet")
            absent.value.close()
            while not opened.exists():
                time.sleep(0.01)
            assert opened.read_text() == address
            taken = CliRunner().invoke(cli, [*command[3:], "--no-browser", "--port", address.split(":")[2].strip("/")])
            assert taken.exit_code == 2
            assert "is taken" in taken.stderr
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("text", [NASTY, "\ud800", "<!--<script>", "]]>", "\u2029", "{{ 7 * 7 }}"])
def test_embedded_json_is_json_and_ends_no_element(text: str) -> None:
    embedded = in_html({"a": [text, {text: None}]})
    embedded.encode()
    assert not set("<>&") & set(embedded)
    assert json.loads(embedded)["a"][0].isprintable() or "\n" in text
