"""`--split-by COLUMN`: what came first is learnt from, what came last is judged on."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from small_log import small_log

from recal_bench.cli import cli
from recal_bench.errors import OutcomesError, RecalBenchError
from recal_bench.experiments.bench import Bench, load_bench
from recal_bench.experiments.origins import outcomes_of
from recal_bench.experiments.records import read_runs
from recal_bench.outcomes.ordering import PERCENT, split_in_order

START = datetime(2026, 3, 1, tzinfo=timezone.utc)


def dated(queries: int = 120) -> pd.DataFrame:
    """A log whose queries came one a minute; the columns say so in several ways."""
    frame = small_log(queries)
    number = frame["query_id"].str[1:].astype(int)
    when = [START + timedelta(minutes=int(each)) for each in number]
    return frame.assign(
        number=number,
        iso=[each.isoformat() for each in when],
        zulu=[each.strftime("%Y-%m-%dT%H:%MZ") for each in when],
        when=when,
        naive=[each.replace(tzinfo=None) for each in when],
        word="soon",
        day=number // 60,
    )


def written(frame: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True, date_format="iso")
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("column", ["number", "iso", "zulu", "when", "naive"])
def test_numbers_and_times_of_every_file_give_the_same_split(tmp_path, suffix, column):
    bench = load_bench(written(dated().sample(frac=1, random_state=1), tmp_path / f"log{suffix}"), split_by=column)
    assert bench.data.n_queries == {"train": 72, "validation": 12, "test": 36}
    ids = {name: sorted(part.query_id_Q) for name, part in bench.splits.parts.items()}
    assert max(ids["train"]) < min(ids["validation"])
    assert max(ids["validation"]) < min(ids["test"])
    assert any(f"split by {column}" in note for note in bench.data.notes)


def test_rows_are_in_the_order_of_every_dense_view_and_the_split_is_part_of_the_data(tmp_path):
    path = written(dated(), tmp_path / "log.parquet")
    by_time, as_written = load_bench(path, split_by="iso"), load_bench(path)
    for part in by_time.splits.parts.values():
        keys = list(zip(part.split_Q, part.task_Q, part.query_id_Q, strict=True))
        assert keys == sorted(keys)
    assert by_time.data.hash != as_written.data.hash
    assert (by_time.data.split_by, as_written.data.split_by) == ("iso", None)
    assert scores_of(by_time) == scores_of(as_written)


def scores_of(bench: Bench) -> dict[str, list[float]]:
    parts = bench.splits.parts.values()
    return {query: row.tolist() for part in parts for query, row in zip(part.query_id_Q, part.score_QA, strict=True)}


def test_prompts_that_come_again_are_reported_and_not_learnt_from(tmp_path):
    frame = dated()
    late = frame["query_id"].isin(["q0100", "q0110"])
    frame.loc[late, "prompt"] = frame.loc[frame["query_id"] == "q0000", "prompt"].iloc[0]
    bench = load_bench(written(frame, tmp_path / "log.parquet"), split_by="number")
    assert "q0000" not in bench.splits.train.query_id_Q
    assert any("test prompts" in note and "are also in train" in note for note in bench.data.notes)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 40), min_size=30, max_size=200))
def test_values_are_never_torn_nor_out_of_order(places):
    place_Q = np.array(places, dtype=float)
    try:
        split_Q, _ = split_in_order(place_Q, "x")
    except OutcomesError:
        return
    order = {name: rank for rank, name in enumerate(PERCENT)}
    rank_Q = np.array([order[split] for split in split_Q])
    assert (np.diff(rank_Q[np.argsort(place_Q, kind="stable")]) >= 0).all()
    assert all(len(set(rank_Q[place_Q == value])) == 1 for value in set(places))


def run(*words: object):
    return CliRunner().invoke(cli, [*map(str, words)], env={"COLUMNS": "200"})


def test_the_record_the_command_and_the_table_name_the_column(tmp_path):
    path = written(dated(), tmp_path / "log.parquet")
    done = run("run", "--router", "ridge", "--outcomes", path, "--split-by", "iso", "--runs", tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert "split by iso: the earliest queries are train" in " ".join(done.output.split())
    found = [each for each in read_runs(tmp_path / "runs") if each.record.configuration.router == "ridge"]
    assert [each.record.configuration.data.split_by for each in found] == ["iso"]
    assert "--split-by iso" in found[0].record.command
    again = outcomes_of(found[0].record.configuration.data, found)
    assert again[0] is not None
    assert again[0].data_hash == found[0].record.configuration.data.hash
    other = run("run", "--router", "ridge", "--outcomes", path, "--split-by", "day", "--runs", tmp_path / "runs")
    assert "leave no" in other.output


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("wrod", "--split-by wrod: there is no such column (did you mean word?)"),
        ("word", "--split-by word is neither a number nor a time (ISO 8601) in 360 of 360 rows (first: row 1: soon)"),
        ("mixed", "--split-by mixed holds times with a zone and times without a zone, which have no common order"),
        ("some", "--split-by some: 3 queries of 120 have no value there"),
        ("day", "--split-by day: 2 distinct values over 120 queries leave no validation"),
    ],
)
def test_what_has_no_order_is_refused_with_the_reason(tmp_path, column, message):
    frame = dated()
    frame["mixed"] = [each if row % 2 else each[:16] for row, each in enumerate(frame["iso"])]
    frame["some"] = frame["number"].astype(float).where(frame["number"] > 2)
    found = run("run", "--router", "knn", "--outcomes", written(frame, tmp_path / "l.parquet"), "--split-by", column)
    assert found.exit_code == 2
    assert message in " ".join(found.output.split())


def test_the_embedded_pool_has_no_columns_to_split_by():
    with pytest.raises(RecalBenchError, match="--split-by are for an outcomes file"):
        load_bench(split_by="asked_at")
