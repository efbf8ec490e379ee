"""The command itself: what it lists, where it writes, what it does not overwrite."""

import re
from pathlib import Path

import pandas as pd
import pytest

from recal_bench.importers import FORMATS
from recal_bench.outcomes.files import check_file

MANUAL = Path(__file__).parent.parent.parent / "docs" / "importers.md"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    pd.DataFrame({"prompt": ["p", "q", "r"], "m": [0, 1, 1]}).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def test_the_formats_are_listed(run):
    result = run()
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines[: len(FORMATS)]] == list(FORMATS)
    assert lines[-1] == "recal-bench import FORMAT SOURCE --out FILE.parquet"


def test_a_mistyped_format_gets_a_hint(refused, table):
    assert "no format is called lmeval (did you mean lm-eval?)" in refused("lmeval", table)


def test_what_is_missing_is_said(run, refused, table):
    assert "give --out FILE.parquet" in run("wide", table).output
    assert "no source is given" in refused("wide")


def test_the_file_must_be_parquet(run, table, tmp_path):
    result = run("wide", table, "--out", tmp_path / "out.csv")
    assert result.exit_code == 2
    assert "give it the extension .parquet" in result.output


def test_only_what_an_import_wrote_is_written_anew(run, table, tmp_path):
    out = tmp_path / "out.parquet"
    for _ in range(2):
        assert run("wide", table, "--out", out).exit_code == 0
    first = out.read_bytes()
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "precious.parquet")
    (tmp_path / "note.parquet").write_text("not parquet")
    for name in ("precious.parquet", "note.parquet"):
        before = (tmp_path / name).read_bytes()
        result = run("wide", table, "--out", tmp_path / name)
        assert result.exit_code == 2
        assert f"{name} is there, and no import wrote it: choose another name for --out, or remove it" in result.output
        assert (tmp_path / name).read_bytes() == before
    table.write_text("prompt,m\np,9\n")
    assert run("wide", table, "--out", out).exit_code == 2
    assert out.read_bytes() == first, "what fails leaves the file as it was"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"\x00\xff" * 50, b"[1, 2]", b'{"a": ', b"a,b\n1,2\n", b"\x1f\x8b\x08"]
)
@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet"])
def test_no_source_ends_in_a_traceback(refused, tmp_path, form, content, ending):
    name = "samples_t_2026-01-02T03-04-05" if form == "lm-eval" and ending == "jsonl" else "source"
    path = tmp_path / f"{name}.{ending}"
    path.write_bytes(content)
    assert str(path) in refused(form, path)


def examples() -> dict[str, tuple[dict[str, str], list[list[str]]]]:
    """Each format's section of the manual: its files by name, and its commands."""
    found = {}
    for section in MANUAL.read_text(encoding="utf-8").split("\n## ")[1:]:
        files = dict(re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)^```", section, re.DOTALL | re.MULTILINE))
        commands = re.findall(r"^recal-bench import (.*)$", section, re.MULTILINE)
        found[section.split("\n")[0]] = (files, [command.split() for command in commands])
    return found


def test_the_manual_has_every_format():
    assert list(examples()) == list(FORMATS)


@pytest.mark.parametrize("form", FORMATS)
def test_the_examples_of_the_manual_are_imported(run, tmp_path, monkeypatch, form):
    files, commands = examples()[form]
    monkeypatch.chdir(tmp_path)
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content, encoding="utf-8")
    for command in commands:
        if Path(command[1]).exists():  # All but the pickle of RouterBench.
            result = run(*command)
            assert result.exit_code == 0, result.output
    assert not check_file(Path(commands[0][-1])).problems
