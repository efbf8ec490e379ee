"""Logs in long form: columns by any name, units said or asked for."""

from pathlib import Path

import pandas as pd
import pytest

from recal_bench.outcomes.writer import read_metadata

LOG = """question,llm,method,rating,price_cents,latency_ms,in_tok
what is 1?,a,direct,100,0.02,300,10
what is 1?,b,cot,50,0.2,400,10
what is 2?,a,direct,0,0.02,300,10
what is 2?,b,cot,,,400,10
"""
NAMES = "prompt=question,model=llm,strategy=method,score=rating,cost_usd=price_cents,latency_s=latency_ms"
UNITS = "score=0.01,cost_usd=0.01,latency_s=0.001"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log.csv").write_text(LOG)
    return tmp_path / "log.csv"


def test_names_and_units_are_said(imported, log, tmp_path):
    frame = imported("long", log, "--map", NAMES, "--map", "in_tok=prompt_tokens", "--scale", UNITS)
    assert frame["score"].tolist() == [1.0, 0.5, 0.0]
    assert frame["cost_usd"].tolist() == pytest.approx([0.0002, 0.002, 0.0002])
    assert frame["latency_s"].tolist() == pytest.approx([0.3, 0.4, 0.3])
    assert frame["prompt_tokens"].tolist() == [10, 10, 10]
    assert (frame["model"] + "|" + frame["strategy"]).tolist() == ["a|direct", "b|cot", "a|direct"]
    assert frame["query_id"].nunique() == 2
    output = frame.attrs["output"]
    assert "Note: score: the values of rating times 0.01 (--scale)" in output
    assert "Note: 1 row without a score: taken as missing outcomes" in output
    origin = read_metadata(tmp_path / "out" / "imported.parquet")["import"]
    assert origin["map"]["score"] == "rating"
    assert origin["scale"]["cost_usd"] == 0.01


def test_the_two_names_of_a_pair_may_stand_in_either_order(imported, log):
    turned = ",".join("=".join(reversed(pair.split("="))) for pair in NAMES.split(","))
    turned_units = UNITS.replace("cost_usd", "price_cents")
    as_said = imported("long", log, "--map", NAMES, "--scale", UNITS)
    pd.testing.assert_frame_equal(imported("long", log, "--map", turned, "--scale", turned_units), as_said)


def test_an_outcomes_file_goes_through_unchanged(imported, tmp_path):
    rows = [
        {"task": "t", "query_id": str(query), "prompt": f"q{query}", "model": model, "strategy": "direct"}
        | {"score": 0.5, "completion_tokens": 9, "reasoning_tokens": 4, "cost_usd": 1e-5, "finish_reason": "stop"}
        for query in range(2)
        for model in "ab"
    ]
    pd.DataFrame(rows).to_json(tmp_path / "log.jsonl", orient="records", lines=True)
    frame = imported("long", tmp_path / "log.jsonl")
    assert frame[list(rows[0])].to_dict("records") == rows
    assert frame["propensity"].isna().all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "perhaps --map prompt=question,model=llm,strategy=method,score=rating,latency_s=latency_ms"),
        (["--map", "prompt=question,model=llm,score=ratings"], "has no column ratings (did you mean rating?)"),
        (["--map", "prompts=question"], "neither is a column of an outcomes file (did you mean prompt?)"),
        (["--map", "prompt=question,prompt=llm"], "--map names prompt twice, question and llm: keep one"),
        (["--map", "prompt"], "--map prompt: give pairs of names"),
        (["--map", NAMES, "--scale", "score"], "--scale score: give a column and a number above 0"),
        (["--map", NAMES, "--scale", "score=-1"], "give a column and a number above 0"),
        (
            ["--map", NAMES, "--scale", "scores=0.01"],
            "scores is not a column of an outcomes file (did you mean score?)",
        ),
        (["--map", NAMES, "--scale", "prompt_tokens=2"], "prompt_tokens is a count, or a text"),
        (["--map", NAMES, "--scale", "cost_usd=0.01,latency_s=0.001"], "rating is 100, outside 0..1"),
        (["--map", NAMES, "--scale", "score=0.01,latency_s=0.001"], "give --scale cost_usd=0.01"),
        (["--map", NAMES, "--scale", "score=0.01,cost_usd=0.01"], "give --scale latency_s=0.001"),
        (["--map", NAMES, "--scale", UNITS, "--score-range", "0,100"], "both say the scale of scores"),
        (["--map", NAMES + ",prompt_tokens=in_tok", "--scale", "score=0.01,cost_usd=100,latency_s=1"], "is it in USD?"),
        (["--map", NAMES, "--scale", "score=0.01,cost_usd=0.01,latency_s=1000"], "more than a day in seconds"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(refused, log, words, said):
    assert said in refused("long", log, *words)


@pytest.mark.parametrize(
    ("name", "said"), [("cost_eur", "is not in USD"), ("price_per_1k", "is a price"), ("usd_per_token", "is a price")]
)
def test_a_cost_in_another_unit_is_known_by_its_name(refused, imported, tmp_path, name, said):
    path = tmp_path / "log.csv"
    path.write_text(f"prompt,model,score,{name}\np,a,1,0.1\np,b,0,0.2\n")
    assert said in refused("long", path, "--map", f"cost_usd={name}")
    frame = imported("long", path, "--map", f"cost_usd={name}", "--scale", "cost_usd=1")
    assert frame["cost_usd"].tolist() == [0.1, 0.2]


def test_map_and_scale_are_for_long_alone(refused, log):
    assert "--map is for long: leave it out for wide" in refused("wide", log, "--map", "prompt=question")


def test_columns_that_look_like_ours_are_named(imported, tmp_path):
    (tmp_path / "log.csv").write_text("prompt,model,score,latency_ms,mood\np,a,1,3,x\np,b,0,4,y\n")
    output = imported("long", tmp_path / "log.csv").attrs["output"]
    assert "columns not used: latency_ms, mood" in output
    assert "--map latency_s=latency_ms reads columns that look as if they were these" in output
