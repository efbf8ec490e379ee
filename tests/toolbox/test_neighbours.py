"""Nearest neighbours, against plain sorting and sums."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.toolbox.neighbours import PRIOR_COUNT, chunks, mean_excess, neighbour_weights


def test_neighbours_weigh_alike_or_by_their_similarity_and_nothing_where_ruled_out() -> None:
    similarity_QK = np.array([[0.8, 0.1, -0.2, -np.inf]])
    np.testing.assert_array_equal(neighbour_weights(similarity_QK, "uniform"), [[1.0, 1.0, 1.0, 0.0]])
    np.testing.assert_array_equal(neighbour_weights(similarity_QK, "similarity"), [[0.8, 0.1, 0.0, 0.0]])


def test_a_mean_excess_counts_the_typical_value_as_one_neighbour_more() -> None:
    excess_NC, known_NC = (
        np.array([[3.0, 0.0], [1.0, 2.0], [9.0, 9.0]]),
        np.array([[True, False], [True, True], [True, True]]),
    )
    mean_QC = mean_excess(np.array([[0, 1]]), np.array([[1.0, 0.5]]), excess_NC, known_NC)
    np.testing.assert_allclose(mean_QC, [[3.5 / (1.5 + PRIOR_COUNT), 1.0 / (0.5 + PRIOR_COUNT)]])


@given(st.integers(0, 50), st.integers(1, 20))
def test_chunks_make_up_all_queries(queries: int, size: int) -> None:
    parts = [range(queries)[rows] for rows in chunks(queries, size)]
    assert [row for part in parts for row in part] == list(range(queries))
    assert all(0 < len(part) <= size for part in parts)
