"""Failure modes, on trainings that were made to fail that way; a healthy one shows none."""

import re
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from small_log import small_log, write_small_log

from recal_bench import routers
from recal_bench.cli import cli
from recal_bench.evaluation.diagnosis import MODES, Finding, diagnose
from recal_bench.evaluation.stability import Curve
from recal_bench.experiments.bench import load_bench
from recal_bench.experiments.records import read_runs
from recal_bench.reporting.figures.training_logs import curves
from recal_bench.routers import Context

BASE = {"steps": 100, "batch_size": 64, "group_size": 8, "prior.k": 20, "learning_rate": 0.005}


def arms_log(right: dict, usd: tuple, scale: dict, queries: int) -> pd.DataFrame:
    """Three arms whose chances to be right depend on the task alone; `scale` multiplies a task's scores."""
    frame = small_log(queries, cost=bool(usd))
    rng = np.random.default_rng(1)
    arm = np.tile(np.arange(3), queries)
    chance = np.stack([right[task] for task in frame["task"]])[np.arange(len(frame)), arm]
    frame["score"] = (rng.random(len(frame)) < chance) * frame["task"].map(scale)
    if usd:
        frame["cost_usd"] = np.array(usd)[arm] * rng.uniform(0.5, 1.5, len(frame))
    return frame


def topics() -> pd.DataFrame:
    return small_log(300)


def no_arm_differs() -> pd.DataFrame:
    return small_log(300, cost=False).assign(score=0.5)


def no_arm_is_right() -> pd.DataFrame:
    return small_log(300).assign(score=0.0)


def loud_task() -> pd.DataFrame:
    """On `law` all arms are right at random; on `geo` one is better, at a twentieth of the score."""
    right = {"geo": (0.9, 0.1, 0.2), "law": (0.5, 0.5, 0.5)}
    return arms_log(right, (), {"geo": 0.05, "law": 1.0}, queries=900)


def tempting_arm(queries: int = 1500) -> pd.DataFrame:
    """The cheapest arm is hardly ever right; the others mostly fail too, so that most groups differ in cost alone."""
    right = (0.3, 0.25, 0.03)
    return arms_log({"geo": right, "law": right}, (1e-3, 6e-4, 2e-5), {"geo": 1.0, "law": 1.0}, queries)


def few_queries() -> pd.DataFrame:
    return tempting_arm(300)


