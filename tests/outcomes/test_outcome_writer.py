"""Writing outcomes: whole or not at all, in one schema, with where they come from."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.errors import RecalBenchError
from recal_bench.outcomes.files import check_file
from recal_bench.outcomes.writer import read_metadata, write_outcomes

COLUMNS = [
    ("task", "nq"),
    ("query_id", "1"),
    ("prompt", "Who?"),
    ("gold", '["x"]'),
    ("model", "m"),
    ("strategy", "direct"),
    ("score", 0.5),
    ("prompt_tokens", 10),
    ("completion_tokens", 5),
    ("reasoning_tokens", 2),
    ("cached_tokens", 1),
    ("cost_usd", 1e-5),
    ("latency_s", 0.25),
    ("response", "Answer: x"),
    ("split", "test"),
    ("sample", 0),
    ("propensity", 0.5),
    ("finish_reason", "stop"),
    ("served_model", "m-1"),
    ("usage", "reported"),
    ("asked_at", "2025-06-10T00:00:00+00:00"),
]
REQUIRED = ("task", "query_id", "prompt", "model", "strategy", "score")


def block(rows=2, **changes):
    """Required columns alone, and what is changed: a column's one value, or its list."""
    values = {name: value for name, value in COLUMNS if name in REQUIRED} | changes
    columns = {name: value if isinstance(value, list) else [value] * rows for name, value in values.items()}
    return columns | ({} if "query_id" in changes else {"query_id": [f"q{row}" for row in range(rows)]})


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


# --- What is in the file


def test_columns_come_in_one_order_with_one_type_each(tmp_path):
    path = tmp_path / "a.parquet"
    assert write_outcomes([{name: [value] for name, value in reversed(COLUMNS)}], path) == 1
    schema = pq.read_schema(path)
    assert schema.names == [name for name, _ in COLUMNS]
    for name, value in COLUMNS:
        expected = {str: pa.string(), int: pa.int64(), float: pa.float64()}[type(value)]
        assert schema.field(name).type == expected
    assert pq.read_table(path).to_pylist() == [dict(COLUMNS)]


def test_whole_numbers_are_scores_too(tmp_path):
    write_outcomes([block(3, score=[0, 1, True])], tmp_path / "a.parquet")
    assert pd.read_parquet(tmp_path / "a.parquet")["score"].tolist() == [0.0, 1.0, 1.0]


def test_columns_that_a_block_does_not_have_are_not_written(tmp_path):
    write_outcomes([block()], tmp_path / "a.parquet")
    assert pq.read_schema(tmp_path / "a.parquet").names == list(REQUIRED)


@pytest.mark.parametrize("name", [name for name, _ in COLUMNS if name not in REQUIRED])
def test_what_is_not_known_is_null(tmp_path, name):
    given_value = dict(COLUMNS)[name]
    write_outcomes([block(1, **{name: [None]}), block(2, **{name: [None, given_value]})], tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet")[name].to_pylist() == [None, None, given_value]


TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    blocks=st.lists(
        st.lists(st.tuples(TEXT, st.floats(0, 1), st.none() | st.integers(0, 2**62), st.none() | TEXT), max_size=4),
        min_size=1,
        max_size=4,
    ).filter(any)
)
def test_rows_come_back_as_they_were_given(tmp_path_factory, blocks):
    path = tmp_path_factory.mktemp("rows") / "a.parquet"
    names = ("prompt", "score", "prompt_tokens", "response")
    columns = [{name: [row[i] for row in rows] for i, name in enumerate(names)} for rows in blocks]
    rows = [row for part in blocks for row in part]
    assert write_outcomes(columns, path) == len(rows)
    found = pq.read_table(path)
    assert [tuple(row[name] for name in names) for row in found.to_pylist()] == rows
    assert left_in(path.parent) == ["a.parquet"]


def test_a_block_is_a_row_group(tmp_path):
    write_outcomes((block(rows) for rows in (3, 1, 5)), tmp_path / "a.parquet")
    read = pq.ParquetFile(tmp_path / "a.parquet").metadata
    assert [read.row_group(each).num_rows for each in range(read.num_row_groups)] == [3, 1, 5]


