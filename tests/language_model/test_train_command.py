"""`train`: a language model as the router, from the command line to a run that is used like any other."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from small_log import small_log, write_small_log

from recal_bench import load_router, read_runs
from recal_bench.cli import cli

pytest.importorskip("trl", minversion="1.16", reason="TRL is not installed: pip install 'recal-bench[lm]'")
# TRL, transformers and torch warn of each other's deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")

QUICK = {
    "examples": 2400, "steps": 4, "batch_size": 8, "group_size": 4, "evaluate_every": 2, "teacher": "ridge",
    "warm_learning_rate": 5e-3,
}  # fmt: skip


def train(*words: object) -> Result:
    return CliRunner().invoke(cli, ["train", *map(str, words)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log, a configuration, and the run of both."""
    folder: Path = tmp_path_factory.mktemp("train")
    write_small_log(folder / "log.parquet", queries=400)
    (folder / "lm.yaml").write_text(
        "".join(f"{name}: {value}\n" for name, value in QUICK.items()) + "trl: {top_p: 1.0}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECAL_BENCH_CACHE", str(folder / "cache"))
        words = ("--policy", "tiny", "--config", folder / "lm.yaml", "--outcomes", folder / "log.parquet")
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            done = train(*words, "--runs", folder / "runs")
    assert done.exit_code == 0, done.output
    # Nor is anyone told what libraries warn each other of.
    assert [str(each.message) for each in heard] == []
    assert "recal-lm" in done.output
    return folder


def test_the_run_knows_its_settings_and_how_to_make_it_again(folder: Path) -> None:
    run = next(each for each in read_runs(folder / "runs") if each.record.configuration.router == "recal-lm")
    settings = run.record.configuration.settings
    assert {name: settings[name] for name in QUICK} == QUICK
    assert json.loads(settings["trl"]) == {"top_p": 1.0}
    assert "--router recal-lm" in run.record.command
    assert "steps=4" in run.record.command


def test_the_start_learns_the_form_and_more_than_the_best_arm(folder: Path) -> None:
    """An arm for each of two kinds of questions, which their words tell: distilled in a few hundred updates."""
    run = next(each for each in read_runs(folder / "runs") if each.record.configuration.router == "recal-lm")
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert lines[0]["validation_malformed_share"] == 0.0
    assert lines[0]["validation_utility"] > lines[0]["validation_best_single"] + 0.1
    assert {"entropy", "reward", "component_mean/format", "groups_without_spread", "malformed_share"} <= set(lines[1])
    decided = run.decisions()
    assert decided.groupby("task")["arm"].agg(lambda arms: arms.mode()[0]).nunique() == 2


def test_it_routes_from_its_record(folder: Path) -> None:
    run = next(each for each in read_runs(folder / "runs") if each.record.configuration.router == "recal-lm")
    log = small_log(queries=400)
    asked = log.loc[log["split"] == "test"].drop_duplicates("query_id")
    advice = load_router(run).route(tuple(asked["prompt"]), tuple(asked["query_id"]))
    decided = run.decisions().set_index("query_id")["arm"]
    assert [str(each.arm) for each in advice] == list(decided[asked["query_id"]])


def test_diagnose_and_stability_read_its_log(folder: Path) -> None:
    run = next(each for each in read_runs(folder / "runs") if each.record.configuration.router == "recal-lm")
    for words in (["diagnose", str(run.folder)], ["stability", str(folder / "runs"), "--baseline", "recal-lm"]):
        told = CliRunner().invoke(cli, words)
        assert told.exit_code == 0, told.output
        assert "recal-lm" in told.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--policy", "some/model"), "policy=some/model needs token_price, USD per 1M tokens"),
        (("--policy", "tiny", "--set", "token_price=-1"), "token_price=-1.0: give USD per 1M tokens, 0 or more"),
        (("--policy", "tiny", "--set", "stepz=3"), "stepz"),
        (("--policy", "tiny", "--set", "estimator=grop"), "no estimator is called grop (did you mean grpo?)"),
        (("--policy", "tiny", "--set", "trl=[1]"), 'give arguments of GRPOConfig as JSON, as in {"use_vllm": true}'),
        (("--policy", "tiny", "--set", "teacher=best-single"), "teacher=best-single predicts no scores and costs"),
        (("--policy", "tiny", "--set", 'trl={"nonsense": 1}'), "TRL refuses its settings"),
        (
            ("--policy", "tiny", "--set", "estimator=expected"),
            "needs the probability of every arm, and replies are drawn: decode=arms",
        ),
    ],
)
def test_what_cannot_be_is_told_in_one_line(words: tuple[str, ...], message: str, folder: Path) -> None:
    shared = ["--outcomes", str(folder / "log.parquet"), "--runs", str(folder / "refused")]
    quick = [part for name in ("examples", "batch_size", "group_size") for part in ("--set", f"{name}=4")]
    told = train(*words, *quick, "--set", "teacher=ridge" if "teacher" not in str(words) else "examples=4", *shared)
    assert told.exit_code != 0
    assert message in told.output
    assert "Traceback" not in told.output


def test_a_configuration_that_is_not_one_is_named(tmp_path: Path) -> None:
    for content, message in (("- 1", "holds no settings"), ("a: [", "cannot be read"), ("stepz: 3", "stepz")):
        (tmp_path / "lm.yaml").write_text(content)
        told = train("--policy", "tiny", "--config", tmp_path / "lm.yaml")
        assert told.exit_code != 0
        assert message in told.output


def test_tokens_are_billed_at_the_stated_price(folder: Path) -> None:
    """The record of a policy with a price: every query costs what it read and wrote."""
    words = ["--policy", "tiny", "--config", folder / "lm.yaml", "--outcomes", folder / "log.parquet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECAL_BENCH_CACHE", str(folder / "cache"))
        done = train(*words, "--set", "token_price=0.5", "--set", "steps=0", "--runs", folder / "priced")
    assert done.exit_code == 0, done.output
    run = next(each for each in read_runs(folder / "priced") if each.record.configuration.router == "recal-lm")
    tokens = pd.Series(run.decisions()["router_cost_usd"] / 0.5e-6).round(6)
    assert (tokens == tokens.round()).all()
    assert tokens.between(10, 60).all()
