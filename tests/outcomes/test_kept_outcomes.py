"""The dense view of a large file, kept on the disk: the same outcomes, whatever becomes of what was kept."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recal_bench.outcomes import Outcomes, kept
from recal_bench.outcomes.files import read_outcomes
from recal_bench.outcomes.kept import read_kept
from recal_bench.outcomes.reading import AS_WRITTEN, Reading


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log that counts as large, with a column of its own, a gap and a query without a score."""
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "LEAST_BYTES", 0)
    monkeypatch.setattr(kept, "LEAST_OUTCOMES", 1)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"query": np.repeat(np.arange(40), 3), "model": list("abc") * 40})
    rows = rows.assign(
        task="t",
        query_id=[f"q{query}" for query in rows["query"]],
        prompt=[f"what is {query}" for query in rows["query"]],
        strategy="direct",
        score=rng.random(120).round(2),
        cost_usd=rng.random(120),
        latency_s=rng.random(120),
        other=rng.random(120),
        split=np.where(rows["query"] < 20, "train", "test"),
    )
    rows.loc[5, "score"] = np.nan
    path = tmp_path / "log.parquet"
    rows.drop(index=7).to_parquet(path)
    return path


def entries(log: Path) -> list[Path]:
    return sorted((log.parent / "cache" / "outcomes").glob("*"))


def assert_same(one: Outcomes, other: Outcomes) -> None:
    for field in dataclasses.fields(Outcomes):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name == "column_QA":
            assert list(mine) == list(theirs)
            for name in mine:
                np.testing.assert_array_equal(mine[name], theirs[name])
        elif isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)
        else:
            assert mine == theirs, field.name


def test_a_file_that_was_read_before_gives_the_same_outcomes(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_kept(log, False, ["other"], AS_WRITTEN)
    assert len(entries(log)) == 1
    moved = log.with_name("moved.parquet")
    shutil.copy(log, moved)
    monkeypatch.setattr(kept, "read_outcomes", None)
    again = read_kept(log, False, ["other"], AS_WRITTEN)
    assert_same(first, again)
    assert_same(dataclasses.replace(first, name="moved"), read_kept(moved, False, ["other"], AS_WRITTEN))
    again.score_QA[0] = 7.0
    assert_same(first, read_kept(log, False, ["other"], AS_WRITTEN))


def test_another_content_or_another_reading_is_read_again(log: Path) -> None:
    read_kept(log, False, [], AS_WRITTEN)
    assert read_kept(log, False, [], Reading(score_range=(0.0, 2.0))).score_QA[0, 0] < 0.6
    rows = pd.read_parquet(log)
    rows["score"] = 1.0
    rows.to_parquet(log)
    assert set(read_kept(log, False, [], AS_WRITTEN).score_QA[0]) == {1.0}
    assert len(entries(log)) == 3


@pytest.mark.parametrize("name", ["meta.json", "score_QA.npy", "texts.arrow"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_what_is_damaged_is_read_from_the_file_and_kept_again(
    log: Path, name: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_kept(log, False, [], AS_WRITTEN)
    path = entries(log)[0] / name
    if damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    assert_same(read_kept(log, False, [], AS_WRITTEN), read_outcomes(log))
    monkeypatch.setattr(kept, "read_outcomes", None)
    read_kept(log, False, [], AS_WRITTEN)


def test_responses_are_read_from_the_file_and_nothing_is_kept(log: Path) -> None:
    read_kept(log, True, [], AS_WRITTEN)
    assert not entries(log)


def test_rows_that_follow_each_other_are_taken_without_a_copy(log: Path) -> None:
    outcomes = read_outcomes(log)
    assert np.shares_memory(outcomes.of_split("train").score_QA, outcomes.score_QA)
    scattered_Q = np.arange(len(outcomes)) % 2 == 0
    np.testing.assert_array_equal(outcomes.take(scattered_Q).score_QA, outcomes.score_QA[scattered_Q])
