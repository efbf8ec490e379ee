"""`recal-bench drift` and `drift` in Python: logs with and without drift, and logs that cannot be used."""

import json
import shutil
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from small_log import small_log

from recal_bench import Decisions, RunError, drift, load_bench, load_router, run
from recal_bench.cli import cli
from recal_bench.experiments.origins import splits_of


def invoke(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a log and of runs on it, by router."""
    folder = tmp_path_factory.mktemp("drift")
    small_log(queries=500).to_parquet(folder / "log.parquet", index=False)
    bench = load_bench(folder / "log.parquet")
    runs = run(bench, ["ridge", "logistic", "best-single"], runs=folder / "runs")
    return folder, {each.record.configuration.router: each for each in runs}


@pytest.fixture(scope="module")
def today():
    """New queries of the same kind, all arms asked."""
    log = small_log(queries=500, seed=7)
    return log[log["split"] != "train"].drop(columns="split")


def followed(log, made, router="ridge"):
    """The rows of the arm that a router chooses, as a log of single choices."""
    first = log.drop_duplicates("query_id")
    advice = load_router(made[1][router]).route(list(first["prompt"]))
    chosen = {query: each.arm for query, each in zip(first["query_id"], advice, strict=True)}
    rows = [
        (model, strategy) == tuple(chosen[query])
        for query, model, strategy in zip(log["query_id"], log["model"], log["strategy"], strict=True)
    ]
    return log[rows]


def written(tmp_path, log):
    path = tmp_path / "traffic.jsonl"
    log.to_json(path, orient="records", lines=True)
    return path


def test_traffic_of_the_same_kind_shows_no_drift(made, today, tmp_path):
    path = written(tmp_path, followed(today, made))
    done = invoke("drift", path, "--run", made[1]["ridge"].folder, "--fail-on-drift")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "No drift found" in done.stdout
    for what in ("AUC", "foreign queries", "score less predicted", "USD per 1,000", "atlas|direct"):
        assert what in done.stdout


def test_one_task_alone_is_drift_and_fails_where_asked(made, today, tmp_path):
    path = written(tmp_path, followed(today[today["task"] == "law"], made))
    words = ("drift", path, "--run", made[1]["ridge"].folder)
    assert invoke(*words).exit_code == 0
    done = invoke(*words, "--json", "--fail-on-drift")
    assert done.exit_code == 3
    found = json.loads(done.stdout)
    assert found["drift"]
    assert {"queries", "arms"} <= set(found["changed"])
    assert found["queries"]["ci"][0] > 0.6
    assert "today's queries differ" in found["verdict"]
    assert found["arms"]["atlas|direct"]["today"] < 0.1 < found["arms"]["atlas|direct"]["before"]


def test_foreign_queries_are_counted_and_new_outcomes_asked_for(made, today, tmp_path):
    log = today.drop_duplicates("query_id")[["prompt"]].copy()
    strange = np.arange(len(log)) % 3 == 0
    log.loc[strange, "prompt"] = [f"guitar piano {n} concert violin opera" for n in range(strange.sum())]
    found = json.loads(invoke("drift", written(tmp_path, log), "--run", made[1]["ridge"].folder, "--json").stdout)
    assert "foreign" in found["changed"]
    low, high = found["foreign"]["today_ci"]
    assert low < found["foreign"]["today"] < high
    assert found["foreign"]["change_ci"][0] > 0.1
    assert "collect outcomes" in found["verdict"]
    assert found["score"] is None
    assert found["cost_usd"] is None


def test_worse_answers_and_dearer_ones_are_told_from_what_was_expected(made, today, tmp_path):
    log = followed(today, made).assign(score=0.0)
    log["cost_usd"] *= 3
    found = drift(written(tmp_path, log), made[1]["ridge"])
    assert set(found.changed) == {"score", "cost"}
    assert found.score.difference.high < -0.5
    assert found.cost.difference.low > 0


def test_unknown_scores_are_left_out_and_never_zero(made, today, tmp_path):
    log = followed(today, made)
    known = np.arange(len(log)) % 4 != 0
    every = drift(written(tmp_path, log[known]), made[1]["ridge"])
    some = drift(written(tmp_path, log.assign(score=log["score"].where(known))), made[1]["ridge"])
    assert some.score.today == pytest.approx(every.score.today)
    assert "score" not in some.changed


def test_a_router_that_predicts_nothing_is_held_against_means_on_train(made, today, tmp_path):
    done = invoke("drift", written(tmp_path, followed(today, made, "logistic")), "--run", made[1]["logistic"].folder)
    assert "score less train mean" in done.stdout
    assert "No drift found" in done.stdout


def test_scores_of_another_routers_log_are_not_compared(made, today, tmp_path):
    found = drift(written(tmp_path, followed(today, made)), made[1]["best-single"])
    assert found.score is None
    assert any("the log is of another one" in note for note in found.notes)
    assert any("reads no text" in note for note in found.notes)


def test_prompts_of_train_are_not_compared_and_counted(made, today, tmp_path):
    splits = splits_of(made[1]["ridge"])
    log = pd.concat([today, pd.DataFrame({"prompt": [f" {p.upper()}" for p in splits.train.prompt_Q[:30]]})])
    found = drift(written(tmp_path, log), made[1]["ridge"])
    assert (found.seen, found.today) == (30, today["query_id"].nunique())
    train = written(tmp_path, pd.DataFrame({"prompt": splits.train.prompt_Q}))
    done = invoke("drift", train, "--run", made[1]["ridge"].folder)
    assert done.exit_code == 2
    assert "holds 0 prompts that are not word for word in train: 20 are needed" in done.stderr


@dataclass
class AsksFirst:
    """Asks an arm before it decides."""

    deterministic: ClassVar[bool] = True

    def fit(self, train, validation, context): ...

    def save(self, folder): ...

    def load(self, folder): ...

    def route(self, queries, calls):
        for row in range(len(queries.prompt)):
            calls.ask(row, 0)
        return Decisions(np.zeros(len(queries.prompt), dtype=np.int64))


def test_of_a_router_that_asks_before_it_decides_the_queries_are_compared(made, today, tmp_path):
    runs = run(load_bench(made[0] / "log.parquet"), [AsksFirst()], runs=tmp_path / "runs")
    asks = next(each for each in runs if each.record.configuration.router == "asks-first")
    found = drift(written(tmp_path, today), asks)
    assert found.arms is None
    assert set(found.checks) == {"queries", "foreign"}
    assert any("needs more than a prompt to choose" in note for note in found.notes)


def test_the_outcomes_are_named_where_they_moved(made, today, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(made[0], folder)
    record = folder / "runs" / made[1]["ridge"].folder.name / "run.json"
    text = json.loads(record.read_text())
    text["command"] = "recal-bench run --router ridge --outcomes nowhere.parquet"
    record.write_text(json.dumps(text))
    path = written(tmp_path, today)
    with pytest.raises(RunError, match="cannot be read from here: name the outcomes file with --outcomes"):
        drift(path, record.parent)
    assert invoke("drift", path, "--run", record.parent, "--outcomes", folder / "log.parquet").exit_code == 0
    small_log(queries=90).to_parquet(folder / "other.parquet")
    done = invoke("drift", path, "--run", record.parent, "--outcomes", folder / "other.parquet")
    assert done.exit_code == 2
    assert "does not hold the outcomes that" in done.stderr


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "who?"}, "has no prompt (it has question): rename question"),
        ({"prompt": " "}, "prompt is empty or not text"),
        ({"prompt": "who?", "score": 7}, "score is 7, outside 0..1"),
        ({"prompt": "who?", "cost_usd": -1}, "cost_usd is -1, which is impossible"),
        ({"prompt": "who?", "arm": "atlas"}, "arm is atlas: write it as model|strategy"),
        ({"prompt": "who?"}, "holds 1 prompt that are not word for word in train: 20 are needed"),
    ],
)
def test_logs_that_cannot_be_used_are_refused_with_their_place(made, tmp_path, row, said):
    done = invoke("drift", written(tmp_path, pd.DataFrame([row])), "--run", made[1]["ridge"].folder)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_rows_may_name_the_arm_in_one_column_and_be_on_another_scale(made, today, tmp_path):
    log = followed(today, made)
    arms = log["model"] + "|" + log["strategy"]
    other = log.assign(arm=arms, score=1 + 4 * log["score"], cost=log["cost_usd"]).drop(
        columns=["model", "strategy", "cost_usd"]
    )
    first = drift(written(tmp_path, log), made[1]["ridge"])
    second = drift(written(tmp_path, other), made[1]["ridge"], score_range=(1, 5))
    assert second.score.today == pytest.approx(first.score.today)
    assert second.cost == first.cost
