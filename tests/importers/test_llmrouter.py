"""LLMRouter's routing data."""

import pandas as pd
import pyarrow.parquet as pq
import pytest
from importing import write_lines

from recal_bench.outcomes.files import read_outcomes


def record(n: int, model: str, **other: object) -> dict:
    """As api_calling_evaluation.py writes it, all fields."""
    return {
        "task_name": "gsm8k",
        "query": f"Janet has {n} apples. How many?",
        "ground_truth": str(n),
        "metric": "GSM8K",
        "choices": None,
        "task_id": None,
        "model_name": model,
        "response": f"She has {n}.",
        "token_num": 453,
        "input_tokens": 449,
        "output_tokens": 4,
        "response_time": 1.5,
        "api_key_used": "",
        "performance": float(n % 2),
        "embedding_id": n,
        "user_id": None,
        "fig_id": None,
    } | other


def records(start: int = 0) -> list[dict]:
    return [record(n, model) for n in range(start, start + 8) for model in ("qwen2.5-7b-instruct", "llama3-70b")]


def test_a_file_is_read_with_its_tokens_and_no_cost(imported, tmp_path):
    frame = imported("llmrouter", write_lines(tmp_path / "default_routing_train_data.jsonl", records()))
    assert len(frame) == 16
    first = frame.iloc[0]
    assert first[["task", "model", "strategy"]].tolist() == ["gsm8k", "qwen2.5-7b-instruct", "direct"]
    assert first[["prompt", "gold", "response"]].tolist() == [
        "Janet has 0 apples. How many?",
        '["0"]',
        "She has 0.",
    ]
    assert first[["prompt_tokens", "completion_tokens", "latency_s"]].tolist() == [449, 4, 1.5]
    assert frame["cost_usd"].isna().all()
    assert frame["split"].isna().all()
    assert frame.groupby("query_id").size().tolist() == [2] * 8
    assert "no cost is known" in frame.attrs["output"]


def test_the_order_of_the_lines_does_not_matter(imported, tmp_path):
    hashes = set()
    for lines in (records(), records()[::-1]):
        imported("llmrouter", write_lines(tmp_path / "routing.jsonl", lines))
        hashes.add(read_outcomes(tmp_path / "out" / "imported.parquet").data_hash)
    assert len(hashes) == 1


def test_rows_are_written_block_by_block(imported, tmp_path, monkeypatch):
    monkeypatch.setattr("recal_bench.importers.rows.BLOCK", 5)
    assert len(imported("llmrouter", write_lines(tmp_path / "routing.jsonl", records()))) == 16
    assert pq.ParquetFile(tmp_path / "out" / "imported.parquet").num_row_groups == 4


def test_train_and_test_files_are_the_splits(imported, tmp_path):
    write_lines(tmp_path / "data" / "default_routing_train_data.jsonl", records())
    write_lines(tmp_path / "data" / "default_routing_test_data.jsonl", records(start=4))
    frame = imported("llmrouter", tmp_path / "data")
    assert frame["split"].value_counts().to_dict() == {"train": 16, "test": 16}
    ids = frame.groupby("split")["query_id"].agg(set)
    assert len(ids["train"] & ids["test"]) == 4, "a query has the same id wherever it stands"
    assert "taken from the names of the files" in frame.attrs["output"]


def test_queries_of_the_same_words_but_other_choices_are_different(imported, tmp_path):
    lines = [
        record(n, model, query="Which is right?", choices=f"{{'text': ['{n}'], 'labels': ['A']}}", ground_truth="A")
        for n in range(3)
        for model in ("a", "b")
    ]
    assert imported("llmrouter", write_lines(tmp_path / "r.jsonl", lines))["query_id"].nunique() == 3


def test_failed_calls_and_missing_scores_are_no_outcomes(imported, tmp_path):
    nothing = {"token_num": 0, "input_tokens": 0, "output_tokens": 0, "performance": 0.0}
    lines = records()
    lines[0] |= {"response": "ERROR: timeout", **nothing}
    lines[1] |= {"response": "API Error: 429", **nothing}
    lines[2]["performance"] = None
    lines[3]["response"] = "ERROR: is what the model wrote"
    frame = imported("llmrouter", write_lines(tmp_path / "r.jsonl", lines))
    assert len(frame) == 13
    assert "2 failed calls (no tokens, an error as the response): missing outcomes" in frame.attrs["output"]
    assert "1 row without performance" in frame.attrs["output"]


