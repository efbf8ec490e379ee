import csv
import gzip
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recal_bench import table_files
from recal_bench.errors import RecalBenchError, SettingsError
from recal_bench.experiments.bench import load_bench
from recal_bench.importers.rows import Row
from recal_bench.outcomes import Arm
from recal_bench.outcomes.files import FileReport, check_file, read_outcomes
from recal_bench.outcomes.reading import Reading
from recal_bench.outcomes.schema import FIELDS, NAMES

EXTENSIONS = ["parquet", "csv", "tsv", "jsonl", "ndjson", "json", "csv.gz", "jsonl.gz", "json.zst", "csv.zst"]
QUIET = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rows(n_queries=4, **changes):
    """A complete file: two arms, train and test, cost known."""
    return [
        {
            "task": "nq",
            "query_id": f"q{query}",
            "prompt": f"question {query}?",
            "model": model,
            "strategy": "cot",
            "score": float((query + len(model)) % 2),
            "cost_usd": 0.25 * len(model),
            "split": "test" if query % 2 else "train",
            **changes,
        }
        for query in range(n_queries)
        for model in ("gpt", "qwen")
    ]


def write(path: Path, records) -> Path:
    kind = path.name.partition(".")[2]
    if kind == "parquet":
        pd.DataFrame(records).to_parquet(path)
        return path
    text = io.StringIO()
    if kind.startswith(("csv", "tsv")):
        separator = "\t" if kind.startswith("tsv") else ","
        writer = csv.DictWriter(text, list(records[0]), lineterminator="\n", delimiter=separator, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(records)
    elif kind.startswith("json") and not kind.startswith("jsonl"):
        json.dump(records, text)
    else:
        text.writelines(json.dumps(each) + "\n" for each in records)
    path.write_bytes(compressed(text.getvalue().encode(), kind))
    return path


def compressed(content: bytes, kind: str) -> bytes:
    if kind.endswith("zst"):
        return pa.compress(content, codec="zstd", asbytes=True)
    return gzip.compress(content, mtime=0) if kind.endswith("gz") else content


def problems(path: Path) -> tuple[str, ...]:
    """What is wrong with a file, each in one line; the error says the first."""
    report = check_file(path)
    assert report.outcomes is None
    assert_plain(report)
    with pytest.raises(RecalBenchError) as caught:
        read_outcomes(path)
    more = f" (and {len(report.problems) - 1} more: `recal-bench validate {path}` lists all)"
    assert str(caught.value) == f"{path}: {report.problems[0]}" + (more if len(report.problems) > 1 else "")
    return report.problems


def problems_of(tmp_path: Path, records, kind="jsonl") -> tuple[str, ...]:
    return problems(write(tmp_path / f"log.{kind}", records))


def changed(row: int, **values):
    records = rows()
    records[row] |= values
    return records


def assert_plain(report: FileReport) -> None:
    assert (report.outcomes is None) == bool(report.problems)
    for line in (*report.problems, *report.notes, *report.summary):
        assert line.isprintable()


@pytest.mark.parametrize("kind", EXTENSIONS)
def test_every_format_gives_the_same_dense_view(tmp_path, kind):
    outcomes = read_outcomes(write(tmp_path / f"log.{kind}", rows()))
    assert outcomes.name == "log"
    assert outcomes.arms == (Arm("gpt", "cot"), Arm("qwen", "cot"))
    assert list(outcomes.split_Q) == ["test", "test", "train", "train"]
    assert list(outcomes.query_id_Q) == ["q1", "q3", "q0", "q2"]
    assert outcomes.prompt_Q[0] == "question 1?"
    np.testing.assert_array_equal(outcomes.score_QA, [[0, 1], [0, 1], [1, 0], [1, 0]])
    np.testing.assert_array_equal(outcomes.cost_QA, np.tile([0.75, 1.0], (4, 1)))
    assert not outcomes.simulated
    assert outcomes.data_hash == read_outcomes(write(tmp_path / "other.parquet", rows())).data_hash


def test_the_same_query_id_may_stand_in_two_tasks_and_two_splits(tmp_path):
    records = rows() + rows(split="ood", prompt="another?") + rows(task="popqa")
    outcomes = read_outcomes(write(tmp_path / "log.parquet", records))
    assert list(zip(outcomes.split_Q, outcomes.task_Q, strict=True))[:4] == [("ood", "nq")] * 4
    assert len(outcomes) == 12


def test_whole_numbers_are_names_too(tmp_path):
    records = [each | {"query_id": int(each["query_id"][1:])} for each in rows()]
    hashes = {read_outcomes(write(tmp_path / f"log.{kind}", records)).data_hash for kind in ("parquet", "csv", "jsonl")}
    assert len(hashes) == 1


def test_the_widest_types_of_parquet_are_read(tmp_path):
    table = pa.Table.from_pylist(rows(sample=1))
    table = table.set_column(3, "model", table["model"].dictionary_encode())
    table = table.set_column(5, "score", table["score"].cast(pa.decimal128(4, 2)))
    table = table.set_column(2, "prompt", table["prompt"].cast(pa.large_string()))
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=3)
    plain = read_outcomes(write(tmp_path / "plain.parquet", rows()))
    assert read_outcomes(tmp_path / "log.parquet").data_hash == plain.data_hash


