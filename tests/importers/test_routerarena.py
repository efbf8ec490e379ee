"""RouterArena's prediction files and cached results."""

import json
from pathlib import Path

import pytest
from importing import write_lines

from recal_bench.outcomes.files import check_file, read_outcomes


def entry(n: int, model: str, **other: object) -> dict:
    """As llm_evaluation/run.py leaves it."""
    return {
        "global index": f"SuperGLUE-RC_{n}",
        "prompt": f"Is {n} even?",
        "prediction": model,
        "generated_result": {
            "generated_answer": f"{model} says yes to {n}",
            "success": True,
            "token_usage": {"input_tokens": 110, "output_tokens": 41, "total_tokens": 700},
            "provider": "azure",
            "error": None,
        },
        "cost": 0.000548,
        "accuracy": float(n % 2 == 0),
        "for_optimality": False,
    } | other


def cached(n: int, model: str) -> dict:
    """As in cached_results/MODEL.jsonl."""
    return {
        "global_index": f"AIME_{n}",
        "question": f"What is {n}?",
        "llm_selected": model,
        "generated_answer": f"{model}: {n}",
        "token_usage": {"input_tokens": 349, "output_tokens": 120, "total_tokens": 469},
        "success": True,
        "evaluation_result": {"ground_truth": str(n), "score": 1.0, "metric": "math_metric", "inference_cost": 0.0002},
    }


def write(path: Path, entries: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries, indent=2), encoding="utf-8")
    return path


def test_optimality_entries_make_a_file_that_can_be_replayed(imported, tmp_path):
    """The router's own choice for 30 queries, the other model's outcome for three of them."""
    entries = [entry(n, ("gpt-4.1", "deepseek-v3.1")[n % 2]) for n in range(30)]
    entries += [entry(n, ("deepseek-v3.1", "gpt-4.1")[n % 2], for_optimality=True) for n in range(3)]
    frame = imported("routerarena", write(tmp_path / "my-router.json", entries))
    assert len(frame) == 6
    first = frame.iloc[0]
    assert first[["task", "query_id", "prompt"]].tolist() == ["SuperGLUE-RC", "SuperGLUE-RC_0", "Is 0 even?"]
    assert first[["model", "score", "cost_usd"]].tolist() == ["gpt-4.1", 1.0, 0.000548]
    assert first[["prompt_tokens", "completion_tokens"]].tolist() == [110, 41]
    assert first["response"] == "gpt-4.1 says yes to 0"
    assert "27 queries left out that hold only one model: replay needs several" in frame.attrs["output"]
    assert read_outcomes(tmp_path / "out" / "imported.parquet").observed_QA.all()


def test_one_arm_a_query_is_imported_and_said_to_be_no_replay(run, tmp_path):
    path = write(tmp_path / "my-router.json", [entry(n, ("gpt-4.1", "deepseek-v3.1")[n % 2]) for n in range(30)])
    out = tmp_path / "out.parquet"
    result = run("routerarena", path, "--out", out)
    assert result.exit_code == 0
    assert "Note: each query holds one model, the router's own choice" in result.output
    assert "Note: `run` cannot use it yet: the file is a log of single choices" in result.output
    assert check_file(out).summary[0] == "rows: 30"


def test_cached_results_of_several_models_merge(imported, tmp_path):
    for model in ("claude-3-haiku", "gemini-2.0-flash"):
        write_lines(tmp_path / "cached_results" / f"{model}.jsonl", [cached(n, model) for n in range(5)])
    frame = imported("routerarena", tmp_path / "cached_results")
    assert frame.groupby("query_id")["model"].apply(sorted).tolist() == [["claude-3-haiku", "gemini-2.0-flash"]] * 5
    assert set(frame["task"]) == {"AIME"}
    assert frame["gold"].iloc[0] == '["0"]'
    assert set(frame["cost_usd"]) == {0.0002}
    assert set(frame["completion_tokens"]) == {120}


def test_routers_merge_and_other_answers_are_further_draws(imported, tmp_path):
    write(tmp_path / "p" / "a.json", [entry(n, "small") for n in range(4)])
    same = entry(0, "small")
    other = entry(1, "small", cost=0.0007, accuracy=1.0)
    write(tmp_path / "p" / "b.json", [same, other, *(entry(n, "large") for n in range(4))])
    write(tmp_path / "p" / "b-robustness.json", [entry(0, "small", prompt="Even, is 0?")])
    frame = imported("routerarena", tmp_path / "p")
    assert len(frame) == 9
    output = frame.attrs["output"]
    assert "1 row dropped that repeat another one" in output
    assert "1 outcome differ between files: kept as repeated draws" in output
    assert "1 file *-robustness.json left out" in output
    outcomes = read_outcomes(tmp_path / "out" / "imported.parquet")
    small = [arm.model for arm in outcomes.arms].index("small")
    assert outcomes.score_QA[1, small] == 0.5
    assert outcomes.cost_QA[1, small] == pytest.approx((0.000548 + 0.0007) / 2)


def test_the_order_of_the_files_does_not_matter(run, tmp_path):
    a = write(tmp_path / "a.json", [entry(n, "small") for n in range(4)])
    b = write(tmp_path / "b.json", [entry(n, model, accuracy=0.5) for n in range(4) for model in ("small", "large")])
    for sources, name in (((a, b), "ab.parquet"), ((b, a), "ba.parquet")):
        assert run("routerarena", *sources, "--out", tmp_path / name).exit_code == 0
    assert (tmp_path / "ab.parquet").read_bytes() == (tmp_path / "ba.parquet").read_bytes()


