"""LLMRouterBench, EmbedLLM and SPROUT, in files made by hand after the forms that they document."""

import json
from pathlib import Path

import pandas as pd
import pytest
from importing import write_lines

RECORD = {
    "index": 1, "origin_query": "2 + 2?", "prompt": "Q: 2 + 2?", "prediction": "4", "ground_truth": "4", "score": 1.0,
    "prompt_tokens": 15, "completion_tokens": 5, "cost": 0.0001, "raw_output": "It is 4.", "extra_fields": {},
}  # fmt: skip


def result(folder: Path, model: str, *records: dict, stamp: str = "20260102_030405", **more: object) -> Path:
    """A file as LLMRouterBench's storage writes it."""
    path = folder / "bench" / "aime" / "test" / model / f"aime-test-{model}-{stamp}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    held = {"model_name": model, "dataset_name": "aime", "split": "test", "demo": False, "records": list(records)}
    path.write_text(json.dumps(held | more))
    return path


def test_results_of_llmrouterbench(imported, tmp_path):
    result(tmp_path, "small", RECORD | {"score": 0.0, "cost": 0.0, "raw_output": None}, RECORD | {"index": 2})
    result(tmp_path, "large", RECORD, RECORD | {"index": 2, "score": None})
    result(tmp_path, "large", RECORD | {"score": 0.5}, stamp="20250102_030405")
    result(tmp_path, "shown", RECORD, demo=True)
    frame = imported("llmrouterbench", tmp_path / "bench").set_index(["model", "query_id"])
    assert frame["score"].to_dict() == {
        ("large", "test/1"): 1.0,
        ("small", "test/1"): 0.0,
        ("small", "test/2"): 1.0,
    }
    row = frame.loc[("large", "test/1")]
    assert (row["task"], row["prompt"], row["gold"], row["response"]) == ("aime", "2 + 2?", '["4"]', "It is 4.")
    assert (row["prompt_tokens"], row["completion_tokens"], row["cost_usd"]) == (15, 5, 0.0001)
    assert pd.isna(frame.loc[("small", "test/1"), "cost_usd"])
    assert frame.loc[("small", "test/1"), "response"] == "4"
    output = frame.attrs["output"]
    for note in (
        "1 cost of 0 taken as unknown",
        "1 record without a score",
        "they are demos: aime-test-shown",
        "newest",
    ):
        assert note in output


def test_names_of_llmrouterbench_may_be_those_of_folders(imported, refused, tmp_path):
    result(tmp_path, "small", RECORD)
    path = result(tmp_path, "large", RECORD)
    for each in tmp_path.rglob("*.json"):
        held = json.loads(each.read_text())
        each.write_text(json.dumps({"records": held["records"]}))
    assert set(imported("llmrouterbench", tmp_path / "bench")["model"]) == {"small", "large"}
    path.write_text("{}")
    assert "holds no `records`" in refused("llmrouterbench", path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": 70}, "or name the ends of its scale with --score-range"),
        ({"cost": 9.0}, "is it in USD?"),
        ({"index": None}, "index is empty"),
        ({"origin_query": None, "prompt": None}, "prompt is empty"),
    ],
)
def test_a_record_of_llmrouterbench_that_cannot_be(refused, tmp_path, change, said):
    assert said in refused("llmrouterbench", result(tmp_path, "small", RECORD | change))


def test_tables_of_embedllm(imported, tmp_path):
    header = "prompt_id,prompt,category,model_id,model_name,label\n"
    rows = ("0,small,1", "0,small,0", "1,large,1")
    (tmp_path / "train.csv").write_text(header + "".join(f"0,2 + 2?,gsm8k,{row}\n" for row in rows))
    (tmp_path / "val.csv").write_text(header + "5,1 + 1?,mmlu,0,small,1\n5,1 + 1?,mmlu,1,large,\n")
    (tmp_path / "test.csv").write_text(header + "7,3 + 3?,mmlu,0,small,0\n7,3 + 3?,mmlu,1,large,1\n")
    (tmp_path / "model_order.csv").write_text("model_name\nsmall\n")
    frame = imported("embedllm", tmp_path)
    assert dict(zip(frame["query_id"], frame["split"], strict=True)) == {"0": "train", "5": "validation", "7": "test"}
    assert frame.groupby(["query_id", "model"])["score"].mean().to_dict() == {
        ("0", "large"): 1.0,
        ("0", "small"): 0.5,
        ("5", "small"): 1.0,
        ("7", "large"): 1.0,
        ("7", "small"): 0.0,
    }
    assert set(frame["task"]) == {"gsm8k", "mmlu"}
    for note in ("left out: model_order.csv", "1 row without a label", "1 outcome given several times"):
        assert note in frame.attrs["output"]


def test_a_single_table_of_embedllm_without_categories(imported, refused, tmp_path):
    (tmp_path / "test.csv").write_text("prompt_id,prompt,model_id,model_name,label\n1,q,0,a,1\n1,q,1,b,0\n")
    frame = imported("embedllm", tmp_path / "test.csv", "--task", "mine")
    assert (set(frame["task"]), frame["split"].isna().all()) == ({"mine"}, True)
    (tmp_path / "bad.csv").write_text("prompt,label\nq,1\n")
    assert "is it one of EmbedLLM's tables?" in refused("embedllm", tmp_path / "bad.csv")


def cell(score: float | None, tokens: int = 3) -> dict:
    return {"score": score, "num_input_tokens": 9, "num_output_tokens": tokens, "response": "4"}


def test_tables_of_sprout_as_parquet_and_jsonl(imported, tmp_path):
    rows = {
        split: [
            {"key": f"{split}{n}", "dataset": "math", "dataset_level": "1", "dataset_idx": n, "prompt": f"{split} {n}?"}
            | {"golden_answer": "4", "wxai-small": cell(1.0), "openai-large": cell(None if n else 0.5, 7)}
            for n in range(2)
        ]
        for split in ("train", "validation", "test")
    }
    for split, records in rows.items():
        pd.DataFrame(records).to_parquet(tmp_path / f"{split}-00000-of-00001.parquet")
        write_lines(tmp_path / "lines" / f"{split}.jsonl", records)
    frame = imported("sprout", tmp_path)
    lines = imported("sprout", tmp_path / "lines")
    pd.testing.assert_frame_equal(
        *(each.sort_values(["query_id", "model"]).reset_index(drop=True) for each in (frame, lines))
    )
    assert len(frame) == 9
    assert set(frame["split"]) == {"train", "validation", "test"}
    row = frame[(frame["query_id"] == "test0") & (frame["model"] == "openai-large")].iloc[0]
    assert (row["score"], row["prompt_tokens"], row["completion_tokens"], row["gold"]) == (0.5, 9, 7, '["4"]')
    assert frame["cost_usd"].isna().all()
    assert "3 cells without a score" in frame.attrs["output"]
    assert "--unknown-cost estimate --prices POOL" in frame.attrs["output"]


def test_a_table_without_models_is_not_sprouts(refused, tmp_path):
    path = write_lines(tmp_path / "t.jsonl", [{"dataset": "d", "prompt": "p", "score": 1}])
    assert "has no column of a model" in refused("sprout", path)


def test_a_robustness_file_of_routerarena_holds_no_outcomes(refused, tmp_path):
    entry = {"global index": "AIME_1", "prompt": "Kindly solve it.", "prediction": "m", "accuracy": None, "cost": 1e-5}
    path = tmp_path / "mine-robustness.json"
    path.write_text(json.dumps([entry | {"generated_result": {"success": True}}]))
    assert "choices on reworded queries, and no accuracy" in refused("routerarena", path)
