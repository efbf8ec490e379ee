"""Plain wide tables, and what holds for every table."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from importing import write_lines

from recal_bench.cli import cli
from recal_bench.importers import Options, import_outcomes
from recal_bench.outcomes.writer import read_metadata

TABLE = """prompt,task,query_id,split,gold,small,large,cost:small,cost:large,completion_tokens:large,response:large
"2 + 2?",sums,a,train,4,1,1,0.001,0.01,7,four
"2 + 3?",sums,b,validation,"[""5"", ""five""]",0,1,0.001,,8,five
"2 + 4?",sums,c,test,6,,0.5,,0.02,,
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "scores.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def test_a_wide_table_becomes_a_row_for_each_query_and_model(imported, table):
    frame = imported("wide", table, "--strategy", "cot")
    assert list(zip(frame["query_id"], frame["model"], frame["score"], strict=True)) == [
        ("c", "large", 0.5),
        ("a", "large", 1.0),
        ("a", "small", 1.0),
        ("b", "large", 1.0),
        ("b", "small", 0.0),
    ]
    large = frame[frame["model"] == "large"].set_index("query_id")
    assert large.loc["a", ["prompt", "task", "strategy", "split"]].tolist() == ["2 + 2?", "sums", "cot", "train"]
    assert large["gold"].to_dict() == {"a": '["4"]', "b": '["5", "five"]', "c": '["6"]'}
    assert large.loc["a", ["cost_usd", "completion_tokens"]].tolist() == [0.01, 7]
    assert large.loc["a", "response"] == "four"
    assert np.isnan(large.loc["b", "cost_usd"])
    assert frame["prompt_tokens"].isna().all()
    output = frame.attrs["output"]
    assert "arms: 2" in output
    assert "cost known: 80% of the rows" in output
    assert "1 cell without a score: taken as missing outcomes" in output


def test_what_a_run_needs_is_there(imported, tmp_path):
    rows = [{"prompt": f"question {n}?", "a": n % 2, "b": 1 - n % 2} for n in range(40)]
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    frame = imported("wide", tmp_path / "table.csv")
    assert set(frame["task"]) == {"table"}
    assert "table.csv names no task: it is called table; --task gives it another name" in frame.attrs["output"]
    for words in (["validate"], ["run", "--router", "best-single", "--runs", tmp_path / "runs", "--outcomes"]):
        result = CliRunner().invoke(cli, [*map(str, words), str(tmp_path / "out" / "imported.parquet")])
        assert result.exit_code == 0, result.output


def test_models_may_be_named_and_other_columns_stand_beside(imported, tmp_path):
    path = write_lines(
        tmp_path / "scores.jsonl", [{"prompt": f"p{n}", "year": 1990 + n, "note": "x", "m": 1.0} for n in range(4)]
    )
    frame = imported("wide", path, "--models", "m", "--task", "years")
    assert set(frame["model"]) == {"m"}
    assert set(frame["task"]) == {"years"}
    assert "scores.jsonl: columns not used: year, note" in frame.attrs["output"]


def test_queries_without_an_id_are_called_by_their_prompt(imported, tmp_path):
    frames = []
    for order in (["p", "q"], ["q", "p"]):
        pd.DataFrame({"prompt": order, "m": [1, 1]}).to_parquet(tmp_path / "t.parquet")
        frames.append(imported("wide", tmp_path / "t.parquet").set_index("prompt")["query_id"].to_dict())
    assert frames[0] == frames[1]
    assert len(set(frames[0].values())) == 2


def test_the_index_that_pandas_writes_is_no_model(imported, tmp_path):
    pd.DataFrame({"prompt": list("abc"), "m": [0.0, 0.5, 1.0]}).to_csv(tmp_path / "t.csv")
    assert set(imported("wide", tmp_path / "t.csv")["model"]) == {"m"}


CELLS = st.one_of(st.none(), st.floats(0, 1).map(lambda value: round(value, 6)), st.sampled_from([0.0, 1.0]))
NAMES = st.text("abz/-:. é", min_size=1, max_size=8).filter(lambda name: name.strip() and name == name.strip())
RESERVED = {"prompt", "task", "query_id", "split", "gold"}


