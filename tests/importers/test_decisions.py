"""Files of decisions and paraphrases: whatever their bytes, they are read or refused in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recal_bench.errors import OutcomesError
from recal_bench.importers.decisions import read_decisions, read_paraphrases

_words = st.text(st.characters(codec="utf-8", exclude_characters='\r\n",;\t\x00'), min_size=1, max_size=8)


def _arena(text: str) -> str:
    return f'{{"global index": "q", "prediction": {text!r}}}'


_contents = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=40).map(lambda text: f"query_id,arm,cost\n{text}".encode("utf-8", "ignore")),
    st.text(max_size=40).map(lambda text: _arena(text).encode("utf-8", "ignore")),
)


def said_of(read: Callable[[Path], list[object]], path: Path) -> str:
    """What a file is refused with; nothing where it is read."""
    try:
        return "" if read(path) else "nothing was read"
    except OutcomesError as error:
        return str(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["chosen.csv", "chosen.jsonl", "chosen.json", "chosen.parquet"]), _contents)
def test_any_file_is_read_or_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for read in (read_decisions, read_paraphrases):
        said = said_of(read, path)
        assert not said or str(path) in said
        assert "\n" not in said


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(_words, _words).map(lambda pair: tuple(word.strip() or "x" for word in pair)), min_size=1))
def test_a_plain_table_comes_back_as_it_was_written(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    lines = [f'"{query}","{arm}",{number},0.25' for number, (query, arm) in enumerate(pairs)]
    path = tmp_path / "chosen.csv"
    path.write_text("\n".join(["query_id,arm,seed,cost", *lines]), encoding="utf-8")
    found = read_decisions(path)
    assert [(row.query_id, row.arm) for row in found] == pairs
    assert [row.seed for row in found] == [*range(len(pairs))]
    assert {row.cost for row in found} == {0.25}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("query_id,arm\n,atlas\n", "row 1: query_id is empty"),
        ("query_id,arm,cost\nq,atlas,-1\n", "row 1: cost is -1, which is impossible"),
        ("query_id,arm,seed\nq,atlas,x\n", "row 1: seed is x, which is not a number"),
        ("paraphrase_of,arm\nq,atlas\n", "holds no decision on a query in its own words"),
        ("queryid,arm\nq,atlas\n", "row 1 has no query_id (did you mean queryid?)"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "chosen.csv"
    path.write_text(text, encoding="utf-8")
    assert said in said_of(read_decisions, path)