def test_csv_fields_may_hold_commas_quotes_line_breaks_and_long_responses(tmp_path):
    prompt = 'a, "b"\nc\r\nd'
    records = rows(prompt=prompt, response="x" * 200_000)
    path = write(tmp_path / "log.csv", records)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\n")
    assert set(read_outcomes(path).prompt_Q) == {prompt}


def test_repeated_draws_are_averaged_in_any_order(tmp_path):
    draws = [each | {"sample": k, "score": s} for each in rows() for k, s in enumerate((0.1, 0.7, 0.3, 1.0))]
    draws[0]["cost_usd"] = None
    report = check_file(write(tmp_path / "log.jsonl", draws))
    assert report.outcomes is not None
    assert "8 of 8 outcomes have several draws (sample, up to 4): score and cost are means over them" in report.notes
    assert report.outcomes.notes == tuple(note for note in report.notes if "draws" in note)
    np.testing.assert_allclose(report.outcomes.score_QA, 0.525)
    # One draw of unknown cost makes the mean unknown.
    assert np.isnan(report.outcomes.cost_QA).sum() == 1
    again = read_outcomes(write(tmp_path / "again.jsonl", draws[::-1]))
    assert again.data_hash == report.outcomes.data_hash


names = st.text(st.characters(exclude_characters="|", exclude_categories=["Cs"]), min_size=1, max_size=4).filter(
    lambda text: bool(text.strip())
)


@st.composite
def records_of_any_shape(draw):
    arms = draw(st.lists(st.tuples(names, names), min_size=1, max_size=3, unique=True))
    queries = draw(st.dictionaries(st.tuples(names, names, names), names, min_size=1, max_size=4))
    score = st.floats(0, 1) | st.sampled_from([0, 1])
    cost = st.none() | st.floats(0, 10)
    columns = ("split", "task", "query_id", "prompt", "model", "strategy", "score", "cost_usd")
    found = [
        dict(zip(columns, (*query, prompt, *arm, draw(score), draw(cost)), strict=True))
        for query, prompt in queries.items()
        for arm in arms
    ]
    return draw(st.permutations(found)), found


@QUIET
@given(both=records_of_any_shape(), kind=st.sampled_from(["parquet", "csv", "jsonl"]))
def test_round_trip_and_row_order(both, kind, tmp_path):
    permuted, found = both
    free = Reading(zero_cost="free")
    first = read_outcomes(write(tmp_path / f"a.{kind}", found), reading=free)
    second = read_outcomes(write(tmp_path / f"b.{kind}", permuted), reading=free)
    assert first.data_hash == second.data_hash
    np.testing.assert_array_equal(first.score_QA, second.score_QA)
    keys = list(zip(first.split_Q, first.task_Q, first.query_id_Q, strict=True))
    assert keys == sorted(keys)
    assert list(first.arms) == sorted(first.arms)
    for each in found:
        query = keys.index((each["split"], each["task"], each["query_id"]))
        arm = first.arms.index(Arm(each["model"], each["strategy"]))
        assert first.prompt_Q[query] == each["prompt"]
        assert first.score_QA[query, arm] == each["score"]
        known = each["cost_usd"] is not None
        assert first.cost_QA[query, arm] == each["cost_usd"] if known else np.isnan(first.cost_QA[query, arm])


