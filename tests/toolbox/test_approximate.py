"""The approximate search of neighbours, against the exact one, and through the router."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from small_log import small_log

from recal_bench.errors import SettingsError
from recal_bench.experiments.bench import load_bench
from recal_bench.experiments.plans import RunPlan
from recal_bench.experiments.runs import run_router
from recal_bench.nearest import most_similar
from recal_bench.reporting.text.show import show_run
from recal_bench.routers import create, discover
from recal_bench.toolbox.approximate import Cells, recall


def clustered_rows(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    row_NE = np.random.default_rng(0).normal(size=(20, 16))[rng.integers(20, size=count)] + rng.normal(
        scale=0.3, size=(count, 16)
    )
    return (row_NE / np.linalg.norm(row_NE, axis=1, keepdims=True)).astype(np.float32)


def test_most_of_the_true_neighbours_are_found_and_the_recall_says_how_many() -> None:
    pytest.importorskip("faiss")
    memory_NE, query_QE = clustered_rows(1, 6_000), clustered_rows(2, 50)
    cells = Cells(memory_NE)
    found, exact = cells.most_similar(query_QE, 20), most_similar(query_QE, memory_NE, 20)
    shared = [len(np.intersect1d(*pair)) / 20 for pair in zip(found.row_QK, exact.row_QK, strict=True)]
    assert recall(cells, query_QE, memory_NE, 20) == pytest.approx(np.mean(shared), abs=0.01)
    assert 0.3 < np.mean(shared) <= 1
    assert (np.diff(found.row_QK, axis=1) >= 0).all()
    again = Cells(memory_NE).most_similar(query_QE, 20)
    np.testing.assert_array_equal(again.row_QK, found.row_QK)


def test_of_a_single_cell_all_neighbours_are_found_and_what_is_not_there_weighs_nothing() -> None:
    pytest.importorskip("faiss")
    memory_NE, query_QE = clustered_rows(1, 60), clustered_rows(2, 5)
    cells = Cells(memory_NE)
    assert recall(cells, query_QE, memory_NE, 10) == 1.0
    np.testing.assert_array_equal(cells.most_similar(query_QE, 10).row_QK, most_similar(query_QE, memory_NE, 10).row_QK)
    assert cells.most_similar(query_QE, 99).row_QK.shape == (5, 60)


def test_the_recall_of_an_approximate_run_is_in_its_record_and_shown(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    discover(())
    small_log(200).to_parquet(tmp_path / "log.parquet")
    bench = load_bench(tmp_path / "log.parquet")
    (run,) = run_router(bench, RunPlan("knn", create("knn", {"search": "approximate"})), tmp_path / "runs")
    assert run.record.neighbour_recall == 1.0
    assert "finds 100.0% of the true ones" in show_run(run, [run])
    (exact,) = run_router(bench, RunPlan("knn", create("knn", {})), tmp_path / "runs")
    assert exact.record.neighbour_recall is None
    assert exact.decisions()["arm"].tolist() == run.decisions()["arm"].tolist()


def test_without_faiss_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(SettingsError, match=r"pip install 'recal-bench\[faiss\]', or leave search=exact"):
        Cells(clustered_rows(1, 10))
