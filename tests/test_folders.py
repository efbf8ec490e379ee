"""A file that is written is there as a whole, or as it was before."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recal_bench.folders import naming, slug, written_together, written_whole


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


def test_an_error_that_names_no_file_gets_its_name(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    with pytest.raises(OSError, match=r"No space left on device.*note\.txt"), naming(path):
        raise OSError(28, "No space left on device")
    with pytest.raises(OSError, match=r"a library's own words: .*note\.txt"), written_whole(path):
        raise OSError("a library's own words")
    with pytest.raises(FileNotFoundError, match="other"), naming(path):
        (tmp_path / "other").read_text(encoding="utf-8")


def test_the_files_of_a_folder_are_all_of_one_making(tmp_path: Path) -> None:
    def write(text: str, fails: bool) -> None:
        with written_together(tmp_path / "board") as draft:
            (draft / "a").write_text(text, encoding="utf-8")
            if fails:
                raise OSError(28, "No space left on device")
            (draft / "b").write_text(text, encoding="utf-8")

    with pytest.raises(OSError, match="No space"):
        write("never", fails=True)
    assert left_in(tmp_path) == []
    write("old", fails=False)
    with pytest.raises(OSError, match="No space"):
        write("new", fails=True)
    assert {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "board").iterdir()} == {
        "a": "old",
        "b": "old",
    }


@pytest.mark.parametrize(("name", "file"), [("arm:a/b|cot", "arm-a-b-cot"), ("knn", "knn"), ("../..", "")])
def test_a_name_as_part_of_a_file_name(name: str, file: str) -> None:
    assert slug(name) == file