@QUIET
@given(content=st.binary(max_size=200), kind=st.sampled_from(EXTENSIONS), magic=st.sampled_from([b"", b"PAR1"]))
def test_arbitrary_bytes_raise_nothing_but_our_error(content, kind, magic, tmp_path):
    path = tmp_path / f"log.{kind}"
    path.write_bytes(compressed(content, kind) if magic else magic + content)
    problems(path)


@QUIET
@given(data=st.data(), kind=st.sampled_from(EXTENSIONS))
def test_a_damaged_file_raises_nothing_but_our_error(data, kind, tmp_path):
    content = bytearray(write(tmp_path / f"whole.{kind}", rows()).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"log.{kind}"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    assert_plain(check_file(path))


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)


@QUIET
@given(value=json_values, column=st.sampled_from(sorted(rows(sample=0, propensity=1.0)[0])), row=st.integers(0, 7))
def test_any_value_in_any_column_raises_nothing_but_our_error(value, column, row, tmp_path):
    assert_plain(check_file(write(tmp_path / "log.jsonl", changed(row, **{column: value}))))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("log.csv", b"", "the file is empty (0 bytes)"),
        (
            "log.txt",
            b"x",
            "extensions that are read: .parquet, .csv, .tsv, .jsonl, .ndjson, .json; all but .parquet also with .gz or",
        ),
        ("log.parquet", b"task,query_id\n", "is not a parquet file, but is named .parquet"),
        ("log.csv", b"PAR1xxxx", "is a parquet file, but is named .csv"),
        ("log.csv", gzip.compress(b"a", mtime=0), "is gzip-compressed, but is named .csv"),
        ("log.csv.gz", b"task", "is not gzip-compressed, but is named .csv.gz"),
        (
            "log.csv.gz",
            gzip.compress(b"task,model" * 99, mtime=0)[:-9],
            "cannot be read, it is damaged or cut off: EOFError",
        ),
        ("log.parquet", b"PAR1" * 9, "cannot be read, it is damaged or cut off"),
        ("log.csv", "task,prompt\né,é".encode("latin-1"), "is not UTF-8 text: save it as UTF-8"),
        ("log.jsonl", "{}".encode("utf-16"), "is not UTF-8 text: save it as UTF-8"),
        ("log.jsonl", b"[1]\n\n{oops\n", "not one JSON object a line: 2 lines (first: line 1)"),
        ("log.jsonl", b"[" * 100_000, "not one JSON object a line: 1 line (first: line 1)"),
        ("log.csv", b"\n", "query_id, prompt, model, strategy and score are missing (it has none)"),
        ("log.csv", b"task,query_id,prompt,model,strategy,score\n", "the file holds no rows"),
        ("log.csv", b"task;query_id;prompt;model;strategy;score\n", "the file holds no rows"),
        ("log.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS"),
        ("log.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS"),
        ("log.csv", b"\x28\xb5\x2f\xfd", "is zstd-compressed, but is named .csv"),
        ("log.json", b"{}", "it holds no JSON list of objects"),
        ("log.json", b'{"a": 1}\n{"a": 2}', "JSON with one object a line is named .jsonl"),
        ("log.json", b"[1, {}]", "not one JSON object an entry: 1 entry (first: entry 1)"),
    ],
)
def test_files_that_are_no_outcomes_files(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    assert said in problems(tmp_path / name)[0]


def test_a_folder_a_missing_file_and_a_pipe(tmp_path):
    (tmp_path / "log.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    assert problems(tmp_path / "log.csv") == ("the file is a folder: give one outcomes file",)
    assert problems(tmp_path / "none.csv") == ("the file does not exist: check the path",)
    assert problems(tmp_path / "pipe.csv") == ("the file is not a regular file: save it as one first",)
    assert "File name too long" in problems(tmp_path / ("x" * 300 + ".csv"))[0]


def test_a_truncated_parquet(tmp_path):
    path = write(tmp_path / "log.parquet", rows())
    path.write_bytes(path.read_bytes()[:-20])
    assert "cannot be read, it is damaged or cut off" in problems(path)[0]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"score": 1.5}, "score is outside 0..1 in 1 of 8 rows (first: row 3: 1.5)"),
        ({"score": -1.0}, "score is outside 0..1 in 1 of 8 rows (first: row 3: -1.0)"),
        ({"score": float("inf")}, "score is infinite in 1 of 8 rows (first: row 3: inf)"),
        ({"cost_usd": -0.5}, "cost_usd is outside 0..1,000,000 in 1 of 8 rows (first: row 3: -0.5)"),
        ({"cost_usd": float("inf")}, "cost_usd is infinite in 1 of 8 rows (first: row 3: inf)"),
        ({"model": ""}, "model is empty in 1 of 8 rows (first: row 3)"),
        ({"strategy": None}, "strategy is empty in 1 of 8 rows (first: row 3)"),
        ({"task": None}, "task is empty in 1 of 8 rows (first: row 3)"),
        ({"split": None}, "split is empty in 1 of 8 rows (first: row 3)"),
        ({"prompt": ""}, "prompt is empty in 1 of 8 rows (first: row 3)"),
    ],
)
def test_bad_values_in_every_format(tmp_path, kind, values, said):
    assert said in problems_of(tmp_path, changed(2, **values), kind)[0].replace(": )", ")")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"score": "good"}, "score is not a number in 1 of 8 rows (first: row 3: good)"),
        ({"cost_usd": True}, "cost_usd is not a number in 1 of 8 rows (first: row 3: True)"),
        ({"score": [1]}, "score is not a number in 1 of 8 rows (first: row 3: [1])"),
        ({"score": 10**400}, "score is infinite in 1 of 8 rows"),
        ({"cost_usd": "cheap"}, "cost_usd is not a number in 1 of 8 rows (first: row 3: cheap)"),
        ({"query_id": 1.5}, "query_id is not text (float) in 1 of 8 rows (first: row 3: 1.5)"),
        ({"task": ["nq"]}, "task is not text (list) in 1 of 8 rows (first: row 3: ['nq'])"),
        ({"model": "a\ud800"}, "model is not valid Unicode in 1 of 8 rows (first: row 3: 'a\\ud800')"),
        ({"model": "a|b"}, 'model holds "|", which separates model and strategy in the name of an arm, in 1 of 8'),
        ({"strategy": "a|b"}, 'strategy holds "|"'),
    ],
)
def test_bad_values(tmp_path, values, said):
    assert said in problems_of(tmp_path, changed(2, **values))[0]


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        ("csv", {"score": "good"}, "score is not a number in 8 of 8 rows (first: row 1: good)"),
        ("csv", {"score": "1_0"}, "score is not a number in 8 of 8 rows (first: row 1: 1_0)"),
        ("parquet", {"score": "1.0"}, "score is not a number in 8 of 8 rows (first: row 1: 1.0)"),
        ("parquet", {"score": [1.0]}, "score is not a number in 8 of 8 rows (first: row 1: [1.0])"),
        (
            "parquet",
            {"prompt": {"text": "?"}},
            "prompt is not text (dict) in 8 of 8 rows (first: row 1: {'text': '?'})",
        ),
        ("parquet", {"model": b"gpt"}, "model is not text (bytes) in 8 of 8 rows (first: row 1: b'gpt')"),
    ],
)
def test_columns_of_the_wrong_type(tmp_path, kind, values, said):
    assert said in problems_of(tmp_path, rows(**values), kind)


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_a_column_of_nulls_is_no_cost_and_no_split(tmp_path, kind):
    outcomes = read_outcomes(write(tmp_path / f"log.{kind}", rows(cost_usd=None, split=None)))
    assert np.isnan(outcomes.cost_QA).all()
    assert set(outcomes.split_Q) == {""}


