"""RouterBench's tables, and what is done with a pickle."""

import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from importing import write_lines

from recal_bench.outcomes.files import read_outcomes

SMALL, LARGE = "mistralai/mistral-7b-chat", "gpt-4-1106-preview"
ASKED = 'Write a "function" to sort a list\'s elements.'


def wide_table() -> pd.DataFrame:
    """As in routerbench_0shot.pkl: prompts and responses are lists written as text, the scores are objects."""
    rows = []
    for n in range(12):
        prompt = [f"Question {n}: {ASKED}"] if n % 3 else ["First turn.", f"Second\nturn {n}."]
        row = {
            "sample_id": f"mbpp.dev.{n}" if n % 2 else f"mmlu-law.val.{n}",
            "prompt": str(prompt),
            "eval_name": "mbpp" if n % 2 else "mmlu-law",
        }
        row |= {SMALL: float(n % 2), LARGE: 0.75}
        row |= {f"{SMALL}|model_response": str([f"it's {n}"]), f"{LARGE}|model_response": str(["a", "b"])}
        row |= {f"{SMALL}|total_cost": 1.46e-05, f"{LARGE}|total_cost": 0.00074}
        rows.append({**row, "oracle_model_to_route_to": LARGE})
    return pd.DataFrame(rows).astype({SMALL: object, LARGE: object})


def long_table() -> pd.DataFrame:
    """As in routerbench_raw.pkl: a row for each prompt and model."""
    frame = wide_table()
    parts = [
        frame[["sample_id", "prompt", "eval_name"]].assign(
            model_name=model,
            performance=frame[model],
            model_response=frame[f"{model}|model_response"],
            cost=frame[f"{model}|total_cost"],
        )
        for model in (SMALL, LARGE)
    ]
    return pd.concat(parts, ignore_index=True)


def check(frame: pd.DataFrame) -> None:
    assert len(frame) == 24
    assert set(frame["task"]) == {"mbpp", "mmlu-law"}
    assert set(frame["strategy"]) == {"direct"}
    found = frame.set_index(["query_id", "model"])
    small = found.loc[("mbpp.dev.1", SMALL)]
    assert small["prompt"] == f"Question 1: {ASKED}"
    assert (small["score"], small["cost_usd"], small["response"]) == (1.0, 1.46e-05, "it's 1")
    large = found.loc[("mmlu-law.val.0", LARGE)]
    assert large["prompt"] == "First turn.\n\nSecond\nturn 0."
    assert (large["score"], large["cost_usd"], large["response"]) == (0.75, 0.00074, "a\n\nb")
    assert frame["completion_tokens"].isna().all()


@pytest.mark.parametrize("table", [wide_table, long_table])
def test_the_published_tables_are_read_in_every_form(imported, tmp_path, table):
    frame = table()
    frame.astype({name: float for name in (SMALL, LARGE, "performance") if name in frame}).to_parquet(
        tmp_path / "rb.parquet"
    )
    frame.to_csv(tmp_path / "rb.csv", index=False)
    frame.to_pickle(tmp_path / "rb.pkl")
    check(imported("routerbench", tmp_path / "rb.parquet"))
    check(imported("routerbench", tmp_path / "rb.csv"))
    check(imported("routerbench", tmp_path / "rb.pkl", "--unsafe-pickle"))


def test_the_order_of_rows_and_columns_does_not_show(imported, tmp_path):
    frame = wide_table()
    frame.to_csv(tmp_path / "a.csv", index=False)
    shuffled = frame.sample(frac=1, random_state=0)
    shuffled[shuffled.columns[np.random.default_rng(0).permutation(frame.shape[1])]].to_csv(tmp_path / "b.csv")
    first, second = imported("routerbench", tmp_path / "a.csv"), imported("routerbench", tmp_path / "b.csv")
    first.attrs = second.attrs = {}
    pd.testing.assert_frame_equal(first, second)


def test_prompts_that_are_lists_or_json_are_joined(imported, tmp_path):
    prompts = [["one", "two"], json.dumps(["one", "two"]), "[one, two]", '["a", 1]', "['unclosed", r"['\d']"]
    rows = [
        {"sample_id": str(n), "prompt": prompt, "eval_name": "t", "m": 1.0, "m|total_cost": 1e-3}
        for n, prompt in enumerate(prompts)
    ]
    pd.DataFrame(rows).to_pickle(tmp_path / "rb.pkl")
    found = imported("routerbench", tmp_path / "rb.pkl", "--unsafe-pickle").set_index("query_id")["prompt"]
    assert found.tolist() == ["one\n\ntwo", "one\n\ntwo", "[one, two]", '["a", 1]', "['unclosed", r"\d"]


