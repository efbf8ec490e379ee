"""The most similar rows, against plain sorting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.nearest import most_similar, spread


@given(st.integers(0, 99), st.integers(1, 20), st.integers(1, 60), st.integers(1, 15), st.booleans())
def test_blocks_find_what_sorting_all_similarities_finds(
    seed: int, k: int, n_rows: int, block: int, grouped: bool
) -> None:
    rng = np.random.default_rng(seed)
    query_QE, memory_NE = rng.normal(size=(7, 4)), rng.normal(size=(n_rows, 4))
    groups = (rng.integers(3, size=7), rng.integers(3, size=n_rows)) if grouped else None
    similarity_QN = query_QE @ memory_NE.T
    if groups is not None:
        similarity_QN[groups[0][:, None] == groups[1]] = -np.inf
    found = most_similar(query_QE, memory_NE, k, groups, whole=0, block=block)
    largest_QK = -np.sort(-similarity_QN, axis=1)[:, :k]
    np.testing.assert_allclose(-np.sort(-found.similarity_QK, axis=1), largest_QK)
    assert (np.diff(found.row_QK, axis=1) > 0).all()
    np.testing.assert_allclose(found.similarity_QK, np.take_along_axis(similarity_QN, found.row_QK, axis=1))


def test_of_rows_that_tie_the_first_are_kept_by_blocks() -> None:
    found = most_similar(np.ones((1, 1)), np.ones((9, 1)), 3, whole=0, block=3)
    assert found.row_QK.tolist() == [[0, 1, 2]]


def test_no_query_has_no_neighbours() -> None:
    assert most_similar(np.zeros((0, 2)), np.ones((5, 2)), 3).row_QK.shape == (0, 3)


@pytest.mark.parametrize("items", [list(range(10)), np.arange(10)])
def test_a_spread_keeps_both_ends_and_all_of_few(items: object) -> None:
    assert list(spread(items, 4)) == [0, 3, 6, 9]
    assert spread(items, 10) is items