def test_a_repeated_outcome(tmp_path):
    said = "(first: row 9 repeats row 2: nq q0 qwen cot): keep one, or"
    assert said in problems_of(tmp_path, [*rows(), rows()[1]])[0]
    (line,) = problems_of(tmp_path, [*rows(sample=1), *rows(sample=2), *rows(sample=2)[:2]])
    assert line.startswith("an outcome is given again in 2 rows (first: row 17 repeats row 9: nq q0 gpt cot)")


def test_a_query_with_two_prompts(tmp_path):
    (line,) = problems_of(tmp_path, changed(2, prompt="another?"))
    assert line.startswith("more than one prompt in 1 query (first: nq q1, rows 3 and 4)")


def test_a_column_that_is_there_twice(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("task,query_id,prompt,model,strategy,score,score\nnq,1,who?,gpt,cot,1,1\n")
    assert "column score is there 2 times: keep one of them" in problems(path)
    table = pa.Table.from_pylist(rows())
    pq.write_table(table.append_column("score", table["score"]), tmp_path / "log.parquet")
    assert "column score is there 2 times: keep one of them" in problems(tmp_path / "log.parquet")


def test_csv_rows_of_other_lengths(tmp_path):
    path = write(tmp_path / "log.csv", rows())
    path.write_text(path.read_text() + "a,b\n\n" + path.read_text().splitlines()[1] + ",c\n")
    lines = problems(path)
    assert lines[0].startswith("more or fewer fields than the header in 2 rows (first: row 9 with 2 of 8)")


def test_all_problems_come_at_once(tmp_path):
    records = changed(0, score=2, model="", cost_usd=-1) + rows()[3:5]
    records[6] |= {"prompt": "another?", "score": float("nan")}
    lines = problems_of(tmp_path, records)
    found = [line.partition(" (first")[0] for line in lines]
    assert found == [
        "model is empty in 1 of 10 rows",
        "score is outside 0..1 in 1 of 10 rows",
        "cost_usd is outside 0..1,000,000 in 1 of 10 rows",
        "an outcome is given again in 2 rows",
        "more than one prompt in 1 query",
    ]


def test_missing_columns_do_not_hide_other_problems(tmp_path):
    records = [{key: value for key, value in each.items() if key != "query_id"} for each in rows(score=3)]
    assert problems_of(tmp_path, records) == (
        "query_id is missing from the columns (it has task, prompt, model, strategy, score, cost_usd, split)",
        "score is outside 0..1 in 8 of 8 rows (first: row 1: 3): --score-range LO,HI names the ends of another scale, "
        "as in 1,5 or 0,100",
    )


def test_questions_without_outcomes(tmp_path):
    records = [{"task": "nq", "query_id": "1", "prompt": "who?", "gold": '["x"]'}]
    (line,) = problems_of(tmp_path, records)
    assert line.startswith(
        "the file holds no outcomes: model, strategy and score are missing (it has task, query_id, prompt, gold)"
    )


def test_a_log_of_single_choices_without_propensities_is_refused(tmp_path):
    logged = rows(n_queries=10)[::2]
    logged[0]["model"] = "qwen"
    (line,) = problems_of(tmp_path, logged)
    assert line.startswith("the file is a log of single choices (100% of 10 queries show 1 of 2 arms)")
    assert "off-policy" in line


def test_a_complete_file_with_propensities_is_no_log(tmp_path):
    assert check_file(write(tmp_path / "log.jsonl", rows(propensity=0.5))).problems == ()


def test_a_file_too_sparse_to_hold(tmp_path):
    n = 6_000
    records = [
        {**rows()[0], "query_id": str(query), "prompt": "?", "model": str(model)}
        for query in range(n)
        for model in (2 * query, 2 * query + 1)
    ]
    assert "6,000 queries x 12,000 arms are more than the 50,000,000" in problems_of(tmp_path, records, "parquet")[0]


def test_a_clean_file_has_a_summary_and_few_notes(tmp_path):
    records = rows() + rows(n_queries=1, split="validation", prompt="third?")
    report = check_file(write(tmp_path / "log.parquet", records))
    assert report.problems == report.notes == ()
    assert report.summary == (
        "rows: 10",
        "queries: 5",
        "arms: 2",
        "tasks: nq (5)",
        "splits: test (2), train (2), validation (1)",
        "observed: 100% of 10 outcomes",
        "cost known: 100% of the rows",
    )


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (rows(cost_usd=None), "no cost is known: the utility is the score"),
        (changed(0, cost_usd=None), "the cost of 1 of 8 outcomes (12%) is unknown"),
        (rows()[1:], "1 of 8 outcomes (12%) are missing: 1 of 4 queries without some arm; `run` needs --missing"),
        (
            rows(extra=1, more=2),
            "columns that are not read: extra, more (routers may still ask for",
        ),
        (rows(split=None), "no split: `run` makes train, validation and test"),
        (rows(), "no validation split among test, train: `run` takes it from train"),
        (changed(0, score=0.25), "scores between 0 and 1: 1 of 8 (12%)"),
        (changed(0, score=0.25)[::2], "there is only one arm (gpt|cot): every router chooses it"),
        (rows(prompt="x" * 10_001), "prompts longer than 10,000 characters: 4 (the longest has 10,001)"),
    ],
)
def test_notes(tmp_path, records, said):
    report = check_file(write(tmp_path / "log.jsonl", records))
    assert_plain(report)
    assert report.problems == ()
    assert any(note.startswith(said) for note in report.notes), report.notes


