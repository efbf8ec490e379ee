"""A folder of parquet files as one log: what is read, and what is said where it cannot be."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from small_log import small_log

from recal_bench.cli import cli
from recal_bench.errors import OutcomesError
from recal_bench.experiments.bench import load_bench
from recal_bench.outcomes.files import check_file, read_outcomes
from recal_bench.outcomes.reading import Reading
from recal_bench.outcomes.writer import read_metadata, write_outcomes


def split_up(frame: pd.DataFrame, folder, by: str | None = None, n_files: int = 3):
    """Write a log as several files, in one folder or in folders of a column's values."""
    parts = [(str(value), part.drop(columns=by)) for value, part in frame.groupby(by)] if by else [("", frame)]
    for value, part in parts:
        place = folder / f"{by}={value}" if by else folder
        place.mkdir(parents=True, exist_ok=True)
        for number in range(n_files):
            part.iloc[number::n_files].to_parquet(place / f"part-{number}.parquet", index=False)
    return folder


def problems(path):
    report = check_file(path)
    assert report.outcomes is None
    assert all(line.isprintable() for line in report.problems)
    return report.problems


@pytest.mark.parametrize("by", [None, "split", "model"])
def test_a_folder_is_the_file_that_its_files_make(tmp_path, by):
    frame = small_log(30)
    frame.to_parquet(tmp_path / "log.parquet")
    whole, parts = read_outcomes(tmp_path / "log.parquet"), read_outcomes(split_up(frame, tmp_path / "logs.v2", by))
    assert parts.name == "logs.v2"
    assert parts.data_hash == whole.data_hash
    np.testing.assert_array_equal(parts.score_QA, whole.score_QA)
    np.testing.assert_array_equal(parts.cost_QA, whole.cost_QA)


def test_the_command_line_takes_a_folder(tmp_path):
    folder = split_up(small_log(30), tmp_path / "log", "split")
    found = CliRunner().invoke(cli, ["validate", str(folder)])
    assert found.exit_code == 0, found.output
    assert "splits: test (6), train (18), validation (6)" in found.output
    assert load_bench(folder).data.hash == read_outcomes(folder).data_hash


def test_folders_name_any_column(tmp_path):
    frame = small_log(30)
    frame["feature_tenant"] = [f"t/{query[-1]}" for query in frame["query_id"]]
    folder = tmp_path / "log"
    for (sample, tenant), part in frame.assign(sample=2).groupby(["sample", "feature_tenant"]):
        place = folder / f"sample={sample}" / f"feature_tenant={tenant.replace('/', '%2F')}"
        place.mkdir(parents=True)
        part.drop(columns=["sample", "feature_tenant"]).to_parquet(place / "a.parquet")
    (folder / "_SUCCESS").touch()
    (folder / ".part.crc").touch()
    outcomes = read_outcomes(folder, others=["sample"], reading=Reading(features=True))
    tenants = {each["tenant"] for each in outcomes.feature_Q}
    assert tenants == set(frame["feature_tenant"])
    assert np.unique(outcomes.column_QA["sample"]).tolist() == [2.0]
    day = [f"2026-01-{10 + int(query[1:]) // 2}" for query in frame["query_id"]]
    split_up(frame.assign(day=day), tmp_path / "days", "day", n_files=1)
    ordered = read_outcomes(tmp_path / "days", reading=Reading(split_by="day"))
    assert set(ordered.split_Q) == {"train", "validation", "test"}


def test_a_bad_value_is_named_by_its_file_and_row(tmp_path):
    frame = small_log(30)
    folder = split_up(frame, tmp_path / "log", n_files=2)
    part = pd.read_parquet(folder / "part-1.parquet")
    part.loc[4, "score"] = 7.0
    part.to_parquet(folder / "part-1.parquet")
    (line,) = problems(folder)
    assert line.startswith(f"score is outside 0..1 in 1 of {len(frame)} rows (first: row 5 of part-1.parquet: 7.0)")


