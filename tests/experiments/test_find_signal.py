"""Whether routing can pay: from the command line and from Python, on the embedded pool and on small logs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from small_log import WORDS, small_log

from recal_bench import OutcomesError, find_signal, load_bench, load_outcomes
from recal_bench.cli import cli


def validate(*words: object) -> Result:
    return CliRunner().invoke(cli, ["validate", "--signal", *map(str, words)])


def written(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_parquet(path, index=False)
    return path


def log_of_words(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Two tasks, in both of which one of two words in the question says which model is right."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        task = ("geo", "law")[number % 2]
        clue = rng.integers(2)
        filler = " ".join(rng.choice(WORDS[task].split(), size=4))
        prompt = f"{('northern', 'southern')[clue]} {filler} {number}"
        right = {"atlas": (0.9, 0.2)[clue], "borealis": (0.2, 0.9)[clue], "plain": 0.5}
        rows += [
            {"task": task, "query_id": str(number), "prompt": prompt, "model": model, "score": float(rng.random() < p)}
            for model, p in right.items()
        ]
    return pd.DataFrame(rows)


def test_a_log_whose_texts_tell_the_arms_apart_is_told_so(tmp_path: Path) -> None:
    result = validate(written(log_of_words(), tmp_path / "log.parquet"))
    assert result.exit_code == 0, result.output
    assert "Texts tell arms apart within tasks: the best router could gain about +0." in result.output
    assert "3 arms apart in score" in result.output
    low, high = map(
        float, re.findall(r"the best arm of each task +\+[.\d]+ \[\+([.\d]+), \+([.\d]+)\]", result.output)[0]
    )
    # The best router is right 90% of the time, the best arm 55%; a normal distribution knows no two kinds of text.
    assert 0.1 < low < 0.25 < high < 0.4
    assert result.output.splitlines()[-1].endswith("log.parquet")


def test_a_log_in_which_only_the_task_tells_is_told_so(tmp_path: Path) -> None:
    result = validate(written(small_log(queries=400), tmp_path / "log.parquet"))
    assert result.exit_code == 0, result.output
    assert "apart in utility" in result.output
    assert "No sign that texts tell arms apart within tasks" in result.output
    shares = {
        name: float(value) for name, value in re.findall(r"^the (task|text within).*? ([-.\d]+)%", result.output, re.M)
    }
    assert shares["task"] > 50
    assert abs(shares["text within"]) < 5


def test_validate_alone_does_not_say_it(tmp_path: Path) -> None:
    path = written(log_of_words(60), tmp_path / "log.parquet")
    assert "Signal" not in CliRunner().invoke(cli, ["validate", str(path)]).output


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    frame = log_of_words()
    rare = frame.head(30).assign(task="rare")
    frame = pd.concat([frame.iloc[1:], rare])
    twin = frame["query_id"] == "101"
    frame.loc[twin, "prompt"] = frame.loc[frame["query_id"] == "103", "prompt"].iloc[0].upper()
    result = validate(written(frame.assign(split="train").pipe(with_test), tmp_path / "log.parquet"))
    assert result.exit_code == 0, result.output
    assert "lack an arm: left out here" in result.output
    assert "1 query with the prompt of another one of the task: left out here" in result.output
    assert re.search(r"1 task of fewer than 20 queries left out: rare", result.output)
    assert "--missing restrict" in result.output.splitlines()[-1]


def with_test(frame: pd.DataFrame) -> pd.DataFrame:
    test = frame[frame["task"] == "law"].tail(30).assign(split="test")
    return pd.concat([frame, test.assign(query_id="t" + test["query_id"], prompt="test " + test["prompt"])])


def test_nothing_of_test_is_looked_at(tmp_path: Path) -> None:
    frame = log_of_words().assign(split="train").pipe(with_test)
    plain = find_signal(load_bench(written(frame, tmp_path / "log.parquet")))
    frame.loc[frame["split"] == "test", "score"] = 1.0
    assert find_signal(load_bench(written(frame, tmp_path / "log.parquet"))).signal == plain.signal


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame[frame["model"] == "atlas"], "has one arm, atlas|default: routing needs two or more"),
        (lambda frame: frame.head(60), "no task has 20 train and validation queries on which all 3 arms have"),
        (
            lambda frame: frame[frame["model"] == "atlas"].assign(model=np.resize(["a", "b"], 400), propensity=0.5),
            "is a log of single choices, in which no query shows how arms differ: leave out --signal",
        ),
    ],
)
def test_where_nothing_can_be_told_the_error_says_why(change: Any, said: str, tmp_path: Path) -> None:
    result = validate(written(change(log_of_words()), tmp_path / "log.parquet"))
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    with pytest.raises(OutcomesError, match=re.escape(said)):
        find_signal(load_bench(tmp_path / "log.parquet"))


def test_repeated_draws_show_how_much_is_luck(tmp_path: Path) -> None:
    draws = [log_of_words(seed=0)]
    rng = np.random.default_rng(1)
    again = draws[0].copy()
    p = np.where(again["model"] == "plain", 0.5, np.where(again["prompt"].str.startswith("n"), 0.9, 0.2))
    p = np.where((again["model"] == "borealis"), 1.1 - p, p)
    draws += [again.assign(score=(rng.random(len(p)) < p).astype(float)) for _ in range(3)]
    frame = pd.concat([each.assign(sample=number) for number, each in enumerate(draws)])
    path = written(frame, tmp_path / "log.parquet")
    outcomes = load_outcomes(path)
    assert outcomes.noise_QA is not None
    scores = frame.groupby(["task", "query_id", "model"])["score"]
    np.testing.assert_allclose(np.sort(outcomes.noise_QA, axis=None), np.sort(scores.var() / 4), atol=1e-12)
    result = validate(path)
    luck, text = (
        float(re.findall(f"{words}.*? ([.\\d]+)%", result.output)[0])
        for words in ("luck of the draw", "the text within")
    )
    assert 85 < luck + text < 115


def test_an_outcome_drawn_once_has_no_known_noise(tmp_path: Path) -> None:
    frame = log_of_words(40)
    assert load_outcomes(written(frame, tmp_path / "log.parquet")).noise_QA is None
    frame = pd.concat([frame.assign(sample=0), frame.head(1).assign(sample=1)])
    noise_QA = load_outcomes(written(frame, tmp_path / "log.parquet")).noise_QA
    assert noise_QA is not None
    assert np.isnan(noise_QA).sum() == noise_QA.size - 1


def test_the_ceiling_of_the_embedded_pool_is_near_what_the_best_router_gains() -> None:
    bench = load_bench(world_seed=61)
    found = find_signal(bench)
    train = bench.splits.train
    assert train.expected_score_QA is not None
    assert train.expected_cost_QA is not None
    truth_QA = bench.objective.utility(train.expected_score_QA, train.expected_cost_QA)
    mean_TA = np.array([truth_QA[train.task_Q == task].mean(axis=0) for task in train.tasks])
    best = np.mean([truth_QA[train.task_Q == task].max(axis=1).mean() for task in train.tasks])
    assert found.signal.over_task.low < best - mean_TA.max(axis=1).mean() < found.signal.over_task.high
    assert found.signal.over_single.low < best - mean_TA.mean(axis=0).max() < found.signal.over_single.high
    assert found.what == "utility"
