"""Vectors that are kept text by text: the same without the cache, resumed after a kill, shared by processes."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.encoders import ENCODERS, encoder, fit_encoder, kept
from recal_bench.encoders.kept import halved
from recal_bench.encoders.watching import watched

TEXTS = [f"question {number} about {'rivers ' * (number % 7)}" for number in range(200)]
SLOWLY = """
import json, sys, time
import numpy as np
from recal_bench.encoders import encoder, fit_encoder, kept

kept.BLOCK_S, kept._AT_ONCE = 0.0, 8

@encoder("slow")
class Slow:
    by_text, key = True, "slow"
    def fit(self, prompts): ...
    def encode(self, prompts):
        time.sleep(0.02)
        with open(sys.argv[1], "a") as log:
            log.writelines(json.dumps(text) + "\\n" for text in prompts)
        return np.array([[len(text), 1.0, text.count("r")] for text in prompts])

texts = json.load(sys.stdin)
print(fit_encoder("slow", texts).encode(texts).tobytes().hex())
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Counted:
    """An encoder that counts what it is asked, under a name of this test's own."""

    by_text, key = True, "counted"

    def __init__(self) -> None: ...

    def fit(self, prompts: list[str]) -> None:
        self.asked: list[str] = []

    def encode(self, prompts: list[str]) -> np.ndarray:
        self.asked += prompts
        return np.array([np.sin(np.arange(1, 6) * (len(text) + text.count("9"))) for text in prompts])


if "counted" not in ENCODERS:
    encoder("counted")(Counted)


def asked_of(fitted) -> list[str]:
    return fitted.parts["counted"].asked


def start(log: Path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdin.write(json.dumps(TEXTS))
    process.stdin.close()
    process.stdin = None  # or communicate() would flush it
    return process


def encoded(log: Path) -> Counter:
    return Counter(json.loads(line) for line in log.read_text().splitlines()) if log.exists() else Counter()


def test_a_warm_cache_gives_the_same_bits_as_a_cold_one_and_as_none(cache: Path, tmp_path, monkeypatch) -> None:
    cold = fit_encoder("counted", TEXTS)
    first_QE = cold.encode(TEXTS)
    warm = fit_encoder("counted", TEXTS)
    np.testing.assert_array_equal(warm.encode(TEXTS), first_QE)
    assert sorted(asked_of(cold)) == sorted(TEXTS)
    assert asked_of(warm) == []
    np.testing.assert_array_equal(warm.encode(TEXTS[:10]), first_QE[:10])  # so few are not looked up
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "file"))
    np.testing.assert_array_equal(fit_encoder("counted", TEXTS).encode(TEXTS), first_QE)
    (block,) = cache.rglob("*.npz")
    with np.load(block, allow_pickle=False) as arrays:
        assert arrays["vector_NE"].dtype == np.float16
        assert arrays["vector_NE"].shape == (200, 5)


def test_only_new_texts_are_encoded_the_longest_first_and_once(cache: Path) -> None:
    fit_encoder("counted", []).encode(TEXTS[:120])
    more = fit_encoder("counted", [])
    encoding_QE = more.encode(TEXTS + TEXTS[::-1])
    assert sorted(asked_of(more)) == sorted(TEXTS[120:])
    assert [len(text) for text in asked_of(more)] == sorted(map(len, TEXTS[120:]), reverse=True)
    np.testing.assert_array_equal(encoding_QE[:200], encoding_QE[200:][::-1])


@pytest.mark.parametrize("damage", ["cut", "turned", "other", "wide"])
def test_a_damaged_block_is_encoded_again(cache: Path, damage: str) -> None:
    first_QE = fit_encoder("counted", []).encode(TEXTS)
    (block,) = cache.rglob("*.npz")
    content = bytearray(block.read_bytes())
    if damage == "cut":
        block.write_bytes(content[:100])
    elif damage == "turned":
        content[len(content) - 900] ^= 0xFF
        block.write_bytes(content)
    elif damage == "other":
        np.savez(block, digest_NB=np.zeros((3, 16), dtype=np.uint8))
    else:
        with np.load(block) as arrays:
            np.savez(block, digest_NB=arrays["digest_NB"], vector_NE=arrays["vector_NE"].astype(np.float64))
    again = fit_encoder("counted", [])
    np.testing.assert_array_equal(again.encode(TEXTS), first_QE)
    assert len(asked_of(again)) == 200
    np.testing.assert_array_equal(fit_encoder("counted", []).encode(TEXTS), first_QE)


@given(st.lists(st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_halving_keeps_unit_length_and_is_close(rows: list[list[float]]) -> None:
    vector_QE = np.array(rows, dtype=np.float32)
    norm_Q = np.linalg.norm(vector_QE, axis=1, keepdims=True)
    unit_QE = vector_QE / np.where(norm_Q > 1e-20, norm_Q, np.inf)
    half_QE = halved(unit_QE)
    np.testing.assert_allclose(half_QE, unit_QE, atol=1e-3)
    np.testing.assert_array_equal(halved(half_QE).shape, half_QE.shape)
    np.testing.assert_allclose(np.linalg.norm(half_QE, axis=1), np.linalg.norm(unit_QE, axis=1), atol=1e-6)


def test_a_long_encoding_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_AT_ONCE", 50)
    said: list[tuple[int, int]] = []
    with watched(lambda done, total: said.append((done, total))):
        fit_encoder("counted", []).encode(TEXTS)
    assert said == [(0, 200), (50, 200), (100, 200), (150, 200), (200, 200)]


def test_an_error_loses_nothing_that_was_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_AT_ONCE", 50)
    failing = fit_encoder("counted", [])
    honest = failing.parts["counted"].encode

    def encode(prompts: list[str]) -> np.ndarray:
        if len(asked_of(failing)) >= 100:
            raise KeyboardInterrupt
        return honest(prompts)

    failing.parts["counted"].encode = encode
    with pytest.raises(KeyboardInterrupt):
        failing.encode(TEXTS)
    rest = fit_encoder("counted", [])
    rest.encode(TEXTS)
    assert sorted(asked_of(failing) + asked_of(rest)) == sorted(TEXTS)


def test_a_killed_encoding_goes_on_where_it_was(cache: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(log)
    deadline = time.monotonic() + 60
    while encoded(log).total() < 80 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = encoded(log).total()
    assert 80 <= before < 200
    done = start(log)
    vectors, _ = done.communicate()
    assert done.returncode == 0
    times = encoded(log)
    assert set(times) == set(TEXTS)
    assert times.total() <= 200 + 8  # the block that was under way
    in_one_go, _ = start(tmp_path / "none").communicate()
    assert in_one_go == vectors
    assert not (tmp_path / "none").exists()  # all were there


def test_two_processes_share_the_work(cache: Path, tmp_path: Path) -> None:
    processes = [start(tmp_path / f"log{number}") for number in range(2)]
    (first, _), (second, _) = [process.communicate() for process in processes]
    assert first == second
    assert len(first) > 200
    assert encoded(tmp_path / "log0") + encoded(tmp_path / "log1") == Counter(TEXTS)
