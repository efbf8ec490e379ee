"""Work that is shared out over threads."""

import os
import threading

import numpy as np
import pytest

from recal_bench.toolbox.sharing import on_threads


@pytest.mark.parametrize(("allowed", "used"), [("1", 1), ("3", 3), ("64", 5)])
def test_as_many_threads_as_are_allowed_and_no_more_than_parts_give_the_same(
    monkeypatch: pytest.MonkeyPatch, allowed: str, used: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    values = np.random.default_rng(0).normal(size=(5, 100, 100))
    meeting, seen = threading.Barrier(used), set()

    def compute(value: np.ndarray) -> np.ndarray:
        if len(seen) < used:
            seen.add(threading.get_ident())
            meeting.wait(timeout=30)  # all threads are at work at once
        return value @ value

    found = on_threads(compute, values)
    np.testing.assert_array_equal(found, [value @ value for value in values])
    assert len(seen) == used


def test_without_the_variable_all_cores_of_the_process_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    assert set(on_threads(lambda part: threading.get_ident(), range(4))) == {threading.get_ident()}


def test_an_error_of_a_part_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(ZeroDivisionError):
        on_threads(lambda part: 1 / part, [1, 0, 2])
    assert on_threads(lambda part: part, []) == []
