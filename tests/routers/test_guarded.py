"""Guarded routers: by name, with their settings, their record, their saved form."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from small_log import small_log, write_small_log

from recal_bench import routers
from recal_bench.cli import cli
from recal_bench.errors import RecalBenchError
from recal_bench.evaluation.caution import CAUTION
from recal_bench.experiments.bench import Bench, load_bench, queries_of
from recal_bench.experiments.deployed import DeployedRouter
from recal_bench.experiments.records import read_run, read_runs
from recal_bench.experiments.replay import guard_of
from recal_bench.experiments.sweep import sweep
from recal_bench.experiments.variants import with_held_out
from recal_bench.routers import Context, create, decide

QUERIES = 400
NEVER = "guarded-knn:guard=inf"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_log(tmp_path_factory.mktemp("log") / "log.parquet", queries=QUERIES)


@pytest.fixture(scope="module")
def bench(log: Path) -> Bench:
    routers.discover()
    return load_bench(log)


def fitted(bench: Bench, name: str, folder: Path, **settings: object):
    router = create(name, settings)
    router.fit(bench.train, bench.validation, Context(0, "cpu", folder, lambda line: None))
    return router


def chosen(bench: Bench, router) -> np.ndarray:
    part = bench.splits.test
    return np.asarray(decide(router, queries_of(part), bench.calls(part, router)).arm_Q)


def run(*words: object):
    return CliRunner().invoke(cli, [*map(str, words)])


@pytest.mark.parametrize("name", ["knn", "ridge", "hierarchy", "svm"])
def test_without_caution_it_is_the_router_and_with_all_caution_the_best_single_arm(bench, tmp_path, name):
    own_Q = chosen(bench, fitted(bench, name, tmp_path))
    best_Q = chosen(bench, fitted(bench, "best-single", tmp_path))
    assert (own_Q != best_Q).any()
    assert np.array_equal(chosen(bench, fitted(bench, f"guarded-{name}", tmp_path, guard=0)), own_Q)
    assert np.array_equal(chosen(bench, fitted(bench, f"guarded-{name}", tmp_path, guard="inf")), best_Q)


def test_more_caution_keeps_the_fallback_on_more_queries(bench, tmp_path):
    shares = []
    for caution in (0, 10, 15, 20, 25, 30, "inf"):
        found = guard_of(bench, fitted(bench, "guarded-ridge", tmp_path, guard=caution))
        assert found.caution == caution
        assert not found.tuned
        shares.append(found.held_back["test"])
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert any(0 < share < shares[-1] for share in shares)
    assert guard_of(bench, fitted(bench, "ridge", tmp_path)) is None


def test_it_is_chosen_on_validation_and_never_on_test(log, bench, tmp_path):
    router = fitted(bench, "guarded-knn", tmp_path)
    assert router.caution in CAUTION
    frame = small_log(QUERIES)
    frame.loc[frame["split"] == "test", "score"] = 1 - frame.loc[frame["split"] == "test", "score"]
    frame.to_parquet(tmp_path / "other.parquet", index=False)
    other = load_bench(tmp_path / "other.parquet")
    assert fitted(other, "guarded-knn", tmp_path).caution == router.caution
    # A router whose predictions mean nothing on validation is held back for good.
    frame = small_log(QUERIES)
    for _, rows in frame[frame["split"] == "validation"].groupby("model"):
        frame.loc[rows.index, "score"] = np.random.default_rng(1).permutation(rows["score"].to_numpy())
    frame.loc[frame["split"] == "validation", "score"] *= frame["model"].eq("atlas") | frame["strategy"].eq("direct")
    frame.to_parquet(tmp_path / "noise.parquet", index=False)
    assert fitted(load_bench(tmp_path / "noise.parquet"), "guarded-knn", tmp_path).caution > router.caution


def test_a_run_records_and_shows_its_guard_and_route_loads_it(log, tmp_path):
    runs = tmp_path / "runs"
    done = run("run", "--router", "guarded-knn,guarded-ridge", "--set", NEVER, "--outcomes", log, "--runs", runs)
    assert done.exit_code == 0, done.output
    by_name = {each.record.configuration.router: each for each in read_runs(runs)}
    tuned, never = by_name["guarded-ridge"], by_name["guarded-knn"]
    assert tuned.record.guard.tuned
    assert never.record.guard.caution == "inf"
    assert never.record.configuration.settings["guard"] == "inf"
    assert never.record.guard.held_back["test"] > 0.1
    assert read_run(never.folder).record == never.record
    assert "--set guard=inf" in never.record.command
    shown = " ".join(run("show", never.folder).output.split())
    assert "no predicted gain is enough to leave the fallback arm; it held the router back on " in shown
    assert f"{100 * never.record.guard.held_back['test']:.1f}% of test" in shown
    shown = " ".join(run("show", tuned.folder).output.split())
    assert f"must exceed {tuned.record.guard.caution:g} standard errors (chosen on validation)" in shown
    deployed = DeployedRouter(tuned)
    prompts = list(load_bench(log).splits.test.prompt_Q)
    arms = tuned.decisions()["arm"].tolist()
    assert [str(each.arm) for each in deployed.route(prompts)] == arms
    assert len(set(arms)) > 1
    again = run("run", "--router", "guarded-knn,guarded-ridge", "--set", NEVER, "--outcomes", log, "--runs", runs)
    assert again.exit_code == 0
    assert read_run(tuned.folder).record.started == tuned.record.started


def test_a_damaged_guard_is_one_line(log, tmp_path):
    assert run("run", "--router", "guarded-knn", "--outcomes", log, "--runs", tmp_path).exit_code == 0
    folder = next(tmp_path.glob("guarded-knn-*"))
    (folder / "router" / "guard.npz").write_bytes(b"PK")
    found = run("route", "--run", folder, "a question")
    assert found.exit_code == 2
    assert "guard.npz holds no guard: run the router again with --fresh" in found.output
    assert "Traceback" not in found.output


def test_it_tunes_like_its_router_and_uses_what_was_tuned(log, tmp_path):
    out = tmp_path / "tuned.json"
    assert run("tune", "--router", "guarded-knn", "--trials", 2, "--outcomes", log, "--out", out).exit_code == 0
    (found,) = json.loads(out.read_text())
    assert found["router"] == "guarded-knn"
    assert set(found["trials"][1]["settings"]) == {"k", "weights", "encoder"}
    done = run("run", "--router", "guarded-knn", "--tuned", out, "--outcomes", log, "--runs", tmp_path / "runs")
    assert done.exit_code == 0, done.output


def test_seeds_of_a_router_that_trains_them_at_once(log, tmp_path):
    words = ("--set", "steps=3", "--seeds", 2, "--outcomes", log, "--runs", tmp_path)
    done = run("run", "--router", "guarded-recal", *words)
    assert done.exit_code == 0, done.output
    found = [each for each in read_runs(tmp_path) if each.record.configuration.router == "guarded-recal"]
    assert sorted(each.record.configuration.seed for each in found) == [0, 1]
    assert all(each.record.guard.tuned for each in found)
    arms = found[0].decisions()["arm"].tolist()
    assert [
        str(each.arm) for each in DeployedRouter(found[0]).route(list(load_bench(log).splits.test.prompt_Q))
    ] == arms


def test_a_sweep_ends_with_the_cheapest_arm(bench, tmp_path):
    (frontier,) = sweep(bench, fitted(bench, "guarded-ridge", tmp_path))
    assert frontier.points[-1].cost_usd_per_1k == min(arm.cost_usd_per_1k for arm in frontier.arms)
    own = next(point for point in frontier.points if point.alpha == bench.objective.alpha)
    part = bench.splits.test
    arm_Q = chosen(bench, fitted(bench, "guarded-ridge", tmp_path))
    task_means = [part.score_QA[np.arange(len(part)), arm_Q][part.task_Q == task].mean() for task in part.tasks]
    assert own.accuracy == pytest.approx(np.mean(task_means))


def test_new_arms_are_held_to_the_widest_error(bench, tmp_path):
    part = with_held_out(bench, ["atlas|direct"], 40)
    for caution, may_choose in ((0, True), (1, True), (50, False), ("inf", False)):
        router = fitted(part, "guarded-uniroute", tmp_path, guard=caution)
        router.adapt(part.labelled.outcomes.arms, part.labelled)
        assert (chosen(part, router) == 2).any() == may_choose


def test_an_arm_without_an_outcome_is_not_fallen_back_on(tmp_path):
    frame = small_log(QUERIES)
    gap = (frame["query_id"].str[-1] == "8") & (frame["model"] == "atlas")
    frame[~gap].to_parquet(tmp_path / "gaps.parquet", index=False)
    bench = load_bench(tmp_path / "gaps.parquet", missing="restrict")
    best_Q = chosen(bench, fitted(bench, "best-single", tmp_path))
    assert np.array_equal(chosen(bench, fitted(bench, "guarded-knn", tmp_path, guard="inf")), best_Q)
    assert len(chosen(bench, fitted(bench, "guarded-knn", tmp_path))) == len(best_Q)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("guarded-linucb",), "router linucb cannot be guarded: it learns from the outcome of one arm a query"),
        (("guarded-best-single",), "router best-single cannot be guarded: it has neither predict() nor utilities()"),
        (("guarded-kn",), "no router is called guarded-kn"),
        (("guarded-guarded-knn",), "no router is called guarded-guarded-knn"),
        (("guarded-knn", "--set", "guard=-1"), "setting guard=-1: Value error, give auto, or a number of standard"),
        (("guarded-knn", "--set", "guard=nan"), "setting guard=nan: Value error, give auto, or a number of standard"),
        (("guarded-recal", "--set", "policy.alpha=conditioned"), "a guard is fitted at one price of cost"),
        (("knn", "--set", "guard=1"), "no named router has a setting guard"),
    ],
)
def test_what_cannot_be_guarded_is_refused_in_one_line(log, tmp_path, words, message):
    found = run("run", "--router", *words, "--outcomes", log, "--runs", tmp_path)
    assert found.exit_code != 0
    assert message in " ".join(found.output.split())
    assert "Traceback" not in found.output


def test_validation_with_one_arm_a_query_is_refused(bench, tmp_path):
    score_QA = bench.splits.validation.score_QA.copy()
    score_QA[:, 1:] = np.nan
    validation = bench.validation._replace(
        outcomes=bench.validation.outcomes.__class__(**{**vars(bench.validation.outcomes), "score_QA": score_QA})
    )
    with pytest.raises(RecalBenchError, match="validation queries with the outcomes of two arms"):
        create("guarded-knn").fit(bench.train, validation, Context(0, "cpu", tmp_path, lambda line: None))


def test_an_instance_has_the_name_of_its_router():
    assert routers.name_of(create("guarded-ridge-tasks", {"guard": 1})) == "guarded-ridge-tasks"
    assert routers.is_known("guarded-recal")
    assert not routers.is_known("guarded-nothing")