@cache
def trained(make, router: str = "recal", **settings) -> dict[str, Curve]:
    """The log of a training, through the face that users get."""
    routers.discover(())
    settings = BASE | {name.replace("__", "."): value for name, value in settings.items()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make().to_parquet(folder / "log.parquet", index=False)
        bench, lines = load_bench(folder / "log.parquet"), []
        routers.create(router, settings).fit(bench.train, bench.validation, Context(0, "cpu", folder, lines.append))
    return curves(lines)


def found(make, router: str = "recal", **settings) -> dict[str, Finding]:
    return {finding.name: finding for finding in diagnose(trained(make, router, **settings)).findings}


FAILED = [
    ("no signal", no_arm_differs, "recal", {}),
    ("starved component", no_arm_is_right, "recal", {"cost_gate": True}),
    ("format stuck", topics, "recal", {"policy__malformed": 0.9, "learning_rate": 1e-5}),
    ("one task dominates", loud_task, "dr-grpo", {"prior__kind": "none"}),
    ("cost hacking", tempting_arm, "grpo", {"prior__kind": "none"}),
    ("overfitting", few_queries, "recal", {"prior__kind": "none"}),
    ("reward flooding", tempting_arm, "grpo", {"prior__kind": "none"}),
    ("training adds nothing to its prior", tempting_arm, "recal", {}),
    ("unstable steps", topics, "recal", {"learning_rate": 0.5}),
    ("entropy collapse", topics, "recal", {"learning_rate": 0.5}),
    ("collapse to one arm", topics, "recal", {"learning_rate": 0.5}),
    ("collapse of the score", topics, "recal", {"learning_rate": 0.5}),
]


def test_every_mode_is_put_to_the_test():
    assert [name for name, *_ in FAILED] == list(MODES)


@pytest.mark.parametrize(("mode", "make", "router", "settings"), FAILED, ids=[name for name, *_ in FAILED])
def test_a_training_made_to_fail_is_found_out(mode, make, router, settings):
    finding = found(make, router, **settings)[mode]
    assert re.search(r"\d", finding.evidence)
    assert "\n" not in finding.evidence + finding.change
    # What it says to set can be set.
    advised = dict(re.findall(r"--set ([\w.]+)=([\w.-]+)", finding.change))
    routers.create("recal", advised)


@pytest.mark.parametrize("router", ["recal", "grpo", "dr-grpo"])
@pytest.mark.parametrize("prior", ["hierarchy", "none"])
def test_a_healthy_training_shows_nothing(router, prior):
    diagnosis = diagnose(trained(topics, router, prior__kind=prior))
    assert diagnosis.findings == ()
    assert diagnosis.not_judged == ()


def test_what_a_finding_says_to_change_helps():
    """Taken twice where once is not enough."""
    assert "cost hacking" not in found(tempting_arm, "grpo", prior__kind="none", estimator="dr-grpo")
    assert "one task dominates" not in found(loud_task, "dr-grpo", prior__kind="none", estimator="recal")
    assert "format stuck" not in found(topics, policy__malformed=0.1, learning_rate=1e-5 * 10 * 10, steps=200)
    assert found(topics, learning_rate=0.5 * 0.2 * 0.2) == {}


def test_both_gates_that_never_open_are_named():
    finding = found(no_arm_is_right, cost_gate=True)["starved component"]
    assert "outcome varies in 0.0%" in finding.evidence
    assert "cost varies in 0.0%" in finding.evidence
    assert "--set cost_gate=false" in finding.change
    assert "cost" not in found(no_arm_is_right)["starved component"].evidence


def test_a_log_without_cost_or_of_an_older_version_is_judged_as_far_as_it_goes():
    columns = trained(topics)
    old = {name: columns[name] for name in ("entropy", "gradient_norm", "learning_rate", "validation_utility")}
    diagnosis = diagnose(old)
    assert diagnosis.findings == ()
    assert set(MODES) - set(diagnosis.not_judged) == {"unstable steps", "entropy collapse"}


@pytest.mark.parametrize(("mode", "make", "router", "settings"), FAILED, ids=[name for name, *_ in FAILED])
def test_what_is_on_already_is_not_advised(mode, make, router, settings):
    chosen = BASE | {name.replace("__", "."): value for name, value in settings.items()}
    everything = routers.settings_of(routers.create(router, chosen))
    columns = trained(make, router, **settings)
    advised = [pair for each in diagnose(columns, everything).findings for pair in _advised(each.change)]
    assert all(str(everything[key]).lower() != value for key, value in advised)
    # Whoever did as told is not told so again.
    for key, value in [pair for each in diagnose(columns).findings for pair in _advised(each.change)]:
        if key != "learning_rate":
            done = everything | {key: type(everything[key])(value) if key not in BOOLEAN else value == "true"}
            again = [pair for each in diagnose(columns, done).findings for pair in _advised(each.change)]
            assert (key, value) not in again


BOOLEAN = ("cost_gate", "calibration.dataset_norm")


def _advised(change: str) -> list[tuple[str, str]]:
    return re.findall(r"--set ([\w.]+)=([\w.-]+?)(?=[\s;),]|$)", change)


def test_a_setting_beyond_the_advised_one_counts_as_on():
    log = trained(topics, learning_rate=0.5)
    strong = routers.settings_of(routers.create("recal", {"entropy": 0.05, "kl": 0.1, "batch_size": 1024}))
    changes = " ".join(finding.change for finding in diagnose(log, strong).findings)
    assert "learning_rate" in changes
    assert not any(f"--set {name}=" in changes for name in ("entropy", "kl", "batch_size", "prior.kind"))


def test_where_everything_is_on_that_is_said():
    finding = {each.name: each for each in diagnose(trained(no_arm_is_right, cost_gate=True), {}).findings}
    assert (
        "is on already"
        in diagnose({"malformed_share": constant(0.5), "learning_rate": constant(0.1)}, {}).findings[0].change
    )
    assert "--set" not in finding["starved component"].change.replace("(--set", "")


def nothing_gained(step: float, gain: float, error: float) -> list[str]:
    columns = {"validation_utility": constant(0.6), "validation_best_single": constant(0.1)}
    columns |= {"kept_step": constant(step), "kept_gain": constant(gain), "kept_gain_error": constant(error)}
    return [finding.name for finding in diagnose(columns | {"learning_rate": constant(0.01)}).findings]


def test_a_training_is_judged_against_its_prior_and_not_against_the_best_arm():
    name = "training adds nothing to its prior"
    assert name in nothing_gained(0, 0, 0)
    assert name in nothing_gained(75, 0.004, 0.01)
    assert name in nothing_gained(75, -0.02, 0.01)
    assert name not in nothing_gained(75, 0.03, 0.01)


def constant(value: float) -> Curve:
    return Curve(np.arange(100.0), np.full(100, value))


def test_gradients_that_spike_and_do_no_harm_are_no_finding():
    gradient_N = np.ones(100)
    gradient_N[[40, 60, 80]] = 20
    columns = {"gradient_norm": Curve(np.arange(100.0), gradient_N), "learning_rate": constant(0.01)}
    steady = columns | {"validation_utility": Curve(np.array([0.0, 50, 99]), np.array([0.4, 0.5, 0.49]))}
    shaken = columns | {"validation_utility": Curve(np.array([0.0, 50, 99]), np.array([0.4, 0.5, 0.47]))}
    assert diagnose(steady).findings == ()
    assert [finding.name for finding in diagnose(shaken).findings] == ["unstable steps"]
    assert "3 of 100" in diagnose(shaken).findings[0].evidence


def test_the_best_arm_may_be_the_cheapest_and_the_only_one():
    columns = {
        "validation_utility": constant(0.6),
        "validation_best_single": constant(0.6),
        "validation_cheapest_share": constant(1.0),
    }
    assert diagnose(columns).findings == ()


def test_a_run_is_diagnosed_from_its_folder(tmp_path):
    log = write_small_log(tmp_path / "log.parquet", queries=200)
    runs = tmp_path / "runs"
    small = [word for key, value in BASE.items() for word in ("--set", f"{key}={value}")]
    words = ["run", "--outcomes", str(log), "--runs", str(runs), "--router", "recal", "--router", "grpo", *small]
    assert CliRunner().invoke(cli, [*words, "--set", "grpo:learning_rate=1"]).exit_code == 0
    folders = {run.record.configuration.router: run.folder for run in read_runs(runs)}

    def say(name):
        result = CliRunner().invoke(cli, ["diagnose", str(folders[name])])
        return result.exit_code, result.output

    code, text = say("recal")
    assert code == 0
    assert "No failure mode shows: the training looks healthy" in text
    code, text = say("grpo")
    assert code == 0
    assert "1. " in text
    assert "unstable steps" in text
    assert "shows: " in text
    assert "--set learning_rate=0.2" in text
    assert max(map(len, text.splitlines())) <= 120
    code, text = say("knn")
    assert code == 2
    assert text.strip().count("\n") == 0
    assert "keeps no training log" in text
    log_file = folders["grpo"] / "metrics.jsonl"
    log_file.write_text("".join(log_file.read_text().splitlines(keepends=True)[:50]))
    assert "damaged" in say("grpo")[1]