def test_files_of_other_types_and_of_nulls_alone_go_together(tmp_path):
    frame = small_log(30).assign(prompt_tokens=5)
    frame["cost_usd"] = None
    frame.iloc[:40].to_parquet(tmp_path / "a.parquet")
    later = frame.iloc[40:].assign(cost_usd=1, prompt_tokens=5.5)
    pq.write_table(pa.Table.from_pandas(later.astype({"model": "category"})), tmp_path / "b.parquet")
    outcomes = read_outcomes(tmp_path, others=["prompt_tokens"])
    assert np.nansum(outcomes.cost_QA) == len(later)
    assert set(np.unique(outcomes.column_QA["prompt_tokens"])) == {5.0, 5.5}
    assert check_file(tmp_path).summary[0] == f"rows: {len(frame)}"


def bad_folder(folder, case):
    """A folder that is not one log, and why not."""
    folder.mkdir()
    if case == "empty":
        return "the folder holds no parquet file: give one outcomes file, or a folder of parquet files"
    frame = small_log(30)
    split_up(frame, folder, n_files=2)
    if case == "foreign":
        (folder / "notes.txt").touch()
        (folder / "old").mkdir()
        return (
            "the folder holds notes.txt, old beside parquet files: keep the parquet files of one log there alone, flat "
            "or in folders called COLUMN=VALUE"
        )
    if case == "columns":
        frame.assign(more=1).drop(columns="cost_usd").to_parquet(folder / "z.parquet")
        return (
            "the files have different columns: of part-0.parquet and z.parquet, part-0.parquet alone has cost_usd and "
            "z.parquet alone has more: write all files with the same columns"
        )
    if case == "types":
        frame.assign(score="1").to_parquet(folder / "z.parquet")
        return "column score holds numbers in part-0.parquet and texts in z.parquet: write it alike in all files"
    if case == "names":
        frame.assign(query_id=1).to_parquet(folder / "a.parquet")
        return (
            "column query_id holds whole numbers in a.parquet and texts in part-0.parquet: write it alike in all files"
        )
    if case == "depth":
        split_up(frame, folder, "split")
        return (
            "the folders name no column for part-0.parquet and split for split=test/part-0.parquet: put all files into "
            "folders of the same columns"
        )
    if case == "twice":
        for path in folder.iterdir():
            path.unlink()
        (folder / "split=train").mkdir()
        frame.to_parquet(folder / "split=train" / "a.parquet")
        return "column split is in the files and in the names of their folders: keep one of them"
    if case == "delta":
        (folder / "_delta_log").mkdir()
        return (
            "the folder is a table of Delta Lake (_delta_log), which also keeps files that count no longer: write its "
            "rows into a folder of parquet files"
        )
    if case == "size":
        (folder / "z.parquet").touch()
        return "its file z.parquet is empty (0 bytes)"
    if case == "pointer":
        (folder / "z.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        return "its file z.parquet is a pointer of Git LFS: get the file with `git lfs pull`"
    (folder / "z.parquet").write_text("task,model\n")
    return "its file z.parquet is not a parquet file, but is named .parquet"


@pytest.mark.parametrize(
    "case",
    ["empty", "foreign", "columns", "types", "names", "depth", "twice", "delta", "size", "pointer", "magic"],
)
def test_folders_that_are_not_one_log(tmp_path, case):
    said = bad_folder(tmp_path / "log", case)
    assert problems(tmp_path / "log") == (said,)
    with pytest.raises(OutcomesError, match="log: "):
        read_outcomes(tmp_path / "log")


def test_a_file_that_is_cut_off_is_named(tmp_path):
    folder = split_up(small_log(30), tmp_path / "log")
    whole = (folder / "part-1.parquet").read_bytes()
    (folder / "part-1.parquet").write_bytes(whole[:-20])
    (line,) = problems(folder)
    assert line.startswith("its file part-1.parquet cannot be read, it is damaged or cut off: ArrowInvalid")


def test_the_origin_of_a_folder_is_what_its_files_share(tmp_path):
    frame = small_log(30)
    for name, half in (("a", frame.iloc[:60]), ("b", frame.iloc[60:])):
        columns = {column: half[column].tolist() for column in half}
        write_outcomes(
            [columns], tmp_path / f"{name}.parquet", {"made_by": "us", "file": name, "simulated": name == "b"}
        )
    assert read_metadata(tmp_path) == {"made_by": "us", "simulated": True}
    assert read_outcomes(tmp_path).simulated
