"""A supervised start of LoRA's adapters is kept in the cache, and the next run begins as the one that trained it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("trl", minversion="1.16", reason="TRL is not installed: it comes with the extra lm")
pytest.importorskip("peft", reason="PEFT is not installed: it comes with the extra lm")

import preset_training as preset
import torch

from recal_bench.language_model import fitting

# TRL, transformers and torch warn of each other's deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_cached_start_gives_the_same_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "cache"))
    settings = {"lora": 4, "steps": 0, "examples": 64}
    trained = preset.fitted(tmp_path / "first", lambda line: None, **settings)
    supervised: list[object] = []
    monkeypatch.setattr(fitting, "supervise", lambda *given: supervised.append(given))
    found = preset.fitted(tmp_path / "second", lambda line: None, **settings)
    assert supervised == []
    expected, weights = preset.weights(trained), preset.weights(found)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())
    # Fresh adapters change nothing: what starts at 0 has been trained.
    grown = [value for name, value in weights.items() if "lora_B" in name]
    assert grown
    assert all(value.abs().max() > 0 for value in grown)
    prompts = [found._dialogue.prompt_ids(each) for each in preset.small_split(6).queries.prompt]
    assert found._dialogue.generate(prompts) == trained._dialogue.generate(prompts)
    # Another learning rate has a start of its own.
    preset.fitted(tmp_path / "third", lambda line: None, **settings, warm_learning_rate=1e-3)
    assert len(supervised) == 1
