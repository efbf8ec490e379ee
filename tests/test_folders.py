"""A file that is written is there as a whole, or as it was before."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recal_bench.folders import written_whole


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_the_draft_takes_the_name_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "made" / "note.txt"
    with written_whole(path) as draft:
        draft.write_text("new", encoding="utf-8")
        assert not path.exists()
        assert draft.parent == path.parent
    assert path.read_text(encoding="utf-8") == "new"
    assert left_in(path.parent) == ["note.txt"]


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()], ids=repr)
def test_an_error_leaves_the_old_file_and_no_draft(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old", encoding="utf-8")

    def write() -> None:
        with written_whole(path) as draft:
            draft.write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text(encoding="utf-8") == "old"
    assert left_in(tmp_path) == ["note.txt"]


def test_the_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with written_whole(tmp_path / "note.txt"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "note.txt").stat().st_mode & 0o777 == 0o640


def test_a_synced_file_was_on_the_disk_before_it_got_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "note.txt"
    named: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda number: named.append(path.exists()))
    with written_whole(path, sync=True) as draft:
        draft.write_text("new", encoding="utf-8")
    with written_whole(path) as draft:
        draft.write_text("newer", encoding="utf-8")
    assert named == [False]


def test_many_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"

    def write(number: int) -> None:
        with written_whole(path) as draft:
            draft.write_text(f"{number}" * 10_000, encoding="utf-8")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    text = path.read_text(encoding="utf-8")
    assert len(text) == 10_000
    assert len(set(text)) == 1
    assert left_in(tmp_path) == ["note.txt"]
