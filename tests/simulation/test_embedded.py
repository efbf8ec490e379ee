"""The embedded outcomes: contract, cache, long form, and the calibration of the committed parameters."""

import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recal_bench.evaluation.references import bayes, best_single, task_best
from recal_bench.outcomes import Objective
from recal_bench.outcomes.dense import content_hash
from recal_bench.outcomes.files import read_outcomes
from recal_bench.scoring import exact_match, extract_answer
from recal_bench.simulation import embedded_frame, embedded_outcomes, embedded_questions

SMALL = (30, 6, 12)
ARRAYS = (
    "task_Q", "query_id_Q", "prompt_Q", "split_Q", "score_QA", "cost_QA", "expected_score_QA", "expected_cost_QA",
)  # fmt: skip
BUILD = f"""
from recal_bench.simulation import embedded_outcomes
outcomes = embedded_outcomes(0, {", ".join(map(str, SMALL))})
print(outcomes.data_hash, outcomes.expected_score_QA.sum())
"""


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECAL_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield embedded_outcomes()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path))
    return tmp_path


def assert_same(one, other):
    for name in ARRAYS:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert (one.arms, one.name, one.data_hash, one.simulated) == (other.arms, other.name, other.data_hash, True)


def test_the_default_world_has_the_promised_size_and_form(full):
    assert full.score_QA.shape == (7 * 1700, 24)
    assert full.name == "embedded"
    assert full.simulated
    for task in full.tasks:
        splits, counts = np.unique(full.split_Q[full.task_Q == task], return_counts=True)
        assert dict(zip(splits, counts, strict=True)) == {"train": 1000, "validation": 200, "test": 500}
    keys = list(zip(full.split_Q, full.task_Q, full.query_id_Q, strict=True))
    assert keys == sorted(keys)
    assert full.arms == tuple(sorted(full.arms, key=str))
    assert set(np.unique(full.score_QA)) == {0.0, 1.0}
    assert (full.cost_QA > 0).all()
    assert full.data_hash == content_hash(full)
    assert ((full.expected_score_QA > 0) & (full.expected_score_QA < 1)).all()
    assert np.abs(full.cost_QA.mean(axis=0) / full.expected_cost_QA.mean(axis=0) - 1).max() < 0.01


def test_there_is_something_to_gain_by_routing(full):
    """The order of the references. No router is looked at."""
    train, test = full.of_split("train"), full.of_split("test")
    objective = Objective.from_train(train.score_QA, train.cost_QA)
    utility_QA = objective.utility(train.score_QA, train.cost_QA)
    expected_QA = objective.utility(test.expected_score_QA, test.expected_cost_QA)
    cost_A, rows = train.cost_QA.mean(axis=0), np.arange(len(test))
    single = best_single(utility_QA, train.task_Q, cost_A)
    by_task_Q = task_best(utility_QA, train.task_Q, test.task_Q, test.observed_QA, cost_A)
    bayes_Q = bayes(test.expected_score_QA, test.expected_cost_QA, objective, test.observed_QA)
    assert expected_QA[rows, by_task_Q].mean() > expected_QA[:, single].mean() + 0.005
    assert expected_QA[rows, bayes_Q].mean() > expected_QA[rows, by_task_Q].mean() + 0.03
    chosen, counts = np.unique(bayes_Q, return_counts=True)
    assert len(chosen) > 8
    assert counts.max() < 0.4 * len(test)


def test_the_cache_gives_back_what_was_built(cache):
    told = []
    built = embedded_outcomes(2, *SMALL, progress=told.append)
    assert built.name == "embedded-seed2-30x6x12"
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)
    again = embedded_outcomes(2, *SMALL, progress=lambda share: pytest.fail("built again"))
    assert_same(built, again)
    assert built.data_hash != embedded_outcomes(3, *SMALL).data_hash


@pytest.mark.parametrize("damage", ["empty", "noise", "cut", "flipped", "npy"])
def test_a_damaged_cache_file_is_built_anew(cache, damage):
    built = embedded_outcomes(0, *SMALL)
    (path,) = cache.rglob("*.npz")
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 0xFF
    alone = io.BytesIO()
    np.save(alone, np.zeros(3))
    path.write_bytes(
        {
            "empty": b"",
            "noise": b"no zip" * 99,
            "cut": content[:-99],
            "flipped": bytes(damaged),
            "npy": alone.getvalue(),
        }[damage]
    )
    assert_same(embedded_outcomes(0, *SMALL), built)
    assert path.read_bytes() == content
    assert not list(path.parent.glob(".*"))


def test_two_processes_build_the_same_at_once(cache):
    """With different hash seeds, so that nothing hangs on the order of a set."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    printed = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        printed.append(out)
    assert printed[0] == printed[1]
    assert len(list(cache.rglob("*.npz"))) == 1
    kept = embedded_outcomes(0, *SMALL, progress=lambda share: pytest.fail("built again"))
    assert printed[0].split()[0] == kept.data_hash


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(blocked))
    assert len(embedded_outcomes(0, *SMALL)) == 7 * 48


@pytest.mark.parametrize("extension", ["parquet", "csv", "jsonl"])
def test_the_long_form_read_back_is_the_dense_view(cache, extension):
    outcomes = embedded_outcomes(4, *SMALL)
    frame = embedded_frame(4, *SMALL).sample(frac=1, random_state=0)
    path = cache / f"embedded.{extension}"
    if extension == "parquet":
        frame.to_parquet(path)
    elif extension == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True, double_precision=15)
    read = read_outcomes(path)
    for name in ("task_Q", "query_id_Q", "prompt_Q", "split_Q", "score_QA"):
        assert np.array_equal(getattr(read, name), getattr(outcomes, name)), name
    assert read.arms == outcomes.arms
    np.testing.assert_allclose(read.cost_QA, outcomes.cost_QA, rtol=1e-9 if extension == "jsonl" else 0)
    if extension != "jsonl":
        assert read.data_hash == outcomes.data_hash
    assert not read.simulated


def test_the_long_form_holds_texts_that_score_as_it_says():
    frame = embedded_frame(1, 5, 1, 1)
    gold = {each.query_id: each.gold for each in embedded_questions(1, 5, 1, 1)}
    assert len(frame) == 7 * 7 * 24
    for row in frame.itertuples():
        assert exact_match(extract_answer(row.response), gold[row.query_id]) == row.score
        assert len(row.response.split()) == row.completion_tokens


def test_the_committed_parameters_meet_the_published_table():
    """All 24 cells: EM within .03, raw cost within 15%, in world 0 and in two worlds that the fit never saw."""
    path = Path(__file__).parents[2] / "benchmarks" / "calibrate_pool.py"
    if not path.exists():
        pytest.skip("runs in a checkout only")
    spec = importlib.util.spec_from_file_location("calibrate_pool", path)
    calibrate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(calibrate)
    parameters = calibrate.models.fitted_parameters()
    for seed in (0, 6, 7):
        em_TM, cost_TM = calibrate.expected_cells(parameters, calibrate.features_by_task(seed))
        assert np.abs(em_TM - calibrate.EM_TM).max() <= 0.03
        assert np.abs(cost_TM / calibrate.COST_TM - 1).max() <= 0.15