def test_columns_of_the_schema_are_not_named_as_unread(tmp_path):
    known = {name: 1 for name in NAMES if name not in rows()[0]}
    assert {"usage", "served_model", "cached_tokens", "finish_reason", "asked_at"} < set(known)
    report = check_file(write(tmp_path / "log.csv", rows(**known)))
    assert report.problems == ()
    assert not any("not read" in note for note in report.notes)


def test_the_documentation_shows_every_column_as_the_schema_has_it():
    text = (Path(__file__).parents[2] / "docs" / "outcomes.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| `(\w+)` \| (\w+) \| (yes|no) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    assert shown == [
        (each.name, each.type, "yes" if each.required else "no", each.meaning, each.reader.value) for each in FIELDS
    ]


def test_the_importers_write_columns_of_the_schema():
    assert set(Row._fields) - {"where"} <= set(NAMES)


def test_a_dev_split_is_a_validation_split(tmp_path):
    report = check_file(write(tmp_path / "log.csv", rows() + rows(split="dev")))
    assert not any("validation" in note for note in report.notes)


def test_the_logs_of_real_models(data_folder):
    shapes = {
        path.stem: report.outcomes.score_QA.shape
        for path in sorted(data_folder.glob("*.parquet"))
        if (report := check_file(path)).outcomes is not None
    }
    assert shapes == {
        "bamboogle_model_x_strategy": (125, 49),
        "llmrouter_default14": (6_108, 9),
        "mmlu_pro": (12_002, 28),
        "mot_gpt4_strategies": (6_479, 4),
        "routerdc_7llm": (20_600, 7),
        "routerr1_pool_nq500": (500, 6),
        "thoughtsource_model_x_strategy": (1_772, 71),
        "zeroeval_crux_gsm_math": (2_840, 30),
    }
    (line,) = check_file(data_folder / "qa7_questions_gold.parquet").problems
    assert line.startswith("the file holds no outcomes: model, strategy and score are missing (it has task, query_id")


