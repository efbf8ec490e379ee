"""The benchmarks that look over several logs: ranks and harm, and encoders under the same routers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from small_log import write_small_log

from recal_bench.cli import cli

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
over_logs = pytest.importorskip("over_logs", reason="benchmarks/ is not in this checkout")
encoder_study = pytest.importorskip("encoder_study")


@given(st.lists(st.lists(st.integers(0, 4), min_size=5, max_size=5), min_size=1, max_size=4))
def test_ranks_are_those_of_scipy_and_ties_share_their_places(values: list[list[int]]) -> None:
    value_BR = np.array(values, dtype=float)
    np.testing.assert_array_equal(over_logs.ranks(value_BR), rankdata(-value_BR, axis=1))


def test_a_macro_mean_weighs_tasks_alike_whatever_was_drawn_of_them() -> None:
    value_RQ, task_Q = np.array([[1.0, 0.0, 0.5]]), np.array([0, 0, 1])
    weight_BQ = np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0]])
    np.testing.assert_allclose(over_logs.macro(value_RQ, weight_BQ, task_Q), [[0.5], [0.75]])


def test_resamples_keep_the_size_of_every_task() -> None:
    task_Q = np.array([0] * 7 + [1] * 3)
    weight_BQ = over_logs.resampled(task_Q, np.random.default_rng(0))
    assert set(weight_BQ[:, :7].sum(axis=1)) == {7.0}
    assert set(weight_BQ[:, 7:].sum(axis=1)) == {3.0}
    assert weight_BQ.std() > 0.5


def test_routers_are_ranked_over_logs_from_their_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for board, routers in {"one": "ridge,random,knn", "two": "ridge,random"}.items():
        log = write_small_log(tmp_path / f"{board}.parquet")
        words = ["run", "--router", routers, "--outcomes", str(log), "--runs", str(tmp_path / board / "runs")]
        assert CliRunner().invoke(cli, words).exit_code == 0
    words = ["over_logs", str(tmp_path), "--boards", "one,two", "--out", str(tmp_path / "over.md")]
    monkeypatch.setattr(sys, "argv", words)
    over_logs.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    named = {line.split("|")[1].strip(): line for line in lines}
    assert {"ridge", "random", "best-single"} <= named.keys()
    assert "oracle" not in named  # a reference
    assert list(named).index("ridge") < list(named).index("random")
    assert "| =" in lines[2]
    assert "Logs: one (" in (tmp_path / "over.md").read_text()


def test_encoders_are_compared_under_the_same_router_on_the_same_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_small_log(tmp_path / "log.parquet")
    calls = []

    def vectors_of(prompts: list[str]) -> np.ndarray:
        calls.append(len(prompts))
        return np.random.default_rng(0).normal(size=(len(prompts), 8))

    monkeypatch.setattr(encoder_study, "wordllama_vectors", vectors_of)
    monkeypatch.setattr(encoder_study, "ROUTERS", ("ridge", "knn"))
    monkeypatch.setattr(encoder_study, "log_of", lambda board: log)
    asked = ["--logs", "a-log", "--encoders", "wordllama", "--train", "40", "--test", "15"]
    words = ["encoder_study", *asked, "--vectors", str(tmp_path), "--out", str(tmp_path / "encoders.md")]
    monkeypatch.setattr(sys, "argv", words)
    for _ in range(2):
        encoder_study.main()
    assert len(calls) == 1  # the second time the vectors are there
    assert 55 <= calls[0] <= 70
    text = (tmp_path / "encoders.md").read_text()
    assert "| wordllama | ridge" in text.replace("  ", "")
    assert "15 test queries" in text
    assert "tfidf under knn" in capsys.readouterr().out