@st.composite
def tables(draw):
    models = draw(st.lists(NAMES.filter(lambda name: name not in RESERVED), min_size=1, max_size=4, unique=True))
    prompts = draw(
        st.lists(st.text("abc ,\"'\n[é中", min_size=1, max_size=9).filter(str.strip), min_size=1, unique=True)
    )
    frame = pd.DataFrame({"prompt": prompts}, dtype=object)
    for model in models:
        frame[model] = pd.Series(draw(st.lists(CELLS, min_size=len(prompts), max_size=len(prompts))), dtype=object)
    return frame, models


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables(), seed=st.integers(0, 99), form=st.sampled_from(["csv", "parquet", "jsonl"]))
def test_scores_go_through_unchanged_whatever_the_order(tmp_path, table, seed, form):
    frame, models = table
    rng = np.random.default_rng(seed)
    shuffled = frame.iloc[rng.permutation(len(frame)), rng.permutation(frame.shape[1])]
    written = []
    for number, each in enumerate((frame, shuffled)):
        folder = tmp_path / str(number)
        folder.mkdir(exist_ok=True)
        path, out = folder / f"table.{form}", folder / "out.parquet"
        if form == "csv":
            each.to_csv(path, index=False)
        elif form == "parquet":
            each.astype(dict.fromkeys(models, float)).to_parquet(path, index=False)
        else:
            each.to_json(path, orient="records", lines=True, double_precision=15)
        if frame[models].isna().all(axis=None):
            return
        import_outcomes("wide", [path], out, Options(models=tuple(models)))
        written.append(pd.read_parquet(out))
    pd.testing.assert_frame_equal(*written)
    found = {(row.prompt, row.model): row.score for row in written[0].itertuples()}
    cells = {(row["prompt"], model): row[model] for _, row in frame.iterrows() for model in models}
    assert found == {place: score for place, score in cells.items() if not pd.isna(score)}
    assert len(written[0]) == frame[models].notna().sum(axis=None)


def test_identical_rows_are_dropped_and_counted(imported, tmp_path):
    pd.DataFrame({"prompt": ["p", "q", "p"], "m": [1, 0, 1]}).to_csv(tmp_path / "t.csv", index=False)
    frame = imported("wide", tmp_path / "t.csv")
    assert len(frame) == 2
    assert "1 row dropped that repeat another one" in frame.attrs["output"]


def test_files_merge(imported, tmp_path):
    pd.DataFrame({"prompt": ["p", "q"], "task": ["t", "t"], "m": [1, 0]}).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame({"prompt": ["p", "q"], "task": ["t", "t"], "n": [1, 0]}).to_csv(tmp_path / "b.csv", index=False)
    frame = imported("wide", tmp_path / "a.csv", tmp_path / "b.csv")
    assert frame.groupby("query_id")["model"].apply(sorted).tolist() == [["m", "n"]] * 2


def test_where_the_rows_come_from_is_kept(imported, table, tmp_path):
    imported("wide", table)
    told = read_metadata(tmp_path / "out" / "imported.parquet")["import"]
    assert told["format"] == "wide"
    assert [file["name"] for file in told["files"]] == ["scores.csv"]
    assert len(told["files"][0]["sha256"]) == 64
    assert told["version"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "prompt,m\np,1\np,0\n",
            r"t\.csv, row 2: the outcome t \w+ m is given again, and differs from .*t\.csv, row 1",
        ),
        ("prompt,query_id,m\np,1,1\nq,1,0\n", r"row 2: the query t 1 has another prompt than in .*, row 1"),
        ("prompt,m\np,7\n", r"row 1: column m is 7, outside 0\.\.1: .*divided by 100.*--models"),
        ("prompt,m\np,1\nq,n.b.\n", r"row 2: column m is n.b., which is not a number: leave it empty"),
        ("prompt,m\np,inf\n", r"row 1: column m is inf, outside"),
        ("prompt,m\n,1\n", "row 1: prompt is empty"),
        ("question,m\np,1\n", r"t\.csv has no column prompt \(it has question, m\)"),
        ("prompt,note\np,x\n", "has no column of scores"),
        ("prompt,m,cost:n\np,1,2\n", r"has a column cost:n, but none n with the scores"),
        ("prompt,model,cost:modle\np,1,2\n", r"did you mean model\?"),
        ("prompt,m,cost:m\np,1,-2\n", "row 1: cost:m is -2, which is impossible"),
        ("prompt,m,prompt_tokens:m\np,1,2.5\n", "row 1: prompt_tokens:m is 2.5, which is not a count"),
        ("prompt,m,m\np,1,1\n", "column m is there 2 times"),
        ("prompt,m\np,1,2\n", "row 1 has 3 fields, the header 2"),
        ('prompt,m\n"p,1\n', "cannot be read"),
        ("prompt,m\n", "holds no rows"),
        ("prompt,a|b\np,1\n", r'the model a\|b holds "\|"'),
        ("prompt,split,m\np,train,1\nq,,1\n", "row 2: split is empty"),
        ("prompt,m\np,\n", "has no column of scores"),
        ("", r"is empty \(0 bytes\)"),
    ],
)
def test_what_cannot_be_right_is_refused_by_its_place(refused, tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content, encoding="utf-8")
    assert re.search(message, refused("wide", tmp_path / "t.csv"))