def test_a_missing_score_is_no_outcome_and_a_missing_cost_is_unknown(imported, tmp_path):
    frame = wide_table()
    frame.loc[0, SMALL] = None
    frame.loc[1, f"{LARGE}|total_cost"] = None
    frame.to_csv(tmp_path / "rb.csv", index=False)
    found = imported("routerbench", tmp_path / "rb.csv")
    assert len(found) == 23
    assert found["cost_usd"].isna().sum() == 1
    long = long_table()
    long.loc[0, "performance"] = None
    long.to_csv(tmp_path / "long.csv", index=False)
    assert "1 row without performance" in imported("routerbench", tmp_path / "long.csv").attrs["output"]
    imported("routerbench", tmp_path / "rb.csv")
    outcomes = read_outcomes(tmp_path / "out" / "imported.parquet")
    assert (~outcomes.observed_QA).sum() == 1


class Payload:
    """What a hostile pickle holds: opening it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    ("name", "protocol"),
    # Of protocol 0, which is plain text, the name alone tells.
    [("table.pkl", 0), ("table.pkl", 2)]
    + [(name, pickle.HIGHEST_PROTOCOL) for name in ("t.pkl.gz", "t.csv", "t.parquet", "t.jsonl", "t.csv.gz", "t")],
)
def test_a_pickle_is_not_opened_unless_told(refused, tmp_path, name, protocol):
    mark = tmp_path / "it ran"
    content = pickle.dumps(Payload(mark), protocol)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    for form in ("routerbench", "wide", "llmrouter"):
        message = refused(form, tmp_path / name)
        assert "is a pickle, and opening one runs whatever code it holds" in message
        assert "--unsafe-pickle" in message
        assert not mark.exists()
    refused("routerbench", tmp_path / name, "--unsafe-pickle")
    assert mark.exists(), "the payload must work, or the test shows nothing"


def test_a_pickle_of_something_else_is_refused(refused, tmp_path):
    with (tmp_path / "rb.pkl").open("wb") as file:
        pickle.dump({"a": 1}, file)
    assert "holds a dict, not a pandas DataFrame" in refused("routerbench", tmp_path / "rb.pkl", "--unsafe-pickle")
    (tmp_path / "rb.pkl").write_bytes(b"\x80\x04 and no more")
    assert "rb.pkl cannot be read" in refused("routerbench", tmp_path / "rb.pkl", "--unsafe-pickle")


def test_what_is_not_its_table_is_refused(refused, tmp_path):
    frame = wide_table()
    frame.drop(columns="eval_name").to_csv(tmp_path / "a.csv", index=False)
    assert "has no column eval_name" in refused("routerbench", tmp_path / "a.csv")
    frame.drop(columns=LARGE).to_csv(tmp_path / "b.csv", index=False)
    assert f"but none {LARGE} with the scores" in refused("routerbench", tmp_path / "b.csv")
    frame[["sample_id", "prompt", "eval_name", SMALL]].to_csv(tmp_path / "c.csv", index=False)
    assert "format `wide`" in refused("routerbench", tmp_path / "c.csv")
    write_lines(tmp_path / "d.jsonl", [])
    assert "is empty" in refused("routerbench", tmp_path / "d.jsonl")
    frame.head(0).to_csv(tmp_path / "e.csv", index=False)
    assert "holds no rows" in refused("routerbench", tmp_path / "e.csv")
    frame.loc[3, SMALL] = 5
    frame.to_csv(tmp_path / "f.csv", index=False)
    assert f"f.csv, row 4: column {SMALL} is 5, outside 0..1" in refused("routerbench", tmp_path / "f.csv")


def test_zero_shot_and_five_shot_do_not_mix(refused, tmp_path):
    frame = wide_table()
    frame.to_csv(tmp_path / "0shot.csv", index=False)
    frame.assign(prompt="['with examples']").to_csv(tmp_path / "5shot.csv", index=False)
    message = refused("routerbench", tmp_path / "0shot.csv", tmp_path / "5shot.csv")
    assert "has another prompt than in" in message
    assert "5shot.csv, row" in message


def test_an_id_that_stands_twice_as_one_and_as_two_equal_turns_is_two_draws(imported, tmp_path):
    """As 14 ids of the repository's table do."""
    table = wide_table()
    again = table.iloc[[1]].assign(prompt=str([f"Question 1: {ASKED}"] * 2), **{SMALL: 0.0})
    pd.concat([table, again]).to_csv(tmp_path / "t.csv", index=False)
    frame = imported("routerbench", tmp_path / "t.csv")
    twice = frame[(frame["query_id"] == "mbpp.dev.1") & (frame["model"] == SMALL)]
    assert twice["prompt"].unique().tolist() == [f"Question 1: {ASKED}"]
    assert sorted(twice["score"]) == [0.0, 1.0]
    assert "1 query stand several times with the same prompt" in frame.attrs["output"]
    outcomes = read_outcomes(tmp_path / "out" / "imported.parquet")
    row, arm = outcomes.query_id_Q.tolist().index("mbpp.dev.1"), [arm.model for arm in outcomes.arms].index(SMALL)
    assert outcomes.score_QA[row, arm] == 0.5


def test_another_prompt_under_an_id_is_still_refused(refused, tmp_path):
    table = wide_table()
    pd.concat([table, table.iloc[[1]].assign(prompt="another")]).to_csv(tmp_path / "t.csv", index=False)
    assert "has another prompt than in" in refused("routerbench", tmp_path / "t.csv")