def test_what_is_written_is_an_outcomes_file(tmp_path):
    path = tmp_path / "a.parquet"
    rows = [{name: [value] for name, value in COLUMNS} | {"query_id": [f"q{row}"]} for row in range(3)]
    write_outcomes(rows, path)
    assert check_file(path).problems == ()


def test_a_column_of_another_name_is_not_dropped_in_silence(tmp_path):
    with pytest.raises((RecalBenchError, ValueError, KeyError)):
        write_outcomes([block(colour="red")], tmp_path / "a.parquet")
    assert left_in(tmp_path) == []


def test_a_column_that_comes_later_is_not_dropped_in_silence(tmp_path):
    with pytest.raises((RecalBenchError, ValueError, KeyError)):
        write_outcomes([block(), block(cost_usd=1e-5)], tmp_path / "a.parquet")
    assert left_in(tmp_path) == []


def test_half_a_surrogate_pair_in_a_response_does_not_lose_the_file(tmp_path):
    """A reply that is cut within an emoji can hold one: JSON allows it, UTF-8 does not."""
    write_outcomes([block(1, response="half a pair \ud83d here")], tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet")["response"][0].as_py().startswith("half a pair ")


# --- Where it comes from

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(told=st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_metadata_come_back(tmp_path_factory, told):
    path = tmp_path_factory.mktemp("metadata") / "a.parquet"
    write_outcomes([block()], path, told)
    assert read_metadata(path) == told


def test_metadata_of_equal_content_are_equal_bytes(tmp_path):
    write_outcomes([block()], tmp_path / "a.parquet", {"b": 1, "a": {"d": 2, "c": 3}})
    write_outcomes([block()], tmp_path / "b.parquet", {"a": {"c": 3, "d": 2}, "b": 1})
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_files_of_others_have_no_metadata_of_ours(tmp_path):
    pd.DataFrame(block()).to_parquet(tmp_path / "pandas.parquet")
    (tmp_path / "text.parquet").write_text("task,query_id\n")
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "empty.parquet").touch()
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "pandas.parquet").read_bytes()[:-20])
    for name in [*left_in(tmp_path), "nothing.parquet"]:
        assert read_metadata(tmp_path / name) == {}
    write_outcomes([block()], tmp_path / "ours.parquet")
    assert read_metadata(tmp_path / "ours.parquet") == {}


@pytest.mark.parametrize("told", [b"[1]", b"1", b"null", b"\xff", b"{"])
def test_metadata_that_are_no_object_are_none(tmp_path, told):
    table = pa.table(block()).replace_schema_metadata({b"recal-bench": told})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_metadata(tmp_path / "a.parquet") == {}


# --- Whole or not at all


def test_folders_are_made_and_a_file_is_replaced(tmp_path):
    path = tmp_path / "deep" / "er" / "a.parquet"
    write_outcomes([block(2)], path)
    write_outcomes([block(5)], path)
    assert len(pd.read_parquet(path)) == 5
    assert left_in(path.parent) == ["a.parquet"]


def test_the_file_may_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        write_outcomes([block()], tmp_path / "a.parquet")
        assert (tmp_path / "a.parquet").stat().st_mode & 0o777 == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


@pytest.mark.parametrize("name", ["a.csv", "a", "a.parquet.gz", "parquet"])
def test_another_extension_is_refused(tmp_path, name):
    with pytest.raises(RecalBenchError, match=r"extension \.parquet"):
        write_outcomes([block()], tmp_path / name)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("blocks", [[], [{}], [block(0)], [block(0), block(0)]], ids=["none", "{}", "empty", "empties"])
def test_without_a_row_there_is_no_file(tmp_path, blocks):
    write_outcomes([block(1)], tmp_path / "old.parquet")
    old = (tmp_path / "old.parquet").read_bytes()
    for name in ("new.parquet", "old.parquet"):
        with pytest.raises(RecalBenchError, match="no outcome to write") as caught:
            write_outcomes(blocks, tmp_path / name)
        assert name in str(caught.value)
    assert left_in(tmp_path) == ["old.parquet"]
    assert (tmp_path / "old.parquet").read_bytes() == old


