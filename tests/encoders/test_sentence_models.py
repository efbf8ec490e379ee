"""The encoder `sentence-transformers:NAME`, on a tiny model of this test's own."""

from pathlib import Path

import numpy as np
import pytest

from recal_bench.encoders import fit_encoder, load_encoder, sentence_models
from recal_bench.errors import SettingsError

WORDS = "river mountain island capital border court statute clause judge verdict which is the of a".split()  # noqa: SIM905
pytest.importorskip("sentence_transformers")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    sentence_models._digest.cache_clear()
    sentence_models._folder.cache_clear()


def write_model(folder: Path, seed: int = 0) -> Path:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=32)
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=32, **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def texts(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=rng.integers(1, 40))) for _ in range(count)]


def test_a_texts_vector_depends_on_that_text_alone(tmp_path: Path) -> None:
    fitted = fit_encoder(f"sentence-transformers:{write_model(tmp_path / 'model')}", [])
    all_QE = fitted.encode(texts(120))
    assert all_QE.shape == (120, 32)
    np.testing.assert_allclose(np.linalg.norm(all_QE, axis=1), 1, rtol=1e-5)
    for row in (0, 60, 119):
        np.testing.assert_array_equal(fitted.encode([texts(120)[row]]), all_QE[[row]])
    assert fitted.encode([]).shape == (0, 32)
    assert np.isfinite(fitted.encode(["half a pair \ud83d", ""])).all()


def test_a_saved_router_is_bound_to_its_model(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    fitted = fit_encoder(f"tfidf+sentence-transformers:{folder}", texts(9))
    fitted.save(tmp_path / "saved")
    np.testing.assert_array_equal(load_encoder(tmp_path / "saved").encode(texts(9)), fitted.encode(texts(9)))
    write_model(folder, seed=1)
    sentence_models._digest.cache_clear()
    with pytest.raises(SettingsError, match="is not the one that the router was trained with"):
        load_encoder(tmp_path / "saved")


def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"nothing")
    for name, said in (
        ("sentence-transformers", "write sentence-transformers:NAME-OR-FOLDER"),
        ("sentence-transformers:no/such-model-here", "neither a folder nor to be had from Hugging Face"),
        (f"sentence-transformers:{tmp_path / 'empty'}", "has no weights in safetensors"),
        (f"sentence-transformers:{tmp_path / 'broken'}", "cannot be loaded"),
    ):
        with pytest.raises(SettingsError, match=said) as error:
            fit_encoder(name, texts(3)).encode(texts(3))
        assert "\n" not in str(error.value)
    sentence_models._folder.cache_clear()
    monkeypatch.setattr(sentence_models, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r'pip install "\.\[sentence-transformers\]" in a checkout'):
        fit_encoder("sentence-transformers:any", texts(3))
