"""Answers that are kept by the content of what they were made from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.remembered import Remembered, digest

SAME = st.one_of(
    st.text(max_size=5),
    st.lists(st.integers(0, 3), max_size=4).map(lambda row: np.array(row, dtype=np.int64)),
    st.lists(st.integers(0, 3), max_size=4).map(lambda row: np.array(row, dtype=np.float32)),
    st.integers(1, 3).map(lambda rows: np.zeros((rows, 6 // rows))),
)


def same(first: object, second: object) -> bool:
    if isinstance(first, str) or isinstance(second, str):
        return type(first) is type(second) and first == second
    return first.dtype == second.dtype and np.array_equal(first, second)  # type: ignore[attr-defined, arg-type]


@given(st.lists(SAME, max_size=3), st.lists(SAME, max_size=3))
def test_a_digest_tells_contents_apart_and_nothing_else(first: list, second: list) -> None:
    alike = len(first) == len(second) and all(map(same, first, second))
    assert (digest(*first) == digest(*second)) == alike
    assert digest(*first) == digest(*(part if isinstance(part, str) else part.copy() for part in first))


def test_a_view_has_the_digest_of_its_contents() -> None:
    whole = np.arange(12.0).reshape(3, 4)
    assert digest(whole[:, ::2]) == digest(whole[:, ::2].copy())


def test_what_was_asked_for_last_is_kept() -> None:
    made: list[bytes] = []

    def make(key: bytes) -> bytes:
        made.append(key)
        return key * 2

    kept: Remembered[bytes] = Remembered(2)
    for key in (b"a", b"b", b"a", b"c", b"a", b"b"):
        assert kept.get(key, lambda key=key: make(key)) == key * 2  # type: ignore[misc]
    assert made == [b"a", b"b", b"c", b"b"]


def test_threads_may_ask_at_once() -> None:
    kept: Remembered[int] = Remembered(3)
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda n: kept.get(bytes([n % 7]), lambda: n % 7), range(700))
    assert list(found) == [n % 7 for n in range(700)]
