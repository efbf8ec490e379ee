"""Whatever stands in the fields of a source: an import ends in a valid file or in one line."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recal_bench.errors import RecalBenchError
from recal_bench.importers import Options, import_outcomes

JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.sampled_from(
            [10**30, -0.0, 0.5, float("nan"), float("inf"), "0.5", "", " ", "[", "['a']", "[{", "\ud83d", "|"]
        ),
        st.text(max_size=4),
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["arg_0", "content", "a"]), inner),
    max_leaves=4,
)
RESULT = {"generated_answer": "a", "success": True, "token_usage": {"input_tokens": 1, "output_tokens": 2}}
SOURCES: dict[str, tuple[str, dict]] = {
    "llmrouter": (
        "s.jsonl",
        {"task_name": "t", "query": "q", "ground_truth": "g", "model_name": "m", "response": "r", "token_num": 3}
        | {
            "input_tokens": 1,
            "output_tokens": 2,
            "cost": 1e-3,
            "response_time": 1.0,
            "performance": 1.0,
            "split": "train",
        },
    ),
    "lm-eval": (
        "samples_t_2026-01-02T03-04-05.jsonl",
        {"doc_id": 0, "target": "g", "arguments": {"gen_args_0": {"arg_0": "q"}}, "resps": [["r"]], "filter": "none"}
        | {"metrics": ["exact_match"], "doc_hash": "h", "exact_match": 1.0},
    ),
    "routerarena": (
        "s.json",
        {
            "global index": "t_1",
            "prompt": "q",
            "prediction": "m",
            "accuracy": 1.0,
            "cost": 1e-3,
            "generated_result": RESULT,
        },
    ),
    "long": (
        "s.jsonl",
        {"prompt": "q", "task": "t", "query_id": "1", "split": "train", "gold": "g", "model": "m", "strategy": "s"}
        | {"score": 1.0, "cost_usd": 1e-3, "prompt_tokens": 3, "response": "r", "sample": 0, "usage": "reported"}
        | {"latency_s": 0.5, "propensity": 1.0},
    ),
    "embedllm": (
        "s.jsonl",
        {"prompt_id": "1", "prompt": "q", "category": "t", "model_id": 3, "model_name": "m", "label": 1},
    ),
    "sprout": (
        "s.jsonl",
        {"key": "1", "dataset": "t", "prompt": "q", "golden_answer": "g"}
        | {"m": {"score": 1.0, "num_input_tokens": 3, "num_output_tokens": 4, "response": "r"}},
    ),
    "wide": (
        "s.jsonl",
        {"prompt": "q", "task": "t", "query_id": "1", "split": "train", "gold": "g", "m": 1.0, "cost:m": 1e-3}
        | {"prompt_tokens:m": 3, "response:m": "r"},
    ),
    "routerbench": (
        "s.jsonl",
        {
            "sample_id": "1",
            "prompt": "['q']",
            "eval_name": "t",
            "m": 1.0,
            "m|total_cost": 1e-3,
            "m|model_response": "['r']",
        },
    ),
}


def write(path: Path, records: list[dict]) -> None:
    text = json.dumps(records) if path.suffix == ".json" else "\n".join(map(json.dumps, records))
    path.write_text(text, encoding="utf-8")


def import_into(form: str, path: Path, out: Path) -> None:
    said = ""
    try:
        problems = import_outcomes(form, [path], out, Options()).report.problems
        # Two models, each on a query of its own, are a log, which `validate` rightly refuses.
        assert all("a log of single choices" in problem for problem in problems)
    except RecalBenchError as error:
        said = str(error)
    assert "\n" not in said


@pytest.mark.parametrize("form", SOURCES)
def test_any_value_in_any_field(tmp_path_factory: pytest.TempPathFactory, form: str) -> None:
    name, valid = SOURCES[form]
    folder = tmp_path_factory.mktemp("source")
    fields = st.dictionaries(st.sampled_from(sorted(valid)), JSON, min_size=1, max_size=3)

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(change=fields, absent=st.sets(st.sampled_from(sorted(valid)), max_size=1))
    def check(change: dict, absent: set) -> None:
        other = {key: value for key, value in (valid | change).items() if key not in absent}
        write(folder / name, [valid, other])
        import_into(form, folder / name, folder / "out.parquet")

    check()
