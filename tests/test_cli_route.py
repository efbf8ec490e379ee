"""`route` and `load_router`: a trained router asked about questions, one by one and a file at a time."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from small_log import small_log, write_small_log

from recal_bench import PluginError, SettingsError, load_bench, load_router, route, run
from recal_bench.cli import cli
from recal_bench.experiments.bench import queries_of

ROUTERS = ("ridge", "logistic", "random", "best-single", "arm:codex-iuris|cot")
PREDICT = ("ridge",)


def invoke(*words, stdin=None):
    return CliRunner().invoke(cli, [str(word) for word in words], input=stdin)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return load_bench(write_small_log(tmp_path_factory.mktemp("route") / "log.parquet"))


@pytest.fixture(scope="module")
def runs(bench, tmp_path_factory):
    found = run(bench, list(ROUTERS), runs=tmp_path_factory.mktemp("runs"))
    return {each.record.configuration.router: each for each in found}


@pytest.fixture(scope="module")
def prompts():
    log = small_log(queries=700, seed=3)
    return list(log.drop_duplicates("query_id")["prompt"])


@pytest.mark.parametrize("name", ROUTERS)
def test_the_first_of_the_ranking_is_what_the_run_decided(bench, runs, name):
    decided, queries = runs[name].decisions(), queries_of(bench.splits.test)
    advice = load_router(runs[name]).route(queries.prompt, queries.query_id)
    assert [str(each.arm) for each in advice] == list(decided.loc[decided["split"] == "test", "arm"])
    for each in advice:
        assert sorted(other.arm for other in each.ranking) == sorted(bench.splits.test.arms)
        assert each.ranking[0] == (each.arm, each.score, each.cost)
        assert each.predicted == (name in PREDICT)


def test_what_predicts_is_ranked_by_the_utility_of_its_predictions(runs, prompts):
    data = runs["ridge"].record.configuration.data
    for advice in load_router(runs["ridge"]).route(prompts[:50]):
        utility = [each.score - data.alpha * each.cost / data.cost_ref for each in advice.ranking]
        assert utility == sorted(utility, reverse=True)


def test_a_loaded_router_reads_nothing_more_from_its_folder(runs, tmp_path, prompts):
    shutil.copytree(runs["ridge"].folder.parent, tmp_path / "runs")
    router = load_router(tmp_path / "runs" / runs["ridge"].folder.name)
    shutil.rmtree(tmp_path / "runs")
    assert router.route(prompts[:20]) == route(runs["ridge"], prompts[:20])
    one_by_one = [router.route([prompt])[0] for prompt in prompts[:20]]
    assert [each.arm for each in one_by_one] == [each.arm for each in router.route(prompts[:20])]


def test_an_empty_question_is_refused(runs):
    with pytest.raises(SettingsError, match="question 2 of 3 is empty"):
        load_router(runs["ridge"]).route(["which river?", " \n", "which court?"])
    assert load_router(runs["ridge"]).route([]) == []
    refused = invoke("route", "--run", runs["ridge"].folder, "")
    assert refused.exit_code == 2
    assert "question 1 of 1 is empty" in refused.output


def test_a_router_that_needs_answers_says_so(runs, tmp_path):
    responses = small_log().assign(response="Answer: x")
    responses.to_parquet(tmp_path / "log.parquet", index=False)
    found = run(load_bench(tmp_path / "log.parquet", responses=True), "frugal-gpt", runs=tmp_path / "runs")
    (cascade,) = (each for each in found if each.record.configuration.router == "frugal-gpt")
    with pytest.raises(PluginError, match="asks arms before it decides"):
        load_router(cascade).route(["which river?"])


def test_ranked_arms_are_printed_as_text_and_as_json(runs):
    for name in ("ridge", "logistic"):
        folder, questions = runs[name].folder, ("which river?", "which court?")
        text = invoke("route", "--run", folder, *questions).output
        found = json.loads(invoke("route", "--run", folder, "--format", "json", *questions).output)
        assert [each["question"] for each in found] == list(questions)
        for each in found:
            assert each["arm"] == each["ranking"][0]["arm"]
            assert f"1. {each['arm']}  " in text
            for arm in each["ranking"]:
                assert (arm["expected_score"] is not None) == (name in PREDICT) == ("train_score" not in arm)
        assert ("predicts nothing" in text) == (name not in PREDICT)


@pytest.mark.parametrize("source", ["questions.parquet", "questions.csv", "questions.jsonl", "questions.jsonl.gz"])
@pytest.mark.parametrize("out", ["decisions.parquet", "decisions.csv", "decisions.jsonl"])
def test_a_file_is_routed_as_its_questions_are(runs, tmp_path, prompts, source, out):
    rows = 1_234
    frame = pd.DataFrame(
        {"query_id": [f"id {n}" for n in range(rows)], "prompt": [prompts[n % 700] for n in range(rows)]}
    )
    written = {"parquet": frame.to_parquet, "csv": frame.to_csv}.get(source.rpartition(".")[2])
    if written:
        written(tmp_path / source, index=False)
    else:
        frame.to_json(tmp_path / source, orient="records", lines=True)
    done = invoke("route", "--run", runs["ridge"].folder, "--in", tmp_path / source, "--out", tmp_path / out)
    assert done.exit_code == 0, done.output
    assert "1,234 questions routed" in done.output
    read = {"parquet": pd.read_parquet, "csv": pd.read_csv, "jsonl": lambda path: pd.read_json(path, lines=True)}
    decided = read[out.rpartition(".")[2]](tmp_path / out)
    expected = load_router(runs["ridge"]).route(list(frame["prompt"]))
    assert list(decided["query_id"]) == list(frame["query_id"])
    assert list(decided["arm"]) == [str(each.arm) for each in expected]
    assert list(decided["model"] + "|" + decided["strategy"]) == list(decided["arm"])
    np.testing.assert_allclose(decided["expected_score"], [each.score for each in expected], rtol=1e-5)
    np.testing.assert_allclose(decided["expected_cost_usd"], [each.cost for each in expected], rtol=1e-5)
    ranked = [json.loads(each) for each in decided["ranking"]] if out.endswith("csv") else decided["ranking"]
    assert [list(each) for each in ranked] == [[str(arm.arm) for arm in each.ranking] for each in expected]


def test_a_pipe_is_routed_line_by_line(runs):
    lines = "".join(json.dumps({"prompt": f"river {n}"}) + "\n" for n in range(3))
    done = invoke("route", "--run", runs["logistic"].folder, "--in", "-", "--out", "-", stdin=lines)
    found = [json.loads(line) for line in done.output.splitlines()]
    assert [each["query_id"] for each in found] == ["1", "2", "3"]
    assert {each["expected_score"] for each in found} == {None}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": ""}', "line 1,500: prompt is empty"),
        ('{"prompt": 7}', "line 1,500: prompt is empty or not text"),
        ('{"question": "which?"}', "line 1,500 has no prompt (it has question): rename question"),
        ("which river?", "line 1,500 is not one JSON object"),
    ],
)
def test_a_bad_row_is_named_and_leaves_the_old_file(runs, tmp_path, line, reason):
    good = [json.dumps({"prompt": f"river {n}"}) for n in range(1_600)]
    good[1_499] = line
    (tmp_path / "questions.jsonl").write_text("\n".join(good))
    (tmp_path / "decisions.csv").write_text("the old one")
    words = ("route", "--run", runs["ridge"].folder, "--in", tmp_path / "questions.jsonl", "--out")
    done = invoke(*words, tmp_path / "decisions.csv")
    assert done.exit_code == 2
    assert reason in done.output
    assert (tmp_path / "decisions.csv").read_text() == "the old one"
    assert len(list(Path(tmp_path).iterdir())) == 2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--in", "QUESTIONS", "--out", "decisions.txt"), "name it .parquet, .csv or .jsonl"),
        (("--in", "QUESTIONS", "--out", "QUESTIONS"), "is the file of the questions"),
        (("--in", "QUESTIONS"), "--in and --out go together"),
        ((), "give questions, or a file of them"),
        (("--in", "nowhere.csv", "--out", "decisions.csv"), "No such file"),
        (("--in", "-", "--out", "decisions.csv"), "standard input is empty"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_routed(runs, tmp_path, monkeypatch, words, reason):
    monkeypatch.chdir(tmp_path)
    Path("questions.jsonl").write_text('{"prompt": "which river?"}\n')
    given = [each.replace("QUESTIONS", "questions.jsonl") for each in words]
    done = invoke("route", "--run", runs["ridge"].folder, *given, stdin="")
    assert done.exit_code == 2
    assert reason in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["questions.jsonl"]