def test_a_cost_of_zero_is_unknown_and_failed_calls_are_no_outcomes(imported, tmp_path):
    failed = entry(2, "large")
    failed["generated_result"] = {"generated_answer": "", "success": False, "token_usage": None, "error": "timeout"}
    entries = [entry(n, model) for n in range(5) for model in ("small", "large") if (n, model) != (2, "large")]
    entries[0]["cost"] = 0.0
    entries[1] |= {"accuracy": None, "cost": None}
    entries[2] |= {"generated_result": None, "cost": None}
    frame = imported("routerarena", write(tmp_path / "r.json", [*entries, failed]))
    output = frame.attrs["output"]
    assert "1 entry whose call failed: taken as missing outcomes" in output
    assert "1 entry without accuracy: taken as missing outcomes" in output
    # Queries 0 and 2 now have one model alone.
    assert sorted(set(frame["query_id"])) == ["SuperGLUE-RC_1", "SuperGLUE-RC_3", "SuperGLUE-RC_4"]
    assert frame["cost_usd"].isna().sum() == 1
    assert "1 cost of 0 taken as unknown: RouterArena writes 0 for no price" in output


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry(0, "m", accuracy=None)], "no entry has an accuracy: run RouterArena's inference and evaluation first"),
        ([entry(0, "m"), {"index": 1, "query": "q"}], "r.json, entry 2 lacks global index, prompt, prediction"),
        ([entry(0, "m"), 5], "r.json, entry 2 is not a JSON object"),
        ([entry(0, "m", accuracy=55)], "entry 1: accuracy is 55, outside 0..1"),
        ([entry(0, "m", cost="dear")], "entry 1: cost is dear, which is not a number"),
        ([entry(0, "m"), entry(0, "m", accuracy=0.0)], "entry 2: the outcome SuperGLUE-RC SuperGLUE-RC_0 m is given"),
        ([entry(0, "m"), entry(0, "n", prompt="p")], "entry 2: the query SuperGLUE-RC SuperGLUE-RC_0 has another"),
        ([], "no entry has an accuracy"),
    ],
)
def test_what_cannot_be_right_is_refused(refused, tmp_path, entries, message):
    assert message in refused("routerarena", write(tmp_path / "r.json", entries))


def test_damaged_files_are_refused(refused, tmp_path):
    (tmp_path / "r.json").write_text('[{"global index": "a_1", ')
    assert "r.json is not JSON: " in refused("routerarena", tmp_path / "r.json")
    (tmp_path / "r.json").write_bytes(b"[\xff\xfe]")
    assert "r.json is not UTF-8 text" in refused("routerarena", tmp_path / "r.json")
    (tmp_path / "x" / "a-robustness.json").parent.mkdir()
    write(tmp_path / "x" / "a-robustness.json", [entry(0, "m")])
    assert "holds only robustness files" in refused("routerarena", tmp_path / "x")


def test_scores_slightly_outside_are_left_out_and_named_or_clipped(imported, refused, tmp_path):
    """As METEOR in the repository's cached results."""
    for model in ("haiku", "flash"):
        entries = [cached(n, model) for n in range(5)]
        entries[3]["evaluation_result"] |= {"score": -0.004, "metric": "meteor_score"}
        write_lines(tmp_path / "cached_results" / f"{model}.jsonl", entries)
    frame = imported("routerarena", tmp_path / "cached_results")
    assert len(frame) == 8
    output = frame.attrs["output"]
    assert "2 entries with a score slightly outside 0..1 left out" in output
    assert "flash.jsonl, line 4 (-0.004)" in output
    clipped = imported("routerarena", tmp_path / "cached_results", "--clip-scores")
    assert len(clipped) == 10
    assert clipped["score"].min() == 0
    assert "2 scores outside 0..1 taken as 0 or 1 (--clip-scores)" in clipped.attrs["output"]
    write(tmp_path / "p.json", [entry(0, "m", accuracy=-3)])
    assert "accuracy is -3, outside 0..1" in refused("routerarena", tmp_path / "p.json", "--clip-scores")
    assert "--clip-scores is for routerarena" in refused("wide", tmp_path / "p.json", "--clip-scores")


def test_a_file_whose_calls_all_failed_says_so(refused, tmp_path):
    failed = {"generated_answer": "", "success": False, "token_usage": None, "error": "401"}
    entries = [entry(n, "m", generated_result=failed, accuracy=None) for n in range(3)]
    message = refused("routerarena", write(tmp_path / "r-robustness.json", entries))
    assert "every call failed, all 3 entries say success: false" in message
    entries[0] = entry(0, "m", accuracy=None)
    message = refused("routerarena", write(tmp_path / "s-robustness.json", entries))
    assert "no entry has an accuracy (2 of 3 calls failed)" in message


def test_a_router_s_configuration_beside_predictions_is_left_out(imported, refused, tmp_path):
    """As in the repository's own folder of predictions."""
    write(tmp_path / "p" / "a.json", [entry(n, model) for n in range(4) for model in ("small", "large")])
    (tmp_path / "p" / "router_config.json").write_text('{\n  "pipeline_params": {"models": []}\n}')
    frame = imported("routerarena", tmp_path / "p")
    assert len(frame) == 8
    assert "they hold no list of predictions: router_config.json" in frame.attrs["output"]
    (tmp_path / "p" / "a.json").unlink()
    assert "holds no list of predictions" in refused("routerarena", tmp_path / "p")


def test_a_pointer_of_git_lfs_is_named(refused, tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    for form, name in (("routerarena", "a.json"), ("wide", "a.csv"), ("wide", "a.parquet"), ("llmrouter", "a.jsonl")):
        (tmp_path / name).write_text(pointer)
        assert f"{name} is a pointer of Git LFS, not the table itself" in refused(form, tmp_path / name)
