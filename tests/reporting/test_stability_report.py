"""The stability report: rows, intervals, files, curves, and the command."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from synthetic_runs import World, write_run, write_standard_runs

from recal_bench.cli import cli
from recal_bench.errors import RecalBenchError
from recal_bench.experiments.records import read_run, read_runs
from recal_bench.reporting.figures.compare import compare, tables
from recal_bench.reporting.figures.stability import stability
from recal_bench.reporting.figures.training_logs import curves_of
from recal_bench.reporting.pictures.training import training_curves
from recal_bench.reporting.stability import write_stability
from recal_bench.reporting.text.stability import render_reports
from recal_bench.reporting.text.tables import render

BEST_SINGLE = 0.4


def log_lines(end: float, rng: np.random.Generator, cost: bool = True, steps: int = 100) -> list[dict]:
    """A log as the training loop writes it: validation utility goes from .5 up to .7 at half time, then to `end`."""
    lines = []
    for step in range(steps + 1):
        line: dict = {"step": step}
        if step:
            line |= {
                "entropy": 2.0 - step / steps,
                "gradient_norm": 20.0 if step == 90 else 1.0 + 0.1 * rng.random(),
                "groups_without_spread": 0.25,
                "top_arm_share": 0.5,
                "learning_rate": 0.01,
            }
        if step % 25 == 0:
            share = step / steps
            utility = 0.5 + 0.4 * share if share <= 0.5 else 0.7 + (end - 0.7) * (2 * share - 1)
            line |= {
                "validation_utility": utility + 0.005 * rng.standard_normal(),
                "validation_score": utility + 0.1,
                "validation_best_single": BEST_SINGLE,
            }
            line |= {"validation_cost_usd_per_1k": 0.5} if cost else {}
        lines.append(line)
    return lines


def write_trained(folder, world, router, ends, settings=None):
    """A run for each seed, whose validation utility ends at the given heights; better seeds choose better arms."""
    count = len(world.keys)
    utility_QA = world.objective.utility(world.score_QA, world.cost_QA)
    for seed, end in enumerate(ends):
        rng = np.random.default_rng(seed)
        arm_Q = np.where(rng.random(count) < end, utility_QA.argmax(axis=1), 1)
        run = write_run(folder, world, router, arm_Q, seed=seed, settings=settings)
        lines = log_lines(end, rng, world.cost)
        (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        record = run.record.model_copy(update={"steps": len(lines) - 1})
        (run.folder / "run.json").write_text(record.model_dump_json())


@pytest.fixture
def folder(tmp_path):
    runs = tmp_path / "runs"
    world = World(simulated=True)
    count = len(world.keys)
    write_run(runs, world, "best-single", np.ones(count, dtype=int), deterministic=True)
    write_run(runs, world, "oracle", np.zeros(count, dtype=int), reference=True)
    write_trained(runs, world, "grpo", [0.45, 0.5, 0.69, 0.4])
    write_trained(runs, world, "recal", [0.71, 0.72, 0.7, 0.72])
    return runs


def test_a_row_holds_what_its_logs_show(folder):
    (report,) = stability(read_runs(folder))
    assert [row.router for row in report.rows] == ["recal", "grpo"]
    recal, grpo = report.rows
    assert report.baseline == "grpo"
    assert report.target == pytest.approx(0.51, abs=0.02)
    assert (grpo.collapsed, grpo.collapse_rate, grpo.never_gained) == (3, 0.75, 0)
    assert recal.collapsed == 0
    assert grpo.max_drawdown == pytest.approx(0.19, abs=0.03)
    assert recal.final_utility == pytest.approx(0.7125, abs=0.01)
    assert recal.gradient_spikes == 1
    assert recal.gradient_spike_share == 0.01
    assert recal.gradient_tail == pytest.approx(1.1, abs=0.2)
    assert recal.entropy_ratio == pytest.approx(0.54, abs=0.02)
    assert recal.groups_without_spread == 0.25
    assert recal.top_arm_share == 0.5
    assert recal.seeds_at_target == 4
    low, high = recal.seed_sd_ci
    assert low < recal.seed_sd < high
    versus = recal.vs_baseline
    assert grpo.vs_baseline is None
    assert versus.collapse_difference == -0.75
    assert versus.collapse_difference_ci[1] < 0 < versus.area_difference
    assert versus.sd_ratio_ci[0] < versus.sd_ratio < versus.sd_ratio_ci[1]
    assert report.notes == ("left out, since they keep no training log: best-single",)


def test_the_seed_sd_is_that_of_the_test_utilities(folder):
    (report,) = stability(read_runs(folder))
    runs = [run for run in read_runs(folder) if run.record.configuration.router == "recal"]
    by_seed = [run.decisions().groupby("task")["utility"].mean().mean() for run in runs]
    assert report.rows[0].seed_sd == pytest.approx(np.std(by_seed, ddof=1))
    assert report.rows[0].test_mean == pytest.approx(np.mean(by_seed))


def test_the_order_of_runs_is_nothing(folder):
    runs = read_runs(folder)
    one, two = stability(runs), stability(runs[::-1])
    assert one[0].rows == two[0].rows


def test_a_target_may_be_given(folder):
    recal, grpo = stability(read_runs(folder), utility=0.65)[0].rows
    assert recal.target_utility == 0.65
    assert recal.steps_to_target == pytest.approx(37.5, abs=3)
    assert grpo.steps_to_target == pytest.approx(37.5, abs=3)
    recal, grpo = stability(read_runs(folder), utility=0.9)[0].rows
    assert (recal.steps_to_target, recal.seeds_at_target) == (None, 0)
    assert "never" in render_reports(stability(read_runs(folder), utility=0.9), "table")


def test_without_grpo_nothing_is_held_against_it(folder):
    runs = [run for run in read_runs(folder) if run.record.configuration.router != "grpo"]
    (report,) = stability(runs)
    assert report.baseline is None
    assert report.target is None
    assert report.rows[0].vs_baseline is None
    assert "Against" not in render_reports([report], "table")
    with pytest.raises(RecalBenchError, match=r"baseline grpo has no training log .*: choose one of recal"):
        stability(runs, baseline="grpo")
    assert stability(runs, baseline="recal")[0].target == pytest.approx(0.7125, abs=0.01)


def test_several_rows_of_grpo_leave_the_choice_to_the_user(folder):
    write_trained(folder, World(simulated=True), "grpo", [0.6, 0.5], settings={"steps": 7})
    (report,) = stability(read_runs(folder))
    assert report.baseline is None
    assert any("no baseline: grpo names 2 rows" in note for note in report.notes)
    named = next(row for row in report.rows if row.router == "grpo" and row.n_seeds == 2)
    assert stability(read_runs(folder), baseline=f"grpo@{named.settings_hash}")[0].baseline.startswith("grpo@")


def test_a_damaged_log_is_left_out_and_named(folder):
    run = next(run for run in read_runs(folder) if run.record.configuration.router == "recal")
    log = run.folder / "metrics.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    (report,) = stability(read_runs(folder))
    assert report.rows[0].n_seeds == 3
    assert any(run.folder.name in note for note in report.notes)


def test_compare_tells_the_seeds_that_collapsed(folder):
    rows = {row.router: row for row in compare(read_runs(folder))}
    assert {router: row.collapse_rate for router, row in rows.items()} == {
        "recal": 0, "grpo": 0.75, "best-single": None, "oracle": None,
    }  # fmt: skip
    assert "75%" in render(tables(read_runs(folder))[0], "markdown")


@pytest.mark.parametrize("damage", ["short", "torn", "gone"])
def test_a_damaged_log_leaves_compare_without_collapses(folder, damage):
    run = next(run for run in read_runs(folder) if run.record.configuration.router == "recal")
    log = run.folder / "metrics.jsonl"
    text = log.read_text()
    if damage == "gone":
        log.unlink()
    else:
        log.write_text("".join(text.splitlines(keepends=True)[:-1]) if damage == "short" else text[:-20])
    rows = {row.router: row for row in compare(read_runs(folder))}
    assert rows["recal"].collapse_rate is None
    assert rows["grpo"].collapse_rate == 0.75


def test_old_logs_are_reported_as_far_as_they_go(tmp_path):
    write_standard_runs(tmp_path, World(cost=False))
    (report,) = stability(read_runs(tmp_path))
    (row,) = report.rows
    assert row.final_utility is not None
    assert row.collapse_rate is row.entropy_ratio is row.gradient_tail is None
    assert any("validation_best_single" in note for note in report.notes)
    assert "collapsed" not in render_reports([report], "table")


def test_unknown_costs_leave_accuracy(tmp_path):
    world = World(unknown_costs=5)
    write_trained(tmp_path, world, "recal", [0.6, 0.7])
    (report,) = stability(read_runs(tmp_path))
    assert report.rows[0].seed_sd is not None
    assert any("accuracy" in note for note in report.notes)


def test_one_seed_has_no_spread(tmp_path):
    for router in ("grpo", "recal"):
        write_trained(tmp_path, World(), router, [0.6])
    (report,) = stability(read_runs(tmp_path))
    recal = next(row for row in report.rows if row.router == "recal")
    assert recal.seed_sd is recal.seed_sd_ci is recal.vs_baseline.sd_ratio is None
    assert recal.vs_baseline.area_difference is not None
    assert recal.vs_baseline.area_difference_ci is None


def test_nothing_trained_is_an_error(tmp_path):
    write_run(tmp_path, World(), "best-single", np.ones(120, dtype=int), deterministic=True)
    with pytest.raises(RecalBenchError, match="no run here keeps a complete training log"):
        stability(read_runs(tmp_path))


def test_every_format_says_the_same(folder):
    reports = stability(read_runs(folder))
    text = render_reports(reports, "table")
    assert max(map(len, text.splitlines())) <= 120
    assert "3/4" in text
    assert "simulated" in text
    assert "| router" in render_reports(reports, "markdown")
    parsed = json.loads(render_reports(reports, "json"))
    rows = list(csv.DictReader(render_reports(reports, "csv").splitlines()))
    assert len(rows) == len(parsed) == 2
    assert float(rows[0]["seed_sd_ci.low"]) == parsed[0]["seed_sd_ci"][0]
    assert float(rows[0]["vs_baseline.sd_ratio_ci.high"]) == parsed[0]["vs_baseline"]["sd_ratio_ci"][1]
    assert rows[1]["vs_baseline.sd_ratio"] == ""


def test_the_folder_is_the_same_every_time(folder, tmp_path):
    written = []
    for name in ("one", "two"):
        paths, drawn = write_stability(stability(read_runs(folder)), tmp_path / name, "recal-bench stability runs")
        written.append({path.name: path.read_bytes() for path in paths})
        assert {index: [path.name for path in paths] for index, paths in drawn.items()} == {0: ["toy-training.svg"]}
    assert sorted(written[0]) == ["stability.json", "stability.md", "toy-training.png", "toy-training.svg"]
    assert written[0] == written[1]
    text = written[0]["stability.md"].decode()
    assert "recal-bench stability runs" in text
    assert "(toy-training.svg)" in text
    assert json.loads(written[0]["stability.json"])["reports"][0]["data"]["hash"] == "0123456789ab"


def test_every_set_of_outcomes_has_a_report(folder):
    write_trained(folder, World(simulated=True, alpha=0.5), "recal", [0.6, 0.7])
    reports = stability(read_runs(folder))
    assert [(report.data.alpha, len(report.rows)) for report in reports] == [(0.2, 2), (0.5, 1)]


def test_panels_are_those_that_are_logged(folder, tmp_path):
    run = next(run for run in read_runs(folder) if run.record.configuration.router == "recal")
    logged = curves_of(run)
    assert training_curves([("recal", [{"kl": logged["entropy"]}])], "none", tmp_path / "x") == []
    paths = training_curves([("recal", [logged]), ("grpo", [{"entropy": logged["entropy"]}])], "two", tmp_path / "y")
    assert [path.name for path in paths] == ["y.svg", "y.png"]


def test_a_curve_holds_the_steps_that_were_logged(folder):
    run = next(run for run in read_runs(folder) if run.record.configuration.router == "recal")
    log = '{"step": 9, "loss": 1}\n{"step": 5, "loss": 0.5}\n{"step": 7, "loss": null}\n{"step": 8, "loss": NaN}\n'
    (run.folder / "metrics.jsonl").write_text(log + '{"step": 10, "lo')
    found = curves_of(read_run(run.folder))["loss"]
    assert list(found.step_N) == [5, 9]
    assert list(found.value_N) == [0.5, 1]


def test_the_command_prints_and_writes(folder, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(cli, ["stability", str(folder), "--utility", "0.6", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "steps to 0.600" in result.output
    assert f"--utility 0.6 --out {out}" in (out / "stability.md").read_text()
    parsed = json.loads(CliRunner().invoke(cli, ["stability", str(folder), "--format", "json"]).output)
    assert {row["router"] for row in parsed} == {"grpo", "recal"}
    wrong = CliRunner().invoke(cli, ["stability", str(folder), "--baseline", "knn"])
    assert wrong.exit_code == 2
    assert "choose one of grpo, recal" in wrong.output


def test_a_training_that_adds_nothing_to_its_prior_is_named(folder):
    for run in read_runs(folder):
        router = run.record.configuration.router
        if router in ("recal", "grpo"):
            kept = {"kept_step": 0, "kept_gain": 0.0, "kept_gain_error": 0.0}
            if router == "recal":
                kept = {"kept_step": 75, "kept_gain": 0.05, "kept_gain_error": 0.01}
            lines = [json.dumps(line | kept) for line in run.metrics()]
            (run.folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (report,) = stability(read_runs(folder))
    recal, grpo = report.rows
    assert (recal.kept_step, recal.adds_nothing) == (75, 0)
    assert recal.gain_over_prior == pytest.approx(0.05)
    assert (grpo.kept_step, grpo.gain_over_prior, grpo.adds_nothing) == (0, 0, 4)
    (note,) = [note for note in report.notes if "adds nothing to its prior" in note]
    assert "grpo (4 of 4 seeds" in note
    assert "recal" not in note
