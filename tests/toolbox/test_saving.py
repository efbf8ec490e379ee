"""What a router has learnt comes back as it was, and a damaged file is refused in one line."""

import json
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from recal_bench.encoders import fit_encoder
from recal_bench.errors import RunError
from recal_bench.outcomes import Arm
from recal_bench.toolbox.saving import Saved

ARRAYS = st.sampled_from((np.float64, np.float32, np.int64, np.bool_)).flatmap(
    lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.builds(Arm, st.text(), st.text())
VALUES = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


class Two(Saved):
    LEARNT = ("first", "second")

    def __init__(self, first: Any = None, second: Any = None) -> None:
        self.first, self.second = first, second


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        assert_same(list(one.values()), list(other.values()))
    elif isinstance(one, list | tuple) and not isinstance(one, Arm):
        assert len(one) == len(other)
        for each, its_like in zip(one, other, strict=True):
            assert_same(each, its_like)
    else:
        assert one == other or (one != one and other != other)


@given(VALUES, VALUES)
def test_what_was_learnt_comes_back(first: Any, second: Any) -> None:
    with TemporaryDirectory() as folder:
        Two(first, second).save(Path(folder))
        loaded = Two()
        loaded.load(Path(folder))
    assert_same(loaded.first, first)
    assert_same(loaded.second, second)


def test_numbers_of_numpy_come_back_as_plain_ones(tmp_path: Path) -> None:
    Two(np.float64(0.1), np.int64(3)).save(tmp_path)
    loaded = Two()
    loaded.load(tmp_path)
    assert_same((loaded.first, loaded.second), (0.1, 3))


def test_a_text_encoder_is_kept_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "cache"))

    class Reads(Saved):
        LEARNT = ("text_encoder",)

    prompts = ["which river is longest", "who wrote the statute"]
    reads = Reads()
    reads.text_encoder = fit_encoder("tfidf", prompts)
    reads.save(tmp_path)
    loaded = Reads()
    loaded.load(tmp_path)
    np.testing.assert_array_equal(loaded.text_encoder.encode(prompts), reads.text_encoder.encode(prompts))


@pytest.mark.parametrize("value", [object(), np.array([object()]), {"inner": [lambda: None]}])
def test_what_would_have_to_be_pickled_is_refused(value: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"second.* cannot be saved"):
        Two(1, value).save(tmp_path)
    assert not list(tmp_path.iterdir())


def damages() -> list[Any]:
    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-200])

    def of_another_router(path: Path) -> None:
        class Other(Saved):
            LEARNT = ()

        Other().save(path.parent)

    def pickled(path: Path) -> None:
        np.savez(path, tree=np.array([{"first": 1}], dtype=object))

    def not_a_tree(path: Path) -> None:
        np.savez(path, tree=np.frombuffer(b"[1, 2]", dtype=np.uint8))

    def not_zipped(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, np.arange(3))

    def inflated(path: Path) -> None:
        np.savez_compressed(path, tree=np.zeros(10**7, dtype=np.uint8))

    def nested(path: Path) -> None:
        np.savez(path, tree=np.frombuffer(b"[" * 10**5, dtype=np.uint8))

    def of_other_kinds(path: Path) -> None:
        tree = {"first": {"array": "nowhere"}, "second": {"arm": 3}}
        np.savez(path, tree=np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8))

    def larger_than_memory(path: Path) -> None:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("tree.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)

    return [
        Path.unlink, lambda path: path.write_bytes(b""), cut, of_another_router, pickled, not_a_tree,
        not_zipped, inflated, nested, of_other_kinds, larger_than_memory,
    ]  # fmt: skip


@pytest.mark.parametrize("damage", damages())
def test_a_file_that_is_missing_or_damaged_is_refused_in_one_line(damage: Any, tmp_path: Path) -> None:
    Two(np.arange(3), "word").save(tmp_path)
    (path,) = tmp_path.iterdir()
    damage(path)
    with pytest.raises(RunError, match=r"does not hold a saved router: run the router again with --fresh") as refused:
        Two().load(tmp_path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
