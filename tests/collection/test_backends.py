"""lm-eval's own backends in `collect`: real models of random weights, through lm-eval and transformers."""

from __future__ import annotations

import gc
import json
import re
import shutil
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from collection.tiny_model import write_tiny_model

from recal_bench.cli import cli
from recal_bench.collection import backends
from recal_bench.collection.journal import Journal
from recal_bench.collection.requests import Arms
from recal_bench.outcomes.files import check_file
from recal_bench.pools.files import read_pool

pytest.importorskip("accelerate", reason="lm-eval's hf backend needs accelerate: pip install '.[hf]'")

PRICE = {"date": "2025-06-10", "input": 1.0, "output": 2.0}
LIMIT = 24
TOLD = ["prompt_tokens", "completion_tokens", "finish_reason", "response", "cost_usd"]
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: `one` and `two` with a chat template, `plain` without."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder / "one", seed=0)
    write_tiny_model(folder / "two", seed=1)
    write_tiny_model(folder / "plain", seed=0, chat=False)
    return folder


class Desk:
    """Where one collects: questions, a pool file, and the command."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.folder, self.models, self.out = folder, models, folder / "outcomes.parquet"
        self.pool(["one"])
        for task in ("nq", "popqa"):
            self.ask(task, [f"Who wrote the {task} book {number}?" for number in range(3)])

    def ask(self, task: str, questions: list[str]) -> None:
        entries = [
            {"id": f"{task}-{row}", "question": each, "golden_answers": ["me"]} for row, each in enumerate(questions)
        ]
        self.folder.joinpath("questions").mkdir(exist_ok=True)
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        self.folder.joinpath("questions", f"{task}.jsonl").write_text(text, encoding="utf-8")

    def pool(self, names: list[str], change: Change = lambda model: None, **sampling: Any) -> Path:
        models = {}
        for name in names:
            models[name] = {
                "endpoint": "here",
                "served_model": str(self.models / name),
                "price": PRICE,
                "context_length": 512,
                "sampling": {"temperature": 0.0, "max_tokens": LIMIT} | sampling,
            }
            change(models[name])
        pool = {
            "pool": "tiny",
            "questions": str(self.folder / "questions"),
            "endpoints": {"here": {"base_url": "http://127.0.0.1:9/v1", "api_key_env": None}},
            "models": models,
        }
        path = self.folder / "pool.yaml"
        path.write_text(yaml.safe_dump(pool), encoding="utf-8")
        return path

    def run(self, *options: str, backend: str = "lm-eval:hf") -> Result:
        words = ["collect", "--pool", str(self.folder / "pool.yaml"), "--out", str(self.out), "--backend", backend]
        result = CliRunner().invoke(cli, [*words, "--tasks", "nq,popqa", "--strategies", "direct,cot", *options])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def collected(self, *options: str) -> pd.DataFrame:
        result = self.run(*options)
        assert result.exit_code == 0, result.output
        return self.frame

    @property
    def frame(self) -> pd.DataFrame:
        return pd.read_parquet(self.out)

    def afresh(self) -> Desk:
        """Without what was collected."""
        self.out.unlink(missing_ok=True)
        self.out.with_suffix(".journal").unlink(missing_ok=True)
        return self


@pytest.fixture
def desk(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("RECAL_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return Desk(tmp_path, models)


def one_line(result: Result) -> str:
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


@cache
def loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)


def transformers_says(folder: Path, message: str, limit: int) -> tuple[int, int, str, str]:
    """Prompt tokens, completion tokens, finish reason and text, by transformers alone."""
    tokenizer, model = loaded(folder)
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": message}]
        message = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    asked = tokenizer(message, return_tensors="pt")
    reply = model.generate(**asked, max_new_tokens=limit, do_sample=False)[0, asked.input_ids.shape[1] :]
    reason = "stop" if reply[-1] == tokenizer.eos_token_id else "length"
    return asked.input_ids.shape[1], len(reply), reason, tokenizer.decode(reply, skip_special_tokens=True)


def test_tokens_cost_and_finish_reason_are_what_transformers_generates(desk: Desk) -> None:
    names = ["one", "two", "plain"]
    path = desk.pool(names)
    frame = desk.collected()

    assert len(frame) == 2 * 3 * 2 * 3
    assert check_file(desk.out)
    strategies = read_pool(path).strategies
    for row in frame.itertuples():
        message = strategies[row.strategy].message(row.prompt)
        said = (row.prompt_tokens, row.completion_tokens, row.finish_reason, row.response)
        assert said == transformers_says(desk.models / row.model, message, LIMIT)
    assert set(frame["finish_reason"]) == {"stop", "length"}
    assert set(frame["usage"]) == {"counted"}
    assert (frame["latency_s"] > 0).all()
    paid = 1e-6 * (PRICE["input"] * frame["prompt_tokens"] + PRICE["output"] * frame["completion_tokens"])
    assert frame["cost_usd"].tolist() == pytest.approx(paid.tolist())
    prompt_tokens = frame.groupby("model")["prompt_tokens"].sum()
    assert prompt_tokens["one"] == prompt_tokens["two"] == prompt_tokens["plain"] + 3 * 12  # The template's tokens


def test_a_second_run_asks_nothing_and_needs_no_model(desk: Desk) -> None:
    shutil.copytree(desk.models / "one", desk.folder / "moved")
    desk.pool(["one"], lambda model: model.update(served_model=str(desk.folder / "moved")))
    assert "12 asked now" in desk.run().output
    first = desk.frame
    shutil.rmtree(desk.folder / "moved")
    again = desk.run()
    assert again.exit_code == 0
    assert "12 outcomes" in again.output
    assert "0 asked now" in again.output
    pd.testing.assert_frame_equal(first, desk.frame)
    desk.ask("nq", ["And this one?"])
    assert "cannot be loaded by hf" in one_line(desk.run())


def test_how_requests_are_batched_changes_no_outcome(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    first = desk.collected()
    desk.pool(["one"], lambda model: model.update(lm_eval_args={"batch_size": 3, "dtype": "float32"}))
    batched = desk.afresh().collected()
    monkeypatch.setattr(backends, "_BLOCK", 5)
    in_blocks = desk.afresh().collected()
    pd.testing.assert_frame_equal(first[TOLD], batched[TOLD])
    pd.testing.assert_frame_equal(first[TOLD], in_blocks[TOLD])


def test_a_reply_that_ends_at_its_limit_has_ended_and_a_shorter_limit_cuts_it(desk: Desk) -> None:
    free = desk.collected()
    length = int(free.loc[free["finish_reason"] == "stop", "completion_tokens"].max())

    desk.pool(["one"], lambda model: model.update(sampling={"max_tokens": length}))
    exact = desk.afresh().collected()
    assert (exact["completion_tokens"] == length).any()
    ended = free["completion_tokens"] <= length
    assert exact.loc[ended, TOLD].equals(free.loc[ended, TOLD])

    desk.pool(["one"], lambda model: model.update(sampling={"max_completion_tokens": length - 1}))
    cut = desk.afresh().run()
    assert "were cut off at their token limit" in cut.output
    assert (desk.frame["finish_reason"] == "length").sum() == (free["completion_tokens"] >= length).sum()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_stop_words_end_a_reply_and_are_paid_for(desk: Desk, batch_size: int) -> None:
    free = desk.collected()
    arguments = {"batch_size": batch_size}
    desk.pool(["one"], lambda model: model.update(lm_eval_args=arguments), stop=["e", "J"])
    stopped = desk.afresh().collected()
    cut = free["response"].str.contains("[eJ]", regex=True)
    assert cut.any()
    assert stopped.loc[~cut, TOLD].equals(free.loc[~cut, TOLD])
    assert stopped["response"].tolist() == free["response"].str.replace("(?s)[eJ].*", "", regex=True).tolist()
    assert (stopped.loc[cut, "finish_reason"] == "stop").all()
    assert (stopped.loc[cut, "completion_tokens"] >= 1).all()
    assert (stopped.loc[cut, "completion_tokens"] <= free.loc[cut, "completion_tokens"]).all()
    assert stopped.loc[cut, "completion_tokens"].sum() < free.loc[cut, "completion_tokens"].sum()


def test_thoughts_that_lm_eval_cuts_off_are_paid_for(desk: Desk) -> None:
    free = desk.collected()
    desk.pool(["one"], lambda model: model.update(lm_eval_args={"think_end_token": "e"}))
    frame = desk.afresh().collected()
    assert frame["completion_tokens"].tolist() == free["completion_tokens"].tolist()
    assert frame["response"].str.len().sum() < free["response"].str.len().sum()


def test_sampling_is_seeded(desk: Desk) -> None:
    drawn = []
    for seed in (None, 1, 1, 2):
        seeded = {} if seed is None else {"seed": seed}
        desk.pool(["one"], temperature=0.9, top_p=0.95, **seeded)
        drawn.append(desk.afresh().collected()["response"].tolist())
    assert drawn[1] == drawn[2]
    assert drawn[1] not in (drawn[0], drawn[3])


def test_an_empty_reply_is_an_outcome(desk: Desk) -> None:
    write_tiny_model(desk.folder / "silent", eos=-40.0)
    desk.pool(["one"], lambda model: model.update(served_model=str(desk.folder / "silent")))
    result = desk.run()
    empty = desk.frame["response"] == ""
    assert empty.any()
    assert f"{empty.sum()} answers are empty; they count as answered" in result.output
    assert set(desk.frame.loc[empty, "completion_tokens"]) == {1}
    assert set(desk.frame.loc[empty, "finish_reason"]) == {"stop"}


def test_what_is_too_long_is_refused_and_never_cut(desk: Desk) -> None:
    desk.ask("nq", ["Who?", "x" * 600, "Where?"])
    for asked in (10, 0):
        result = desk.run()
        assert "10 of 12 outcomes" in one_line(result)
        assert f"{asked} asked now" in result.output
        assert "2 requests have no answer" in result.output
        assert "are more than the model's 512" in result.output
        assert "nq-1" not in set(desk.frame["query_id"])


def test_one_model_at_a_time_is_in_memory(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Any]] = []
    seen: list[int] = []
    load = backends.load_backend

    def watched(*arguments: Any) -> Any:
        seen.append(sum(each() is not None for each in alive))
        lm = load(*arguments)
        alive.append(weakref.ref(lm.model))
        return lm

    monkeypatch.setattr(backends, "load_backend", watched)
    desk.pool(["one", "two", "plain"])
    desk.collected()
    gc.collect()
    assert seen == [0, 0, 0]
    assert [each() for each in alive] == [None] * 3


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({"frequency_penalty": 1.0}, "model one .* fails in hf: .*frequency_penalty"),
        ({"temperature": "hot"}, "model one .* fails in hf: .*hot"),
        ({"seed": "s"}, "model one .* fails in hf: .*'s'"),
    ],
)
def test_a_setting_that_the_backend_does_not_know_is_one_line(desk: Desk, sampling: Any, said: str) -> None:
    desk.pool(["one"], **sampling)
    line = one_line(desk.run())
    assert re.search(said, line)
    assert "the same command goes on from there" in line


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"12345678" * 4)


def _no_config(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")


def _gone(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize("spoil", [_no_weights, _no_config, _gone])
def test_a_model_that_cannot_be_loaded_is_one_line(desk: Desk, spoil: Callable[[Path], None]) -> None:
    shutil.copytree(desk.models / "one", desk.folder / "spoilt")
    spoil(desk.folder / "spoilt")
    desk.pool(["one"], lambda model: model.update(served_model=str(desk.folder / "spoilt")))
    line = one_line(desk.run())
    assert f"model one ({desk.folder / 'spoilt'}) cannot be loaded by hf: " in line
    assert not desk.out.exists()


def test_an_argument_that_lm_eval_does_not_take_is_one_line(desk: Desk) -> None:
    desk.pool(["one"], lambda model: model.update(lm_eval_args={"dtype": "float31"}))
    assert "cannot be loaded by hf: " in one_line(desk.run())


def test_a_chat_template_that_fails_is_one_line(desk: Desk) -> None:
    shutil.copytree(desk.models / "one", desk.folder / "odd")
    (desk.folder / "odd" / "chat_template.jinja").write_text("{{ raise_exception('no user here') }}", encoding="utf-8")
    desk.pool(["one"], lambda model: model.update(served_model=str(desk.folder / "odd")))
    assert "fails in hf: no user here" in one_line(desk.run())


@pytest.mark.parametrize("error", [RuntimeError("out of memory\nsomewhere"), KeyboardInterrupt()])
def test_what_was_answered_before_a_failure_is_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    from lm_eval.models.huggingface import HFLM

    whole = desk.collected()
    desk.afresh()
    generate, calls = HFLM._model_generate, iter(range(100))

    def failing(self: HFLM, *arguments: Any, **options: Any) -> Any:
        if next(calls) == 5:
            raise error
        return generate(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(HFLM, "_model_generate", failing)
        result = desk.run()
        assert result.exit_code == (2 if isinstance(error, Exception) else 1)
    if isinstance(error, Exception):
        assert "fails in hf: out of memory somewhere; what was answered is kept" in one_line(result)
    again = desk.run()
    assert "7 asked now" in again.output
    assert "billed twice" not in again.output
    pd.testing.assert_frame_equal(desk.frame[TOLD], whole[TOLD])


@pytest.fixture
def other(desk: Desk) -> Iterator[Journal]:
    journal = Journal(desk.out.with_suffix(".journal"))
    yield journal
    journal.close()


def test_what_another_collector_has_claimed_is_left_to_it(desk: Desk, other: Journal) -> None:
    whole = desk.collected("--journal", str(desk.folder / "elsewhere"))
    arms = Arms(read_pool(desk.folder / "pool.yaml"), ["one"], ["direct", "cot"], "lm-eval:hf")
    for prompt in whole["prompt"].unique()[:3]:
        assert other.claim(arms.request("one", "cot", prompt).key, 0.0, True)
    result = desk.run()
    assert "9 of 12 outcomes" in one_line(result)
    assert "9 asked now" in result.output
    other.close()
    assert "3 asked now" in desk.run().output
    pd.testing.assert_frame_equal(desk.frame[TOLD], whole[TOLD])


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vllm is installed")
def test_a_backend_that_is_not_installed_says_what_to_install(desk: Desk) -> None:
    line = one_line(desk.run(backend="lm-eval:vllm"))
    assert line == "Error: --backend lm-eval:vllm needs vllm: pip install '.[vllm]' in a checkout of recal-bench"


def test_an_unknown_backend_is_one_line(desk: Desk) -> None:
    assert "no backend is called lm-eval:hg (did you mean lm-eval:hf?)" in one_line(desk.run(backend="lm-eval:hg"))