def test_a_cost_is_in_usd(imported, refused, tmp_path):
    lines = [line | {"cost": 0.0003} for line in records()]
    assert set(imported("llmrouter", write_lines(tmp_path / "r.jsonl", lines))["cost_usd"]) == {0.0003}
    lines[5]["cost"] = 36.72
    message = refused("llmrouter", write_lines(tmp_path / "r.jsonl", lines))
    assert "line 6: cost is 36.72 for 453 tokens, more than any model costs: is it in USD?" in message


def test_aliases_and_broken_characters(imported, tmp_path):
    lines = [record(n, "m", ground_truth=["New York", "NYC"], response="half \ud83d") for n in range(3)]
    frame = imported("llmrouter", write_lines(tmp_path / "r.jsonl", lines))
    assert set(frame["gold"]) == {'["New York", "NYC"]'}
    assert set(frame["response"]) == {"half ?"}


def test_xroutebench_has_the_same_fields_in_parquet(imported, tmp_path):
    for split in ("train", "test"):
        frame = pd.DataFrame(records(start=8 * (split == "test"))).drop(columns=["user_id", "fig_id", "choices"])
        frame.to_parquet(tmp_path / f"{split}.parquet")
    found = imported("llmrouter", tmp_path / "train.parquet", tmp_path / "test.parquet")
    assert found["split"].value_counts().to_dict() == {"train": 16, "test": 16}


def test_a_task_is_named_where_there_is_none(imported, refused, tmp_path):
    lines = [{name: value for name, value in line.items() if name != "task_name"} for line in records()]
    path = write_lines(tmp_path / "r.jsonl", lines)
    assert "line 1 has no task_name: give --task NAME" in refused("llmrouter", path)
    assert set(imported("llmrouter", path, "--task", "sums")["task"]) == {"sums"}
    assert "leave --task out" in refused("llmrouter", write_lines(tmp_path / "r.jsonl", records()), "--task", "sums")


def test_identical_lines_are_dropped_and_contradictions_refused(imported, refused, tmp_path):
    lines = records()
    assert len(imported("llmrouter", write_lines(tmp_path / "r.jsonl", [*lines, lines[3]]))) == 16
    message = refused("llmrouter", write_lines(tmp_path / "r.jsonl", [*lines, lines[3] | {"performance": 0.5}]))
    assert "r.jsonl, line 17: the outcome gsm8k" in message
    assert "differs from" in message
    assert "r.jsonl, line 4: keep one of them" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"performance": 55}, "line 1: performance is 55, outside 0..1"),
        ({"performance": [1]}, "line 1: performance is [1], which is not a number"),
        ({"query": ""}, "line 1: query is empty"),
        ({"query": ["a"]}, "line 1: query is ['a'], which is not text"),
        ({"query": "\ud83d"}, "line 1: query is not valid Unicode"),
        ({"model_name": None}, "line 1: model_name is empty"),
        ({"input_tokens": "many"}, "line 1: input_tokens is many, which is not a number"),
        ({"split": "train"}, "line 2 has no split, and others have one"),
    ],
)
def test_a_bad_line_is_named(refused, tmp_path, change, message):
    lines = records()
    assert message in refused("llmrouter", write_lines(tmp_path / "r.jsonl", [lines[0] | change, *lines[1:]]))


def test_other_forms_are_refused(refused, tmp_path):
    lists = {"query": "q", "llm_name_list": ["a"], "perf_list": [1.0]}
    message = refused("llmrouter", write_lines(tmp_path / "r.jsonl", [lists]))
    assert "r.jsonl has no column model_name and no performance (it has query, llm_name_list, perf_list)" in message
    (tmp_path / "a.jsonl").write_text('[{"query": "q"}]')
    assert "a.jsonl, line 1 is not one JSON object" in refused("llmrouter", tmp_path / "a.jsonl")
