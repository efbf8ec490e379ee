"""The posterior's weights: the same bits with and without the cache, and made again where a file is damaged."""

from pathlib import Path

import numpy as np
import pytest

from recal_bench.toolbox import inferred_tasks
from recal_bench.toolbox.inferred_tasks import fit_posterior

TASK_Q = np.array(["geography", "history", "music"] * 20)
ENCODING_QE = np.random.default_rng(0).standard_normal((60, 5)) + np.eye(3, 5)[np.arange(60) % 3]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of queries of every regression that was fitted."""
    counted: list[int] = []
    fit = inferred_tasks._fit
    monkeypatch.setattr(
        inferred_tasks, "_fit", lambda encoding_QE, task_Q: (counted.append(len(task_Q)), fit(encoding_QE, task_Q))[1]
    )
    return counted


def test_a_warm_cache_gives_the_bits_of_a_cold_one_and_fits_nothing(cache: Path, fits: list[int]) -> None:
    cold_ET, warm_ET = fit_posterior(ENCODING_QE, TASK_Q), fit_posterior(ENCODING_QE, TASK_Q)
    assert fits == [60]
    assert warm_ET.dtype == np.float64
    assert warm_ET.flags.c_contiguous == cold_ET.flags.c_contiguous
    np.testing.assert_array_equal(warm_ET, cold_ET)
    likeliest_Q = (ENCODING_QE @ warm_ET[:-1] + warm_ET[-1]).argmax(axis=1)
    assert (likeliest_Q == np.arange(60) % 3).mean() > 0.6


def test_only_what_the_weights_depend_on_is_another_entry(cache: Path, fits: list[int]) -> None:
    fit_posterior(ENCODING_QE, TASK_Q)
    fit_posterior(ENCODING_QE, np.char.upper(TASK_Q))  # other names in the same order
    assert fits == [60]
    for encoding_QE, task_Q in ((ENCODING_QE, np.roll(TASK_Q, 1)), (ENCODING_QE + 1e-9, TASK_Q)):
        fit_posterior(encoding_QE, task_Q)
    assert fits == [60] * 3
    assert len(list((cache / "posteriors").glob("*.npz"))) == 3


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "of another shape"])
def test_a_damaged_file_is_made_again(cache: Path, fits: list[int], damage: str) -> None:
    cold_ET = fit_posterior(ENCODING_QE, TASK_Q)
    (file,) = (cache / "posteriors").glob("*.npz")
    whole = file.read_bytes()
    if damage == "of another shape":
        np.savez(file, weight_ET=cold_ET[1:])
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
        file.write_bytes({"cut": whole[:-40], "flipped": flipped, "empty": b""}[damage])
    np.testing.assert_array_equal(fit_posterior(ENCODING_QE, TASK_Q), cold_ET)
    assert fits == [60, 60]
    assert file.read_bytes() == whole


def test_one_task_needs_no_regression(cache: Path, fits: list[int]) -> None:
    assert not fit_posterior(ENCODING_QE, np.array(["music"] * 60)).any()
    assert not fits
    assert not cache.exists()