def test_scores_may_be_true_and_false(tmp_path):
    whole = read_outcomes(write(tmp_path / "log.jsonl", rows()))
    for kind in ("jsonl", "json", "csv", "parquet"):
        records = [each | {"score": bool(each["score"])} for each in rows()]
        assert read_outcomes(write(tmp_path / f"truths.{kind}", records)).data_hash == whole.data_hash


@pytest.mark.parametrize("nothing", ["NA", "NULL", "None", "nan", " n/a ", "<NA>"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_words_for_a_number_that_is_not_known(tmp_path, kind, nothing):
    records = [each | {"cost_usd": nothing} for each in rows()]
    report = check_file(write(tmp_path / f"log.{kind}", records))
    assert report.problems == ()
    assert "no cost is known: the utility is the score" in report.notes


def test_rows_without_a_score_are_left_out_and_counted(tmp_path):
    records = changed(2, score=None)
    records[5]["score"] = float("nan")
    report = check_file(write(tmp_path / "log.jsonl", records))
    assert report.problems == ()
    assert report.outcomes.notes == ("2 of 8 rows (25%) without a score are left out: missing outcomes",)
    assert np.isnan(report.outcomes.score_QA).sum() == 2
    assert problems_of(tmp_path, rows(score=None)) == (
        "score is missing in all 8 rows: nothing can be learned from them",
    )


def test_a_file_whose_scores_leave_one_arm_a_query_is_a_log_of_single_choices(tmp_path):
    records = [each | ({"score": None} if number % 2 else {}) for number, each in enumerate(rows(n_queries=20))]
    records[0]["score"], records[1]["score"] = None, 1.0
    assert problems_of(tmp_path, records)[0].startswith("the file is a log of single choices")


def without(*names):
    return [{key: value for key, value in each.items() if key not in names} for each in rows()]


def test_no_strategy_and_no_task_are_said(tmp_path):
    report = check_file(write(tmp_path / "log.csv", without("strategy", "task")))
    assert report.outcomes.arms == (Arm("gpt", "default"), Arm("qwen", "default"))
    assert report.outcomes.tasks == ("all",)
    assert report.outcomes.notes == (
        "there is no column strategy: each arm is a model with the strategy default",
        "there is no column task: all queries are one task, all",
    )


@pytest.mark.parametrize("name", ["cost_usd ", "Cost_USD", "cost-usd", "cost usd"])
def test_a_misspelt_column_is_named_not_ignored(tmp_path, name):
    records = [each | {name: 1.0} for each in without("cost_usd")]
    assert problems_of(tmp_path, records) == (
        f"columns are misspelt, and would not be read: rename {name} to cost_usd",
    )


@pytest.mark.parametrize(
    ("name", "field"), [("cost", "cost_usd"), ("total_cost", "cost_usd"), ("cost_us", "cost_usd"), ("fold", "split")]
)
def test_a_column_that_resembles_one_is_named_in_every_table(tmp_path, name, field):
    records = [each | {name: "test"} for each in without(field)]
    report = check_file(write(tmp_path / "log.csv", records))
    assert f"column {name} is not read: rename it to {field} if that is what it holds" in report.outcomes.notes


def test_a_required_column_that_is_called_otherwise_is_named_in_the_error(tmp_path):
    names = {"query_id": "id", "prompt": "question", "model": "model_name", "score": "Score"}
    records = [{names.get(key, key): value for key, value in each.items()} for each in rows()]
    (line,) = problems_of(tmp_path, records)
    assert line.endswith(
        "rename Score to score; perhaps rename id to query_id, question to prompt and model_name to model"
    )


@given(
    low=st.floats(-1e3, 1e3),
    width=st.floats(1e-3, 1e3),
    part=st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
@QUIET
def test_any_scale_of_scores_becomes_0_to_1(low, width, part, tmp_path):
    high = low + width
    records = [each | {"score": min(low + width * p, high)} for each, p in zip(rows(2), part, strict=True)]
    found = read_outcomes(write(tmp_path / "log.jsonl", records), reading=Reading((low, high)))
    assert ((found.score_QA >= 0) & (found.score_QA <= 1)).all()
    np.testing.assert_allclose(np.sort(found.score_QA.ravel()), np.sort(part), atol=1e-6)


def test_a_scale_is_said_and_its_ends_are_kept(tmp_path):
    path = write(tmp_path / "log.jsonl", [each | {"score": 1 + 4 * each["score"]} for each in rows()])
    assert "score is outside 0..1 in 4 of 8 rows (first: row 1: 5.0): --score-range LO,HI" in problems(path)[0]
    report = check_file(path, reading=Reading((1, 5)))
    assert report.outcomes.notes == ("scores from 1 to 5 are read as 0 to 1 (--score-range 1,5)",)
    np.testing.assert_array_equal(report.outcomes.score_QA, read_outcomes(write(tmp_path / "a.csv", rows())).score_QA)
    line = check_file(path, reading=Reading((1, 4))).problems[0]
    assert line.startswith("score is outside 1..4 in 4 of 8 rows (first: row 1: 5.0)")
    with pytest.raises(SettingsError, match="give the lowest and the highest possible score"):
        Reading((5, 1))


def priced(*costs):
    """Rows whose two arms cost, on each query, what is given for both."""
    return [each | {"cost_usd": costs[number]} for number, each in enumerate(rows(len(costs) // 2))]


@pytest.mark.parametrize(
    ("costs", "rule", "expected", "said"),
    [
        ((0, 1, 0, 2), None, (0, 1, 0, 2), "the cost is always 0 for 1 of 2 arms, above 0 for others: these arms are"),
        ((0, 1, 0, 2), "unknown", (None, 1, None, 2), "these are unknown (--zero-cost unknown): gpt|cot"),
        ((0, 1, 3, 2), None, (None, 1, 3, 2), "the cost is 0 in 1 row of 1 arm with other costs: these are taken as"),
        ((0, 1, 3, 2), "free", (0, 1, 3, 2), "these are taken as free (--zero-cost free): gpt|cot"),
        ((0, 0, 0, 0), None, (0, 0, 0, 0), "the cost is always 0 for 2 of 2 arms: these arms are taken as free"),
    ],
)
def test_costs_of_zero(tmp_path, costs, rule, expected, said):
    report = check_file(write(tmp_path / "log.jsonl", priced(*costs)), reading=Reading(zero_cost=rule))
    assert any(said in note for note in report.outcomes.notes), report.outcomes.notes
    order = [2, 3, 0, 1]  # test comes before train
    np.testing.assert_array_equal(report.outcomes.cost_QA.ravel()[order], np.array(expected, dtype=float))


def test_a_file_that_is_made_to_fill_the_memory_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "PLENTY_OF_ROWS", 10_000)
    monkeypatch.setattr(table_files, "PLENTY_OF_BYTES", 100_000)
    table = pa.Table.from_pylist(rows(1)).take(pa.array([0] * 2_000_000))
    pq.write_table(table, tmp_path / "rows.parquet", compression="zstd")
    assert "declares 2,000,000 rows in" in problems(tmp_path / "rows.parquet")[0]
    long = [each | {"prompt": "x" * 5_000_000} for each in rows(1)]
    pq.write_table(pa.Table.from_pylist(long), tmp_path / "text.parquet", compression="zstd")
    assert "no table does: it is not read" in problems(tmp_path / "text.parquet")[0]
    for kind in ("jsonl.gz", "csv.zst", "json.zst"):
        assert "made to fill the memory" in problems(write(tmp_path / f"text.{kind}", long))[0]


def test_a_run_goes_on_without_the_few_queries_that_lack_a_score(tmp_path):
    records = rows(n_queries=40)
    records[6]["score"] = None
    path = write(tmp_path / "log.jsonl", records)
    bench = load_bench(path)
    assert sum(bench.data.n_queries.values()) == 39
    assert any("1 of 40 queries with an outcome without a score are left out" in note for note in bench.data.notes)
    assert all(part.observed_QA.all() for part in bench.splits.parts.values())
    assert sum(load_bench(path, missing="restrict").data.n_queries.values()) == 40
    for number in range(0, 40, 2):
        records[number]["score"] = None
    with pytest.raises(RecalBenchError, match="choose --missing restrict"):
        load_bench(write(tmp_path / "log.jsonl", records))
    with pytest.raises(RecalBenchError, match="1 of 80 outcomes"):
        load_bench(write(tmp_path / "log.jsonl", rows(n_queries=40)[1:]))