def test_a_block_without_rows_does_no_harm(tmp_path):
    assert write_outcomes([block(0), block(2), block(0)], tmp_path / "a.parquet") == 2
    assert len(pd.read_parquet(tmp_path / "a.parquet")) == 2


@pytest.mark.parametrize("error", [RecalBenchError("stop"), KeyboardInterrupt(), MemoryError()], ids=repr)
@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_error_in_the_blocks_leaves_the_old_file_and_no_draft(tmp_path, error, after):
    path = tmp_path / "a.parquet"
    write_outcomes([block(1)], path)
    old = path.read_bytes()

    def failing():
        for _ in range(after):
            yield block(100)
        raise error

    with pytest.raises(type(error)):
        write_outcomes(failing(), path)
    assert path.read_bytes() == old
    assert left_in(tmp_path) == ["a.parquet"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"score": ["high"]},
        {"prompt_tokens": ["many"]},
        {"prompt": [5]},
        {"score": [0.5, 0.5]},
        {"prompt_tokens": [2**63]},
    ],
    ids=repr,
)
def test_values_of_another_type_leave_no_draft(tmp_path, wrong):
    with pytest.raises((RecalBenchError, ValueError, TypeError, OverflowError)):
        write_outcomes([block(1, **{name: [None] for name in wrong}), block(1, **wrong)], tmp_path / "a.parquet")
    assert left_in(tmp_path) == []


def test_a_place_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(OSError, match=r"folder\.parquet"):
        write_outcomes([block()], tmp_path / "folder.parquet")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_outcomes([block()], tmp_path / "file" / "a.parquet")
    assert left_in(tmp_path) == ["file", "folder.parquet"]


def run(program, *args):
    """Starts a Python program; it may say something on its output."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, args)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


_HALF_WAY = """
    import signal, sys, time
    from pathlib import Path
    from recal_bench.outcomes.writer import write_outcomes

    # A shell's background jobs ignore SIGINT, and so would their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    def blocks():
        for _ in range(3):
            yield {"task": ["nq"] * 1000, "score": [0.5] * 1000}
        print("half way", flush=True)
        time.sleep(60)

    write_outcomes(blocks(), Path(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_a_writer_that_is_killed_half_way_leaves_the_old_file(tmp_path, how):
    path = tmp_path / "a.parquet"
    write_outcomes([block(1)], path)
    old = path.read_bytes()
    with run(_HALF_WAY, path) as child:
        said = child.stdout.readline()
        child.send_signal(how)
        child.communicate(timeout=30)
    assert said == "half way\n"
    assert path.read_bytes() == old
    # Nobody can tidy up after SIGKILL, but what is left has no name that is taken for outcomes.
    assert [each.name for each in tmp_path.glob("*.parquet")] == ["a.parquet"]
    if how == signal.SIGINT:
        assert left_in(tmp_path) == ["a.parquet"]
    assert write_outcomes([block(4)], path) == 4


_FULL = """
    import json, os, resource, sys
    from pathlib import Path
    from recal_bench.outcomes.writer import write_outcomes

    path = Path(sys.argv[1])
    size = path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, resource.RLIM_INFINITY))
    def blocks():
        for _ in range(30):
            yield {"task": [os.urandom(50).hex() for _ in range(200)], "score": [0.5] * 200}
    try:
        write_outcomes(blocks(), path)
    except OSError as error:
        print(json.dumps([type(error).__name__, len(str(error).splitlines()), sorted(os.listdir(path.parent))]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
def test_a_file_that_finds_no_room_leaves_the_old_one_and_no_draft(tmp_path):
    path = tmp_path / "a.parquet"
    write_outcomes([block(1)], path)
    old = path.read_bytes()
    with run(_FULL, path) as child:
        said, problems = child.communicate(timeout=30)
    assert said, problems
    assert json.loads(said) == ["OSError", 1, ["a.parquet"]]
    assert path.read_bytes() == old


def test_a_path_without_a_folder_is_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_outcomes([block()], Path("a.parquet"))
    assert left_in(tmp_path) == ["a.parquet"]
