"""Tables of truth values."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from recal_bench.arrays import distinct_rows


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=19)), st.booleans())
def test_distinct_rows_are_those_of_numpy_in_its_order(known_QX: np.ndarray, turned: bool) -> None:
    known_QX = known_QX.T if turned else known_QX
    row_PX, number_Q = distinct_rows(known_QX)
    expected_PX, expected_Q = np.unique(known_QX, axis=0, return_inverse=True)
    np.testing.assert_array_equal(row_PX, expected_PX)
    np.testing.assert_array_equal(number_Q, expected_Q.ravel())


def test_rows_without_columns_are_all_alike() -> None:
    row_PX, number_Q = distinct_rows(np.zeros((3, 0), dtype=bool))
    assert row_PX.shape == (1, 0)
    assert number_Q.tolist() == [0, 0, 0]
