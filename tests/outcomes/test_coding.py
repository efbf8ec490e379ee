"""Columns built chunk by chunk, and rows grouped by codes: the same as all at once, whatever the chunks."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.outcomes.coding import ArrowCoder, Joiner, PythonCoder
from recal_bench.outcomes.keys import grouped

chunks_of_text = st.lists(st.lists(st.none() | st.text(max_size=2), max_size=6), min_size=1, max_size=5)
codes = st.integers(1, 40).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 10**6), min_size=n, max_size=n), min_size=1, max_size=3)
)


def read(column):
    return [column.at(row) for row in range(column.n_rows)]


@given(chunks=chunks_of_text, dictionary=st.booleans(), some=st.integers(0, 3))
def test_texts_of_any_chunks_are_kept_once_each(chunks, dictionary, some):
    coder = ArrowCoder()
    coder._SOME = some  # so that merges come between the chunks
    for chunk in chunks:
        array = pa.array(chunk, pa.string())
        coder.add(array.dictionary_encode() if dictionary else array)
    column = coder.column()
    assert read(column) == [value for chunk in chunks for value in chunk]
    assert len(set(column.values)) == len(column.values)


@pytest.mark.parametrize(
    ("type_", "chunks"),
    [
        (pa.float32(), [[1.5, None], [0.25]]),
        (pa.int64(), [[2**60 + 1, None], [], [3]]),
        (pa.bool_(), [[True, None], [False]]),
        (pa.null(), [[None], [None, None]]),
        (pa.dictionary(pa.int8(), pa.float64()), [[1.5, None], [1.5]]),
        (pa.list_(pa.int64()), [[[1], None], [[1], []]]),
        (pa.timestamp("us"), [[None], [None]]),
    ],
)
def test_a_column_keeps_the_values_and_nulls_of_its_chunks(type_, chunks):
    joiner = Joiner(type_, text=False, room=1)
    for chunk in chunks:
        joiner.add(pa.array(chunk, type_))
    assert read(joiner.column()) == [value for chunk in chunks for value in chunk]


def test_types_are_kept_apart():
    coder = PythonCoder()
    coder.add([True, 1, 1.0, [1], [1]])
    assert [repr(value) for value in coder.column().values] == ["True", "1", "1.0", "[1]"]


@given(codes)
def test_groups_are_those_of_a_sort_of_all_rows(columns):
    group_N, first = grouped(*(np.array(column, dtype=np.int32) for column in columns))
    _, first_row, expected_N = np.unique(np.array(columns).T, axis=0, return_index=True, return_inverse=True)
    np.testing.assert_array_equal(group_N, expected_N.ravel())
    np.testing.assert_array_equal(first, first_row)