def test_what_is_not_a_table_is_refused(refused, tmp_path):
    (tmp_path / "t.txt").write_text("prompt,m\np,1\n")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "t.jsonl").write_text('{"prompt": "p", "m": 1}\n{"prompt": "q"')
    (tmp_path / "latin.csv").write_bytes("prompt,m\né,1\n".encode("latin-1"))
    (tmp_path / "void").mkdir()
    assert "t.txt is none of .parquet, .csv" in refused("wide", tmp_path / "t.txt")
    assert "t.parquet cannot be read" in refused("wide", tmp_path / "t.parquet")
    assert "t.jsonl, line 2 is not one JSON object" in refused("wide", tmp_path / "t.jsonl")
    assert "latin.csv is not UTF-8 text" in refused("wide", tmp_path / "latin.csv")
    assert "void holds no file that ends in" in refused("wide", tmp_path / "void")
    assert "none.csv does not exist" in refused("wide", tmp_path / "none.csv")


def test_options_that_do_not_fit_are_refused(refused, table):
    assert refused("wide", table, "--metric", "acc") == "--metric is for lm-eval: leave it out for wide"
    assert "has a column task: leave --task out" in refused("wide", table, "--task", "t")
    assert "no column smal (did you mean small?)" in refused("wide", table, "--models", "smal")
    table.write_text("prompt,m\np,\n")
    assert "there is no outcome to write" in refused("wide", table, "--models", "m")
    assert "is not a name" in refused("wide", table, "--strategy", "a|b")


def test_many_files_are_one_note(imported, tmp_path):
    (tmp_path / "tables").mkdir()
    for number in range(58):
        extra = ",year\n" if number % 2 else "\n"
        end = ",\n" if number % 2 else "\n"
        path = tmp_path / "tables" / f"task{number:02}.csv"
        path.write_text(f"prompt,m1,m2{extra}q{number},1,0{end}p{number},0,{end}")
    (tmp_path / "tables" / "meta.json").write_text("{}")
    frame = imported("wide", tmp_path / "tables")
    assert frame["task"].nunique() == 58
    output = frame.attrs["output"]
    own = [line for line in output.splitlines() if "name no task" in line or "every column" in line or "used" in line]
    assert own == [
        "Note: 58 files: task00.csv, task01.csv, task02.csv and 55 more name no task: each is one, called like its "
        "file (--task NAME); models are every column with a number: m1, m2; columns not used: year (they differ "
        "between the files); 58 cells without a score: taken as missing outcomes"
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.tsv", "prompt\tm1\tm2\na, b\t1\tNA\nc\t0\tTrue\n"),
        ("t.csv", "prompt;m1;m2\na, b;1;NULL\nc;0;true\n"),
        ("t.ndjson", '{"prompt": "a, b", "m1": 1, "m2": "None"}\n{"prompt": "c", "m1": false, "m2": true}\n'),
        ("t.json", '[{"prompt": "a, b", "m1": 1, "m2": "NA"}, {"prompt": "c", "m1": 0, "m2": 1}]'),
    ],
)
def test_other_forms_of_a_table(imported, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    frame = imported("wide", tmp_path / name)
    found = {(row.prompt, row.model): row.score for row in frame.itertuples()}
    assert found == {("a, b", "m1"): 1.0, ("c", "m1"): 0.0, ("c", "m2"): 1.0}


def test_a_compressed_table(imported, tmp_path):
    import pyarrow as pa

    packed = pa.compress(b"prompt,m1\na,1\nb,0\n", codec="zstd", asbytes=True)
    (tmp_path / "t.csv.zst").write_bytes(packed)
    assert imported("wide", tmp_path / "t.csv.zst")["score"].tolist() == [1.0, 0.0]


def test_another_scale_of_scores(imported, refused, tmp_path):
    (tmp_path / "t.csv").write_text("prompt,m1,m2\na,1,5\nb,3,2\n")
    frame = imported("wide", tmp_path / "t.csv", "--score-range", "1,5")
    assert sorted(frame["score"]) == [0.0, 0.25, 0.5, 1.0]
    assert "scores from 1 to 5 are written as 0 to 1" in frame.attrs["output"]
    assert "outside 1..4" in refused("wide", tmp_path / "t.csv", "--score-range", "1,4")
    assert "highest possible score" in refused("wide", tmp_path / "t.csv", "--score-range", "5,1")
    assert "--score-range is for routerbench, llmrouter, llmrouterbench, wide, long" in refused(
        "lm-eval", tmp_path, "--score-range", "1,5"
    )
